"""`trt-anon verify`: a second look at what was redacted."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from trt_anon.cli import options
from trt_anon.cli.options import OUTPUT
from trt_anon.cli.printable import plain, printable
from trt_anon.errors import InputError, TrtAnonError, UsageError, VerificationFailed

if TYPE_CHECKING:
    from trt_anon.job.verify import Verification


def verify(
    redacted: Annotated[
        Path, typer.Argument(help="A redacted file, or a folder of them.", show_default=False, metavar="REDACTED")
    ],
    original: Annotated[
        Path | None,
        typer.Option(
            "--original", help="What it was made from: the file, or the folder that it mirrors.", show_default=False
        ),
    ] = None,
    detect: options.Detect = None,
    detector: options.Detector = None,
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Look at every N-th frame only.")] = 1,
    strict: Annotated[bool, typer.Option("--strict", help="Fail for suspects, too.")] = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Write what was found: times and counts; no boxes.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Look for what can still be read in a redacted file, with another detector, more sensitive and at a larger scale.

    With the original, frames, times and sound are compared, and every object of the original must be destroyed.
    Exit code 4: something can be read, or the file is not its original any more.
    """
    from trt_anon.job.inputs import plan
    from trt_anon.job.publish import as_output_error, atomic_output
    from trt_anon.job.verify import Verifier
    from trt_anon.models.registry import Registry
    from trt_anon.pipeline.detection import choose_recipes

    settings = options.configuration(
        config,
        classes=options.classes(detect),
        detectors=tuple(detector) if detector else None,
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
    )
    if json is not None and json.exists() and not overwrite:
        raise UsageError(f"{json} exists already; pass --overwrite to replace it")
    tasks = plan([redacted], redacted, detect_only=True).tasks
    pairs = [(task.source, _original_of(task.source, redacted, original)) for task in tasks]
    registry = Registry()
    first = () if detector else tuple(recipe.name for recipe in choose_recipes(settings, registry))
    results: list[tuple[Path, Verification | TrtAnonError]] = []
    with Verifier(settings, registry, first, every=every) as verifier:
        for path, before in pairs:
            try:
                results.append((path, verifier.verify(path, before)))
            except InputError as error:
                results.append((path, error))
            _show(*results[-1], quiet=quiet, strict=strict)
    if json is not None:
        text = json_module.dumps([_as_dict(path, result) for path, result in results], indent=2) + "\n"
        with as_output_error(json), atomic_output(json, overwrite=overwrite) as partial:
            partial.write_text(text, encoding="ascii")
    outcomes = [result for _, result in results]
    if any(not isinstance(r, TrtAnonError) and not (r.passed and not (strict and r.suspects)) for r in outcomes):
        raise typer.Exit(VerificationFailed.exit_code)
    if any(isinstance(result, TrtAnonError) for result in outcomes):
        raise typer.Exit(InputError.exit_code)


def _original_of(path: Path, redacted: Path, original: Path | None) -> Path | None:
    if original is None:
        return None
    if not redacted.is_dir():
        return original
    found = original / path.relative_to(redacted)
    if not found.is_file():
        raise UsageError(f"{original} has no {path.relative_to(redacted)}; is it what {redacted} mirrors?")
    return found


def _show(path: Path, result: Verification | TrtAnonError, *, quiet: bool, strict: bool) -> None:
    errors = Console(stderr=True, soft_wrap=True)
    if isinstance(result, TrtAnonError):
        errors.print(f"[bold red]failed[/] {printable(path)}: {printable(result)}", highlight=False)
        return
    for finding in result.leaks:
        errors.print(f"[bold red]leak[/] {printable(path)}: {finding}", highlight=False)
    for fault in result.faults:
        errors.print(f"[bold red]fault[/] {printable(path)}: {printable(fault)}", highlight=False)
    for finding in result.suspects if strict or not quiet else ():
        errors.print(f"[yellow]suspect[/] {printable(path)}: {finding}", highlight=False)
    if quiet:
        return
    residual, gone = sum(result.seen.values()), sum(result.unreadable.values())
    notes = "".join(f"; {note}" for note in result.notes)
    typer.echo(
        f"{plain(path)}: {'passed' if result.passed else 'FAILED'}: {result.frames} frames, looked at by "
        f"{', '.join(result.detectors)}: {residual} residual detections, {gone} of them unreadable{notes}"
    )


def _as_dict(path: Path, result: Verification | TrtAnonError) -> dict[str, Any]:
    if isinstance(result, TrtAnonError):
        return {"file": str(path), "error": str(result)}
    return {"file": str(path), **result.to_dict()}
