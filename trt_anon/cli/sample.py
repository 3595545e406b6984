"""`trt-anon sample`: frames for a person to look at, and what their count says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_anon.cli import options
from trt_anon.errors import UsageError


def sample(
    job: Annotated[
        Path,
        typer.Argument(
            help="Redacted file or folder; with --misses, the folder of its sample.", show_default=False, metavar="JOB"
        ),
    ],
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="How many frames.")] = 300,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="A new folder for the sheet.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed draws the same frames.")] = 0,
    misses: Annotated[
        int | None,
        typer.Option("--misses", metavar="K", min=0, help="Frames with a miss, as counted.", show_default=False),
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Of the bound.")] = 0.95,
    quiet: options.Quiet = False,
) -> None:
    """Draw a stratified random sample of redacted frames as a contact sheet, or bound the miss rate from what was seen.

    The sheet is a local page: it loads nothing from elsewhere.
    """
    from trt_anon.job.sample import bound_of, draw_sample

    if misses is not None:
        if output is not None:
            raise UsageError("--misses reads a sample that is there; leave --output out")
        if not 0 < confidence < 1:
            raise UsageError("--confidence lies between 0 and 1")
        bound = bound_of(job, misses, confidence)
        typer.echo(
            f"{bound.misses} of {bound.sampled} frames with a miss ({bound.rate:.2%}): with {confidence:.0%} "
            f"confidence at most {bound.upper:.2%} of all frames have one"
        )
        return
    if output is None:
        raise UsageError("name a new folder for the contact sheet: --output FOLDER")
    drawn, population = draw_sample(job, output, size=n, seed=seed)
    if not quiet:
        typer.echo(f"{drawn} of {population} frames; look at {output / 'index.html'}, then run:")
        typer.echo(f"trt-anon sample {output} --misses K")
