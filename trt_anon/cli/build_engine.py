"""`trt-anon build-engine`: from a detector to an engine for a GPU."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trt_anon.cli.engine_view import build_progress, facts_of_engine, print_facts, shape_in_words
from trt_anon.errors import UsageError

if TYPE_CHECKING:
    from trt_anon.build.calibration import Calibration
    from trt_anon.models.engines import EnginePlan
    from trt_anon.models.registry import Registry

WHAT = "What to build"
WHERE = "For which GPU"


def build_engine(
    detector: Annotated[
        str, typer.Argument(metavar="DETECTOR|RECIPE.toml|MODEL.onnx", help="A detector by name, or a file.")
    ],
    precision: Annotated[
        str, typer.Option("--precision", metavar="fp32|fp16|int8|fp8", help="Arithmetic.", rich_help_panel=WHAT)
    ] = "fp16",
    batch: Annotated[
        str,
        typer.Option(
            "--batch",
            metavar="MIN:OPT:MAX",
            help="Pictures per inference: the fewest, the usual, the most; or one number.",
            rich_help_panel=WHAT,
        ),
    ] = "1:8:8",
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="HxW[,HxW]",
            help="Sizes of the detector's input, height first.  \\[default: those for 1920x1080 video]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="For int8 and fp8.  \\[default: the detector's, see trt-anon calibrate]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Calibrate on these pictures or labels first, as [bold]trt-anon calibrate[/] does.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="sm_86,...",
            help="Architectures; TensorRT-RTX builds for GPUs that are not here.  \\[default: the GPU here]",
            rich_help_panel=WHERE,
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option("--backend", metavar="auto|tensorrt|tensorrt-rtx", rich_help_panel=WHERE)
    ] = "auto",
    workspace: Annotated[
        int | None,
        typer.Option("--workspace", metavar="MIB", help="Scratch memory that layers may take.", rich_help_panel=WHERE),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option("--level", metavar="0-5", help="How long to look for fast kernels.", rich_help_panel=WHERE),
    ] = None,
    timing_cache: Annotated[
        bool,
        typer.Option(
            "--timing-cache/--no-timing-cache",
            help="Keep what was timed on this GPU for the next build.",
            rich_help_panel=WHERE,
        ),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="A folder for a copy of the engine and its manifest."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be built, and build nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Build an engine for a GPU from a detector, and keep it where the pipeline finds it.

    An engine that is there already, for the same network, precision, shapes, GPU and version, is not built again.
    """
    from trt_anon.build.calibration import Calibration
    from trt_anon.models.engines import EngineOrder, build_planned, export, plan_engine
    from trt_anon.models.registry import Registry
    from trt_anon.runtime.engine_store import EngineStore

    registry = Registry()
    wanted = _one_of(precision, ("fp32", "fp16", "int8", "fp8"), "--precision")
    ranges = Calibration.load(calibration) if calibration else None
    if data is not None:
        if calibration is not None or wanted not in ("int8", "fp8"):
            raise UsageError("--data calibrates for --precision int8 or fp8, and takes the place of --calibration")
        ranges = _calibrated(detector, data, registry, quiet=quiet or json)
    order = EngineOrder(
        detector=detector,
        precision=wanted,
        batch=_batch(batch),
        sizes_hw_px=_sizes(size),
        targets=_targets(target),
        backend=_one_of(backend, ("auto", "tensorrt", "tensorrt-rtx"), "--backend"),
        calibration=ranges,
        workspace_bytes=None if workspace is None else _within(workspace, 1, 1 << 20, "--workspace") << 20,
        optimization_level=None if level is None else _within(level, 0, 5, "--level"),
    )

    def say(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    store = EngineStore()
    plan = plan_engine(order, registry, store, say=say)
    if dry_run:
        print_facts(_facts_of_plan(plan), json=json)
        return
    shown: AbstractContextManager[Any] = nullcontext() if plan.stored else build_progress(plan.key.model, quiet=quiet)
    with shown as progress:
        engine = build_planned(plan, store, keep_timings=timing_cache, progress=progress, say=say)
    facts = facts_of_engine(engine)
    if plan.stored:
        say(f"{plan.key.model}: this engine is there already")
    if output is not None:
        facts = {"file": str(export(engine, output)), **{k: v for k, v in facts.items() if k != "file"}}
    if not quiet or json:
        print_facts(facts, json=json)


def _calibrated(detector: str, data: Path, registry: Registry, *, quiet: bool) -> Calibration:
    """Calibrate, and keep the calibration where the pipeline finds it. Exit code 1 where recall does not hold."""
    from rich.console import Console

    from trt_anon.calibrate import calibrate
    from trt_anon.calibrate.write import write_outcome
    from trt_anon.cli.calibration_view import show_outcome
    from trt_anon.cli.evaluation_view import EvaluationProgress
    from trt_anon.models.calibrations import user_calibrations

    with EvaluationProgress(quiet=quiet) as progress:
        outcome = calibrate(detector, data, registry=registry, on_progress=progress)
    if not quiet or not outcome.verdict.holds:
        show_outcome(outcome, Console(stderr=True))
    if not outcome.verdict.holds:
        raise typer.Exit(1)
    written = write_outcome(outcome, user_calibrations(), "pictures of the user's own", overwrite=True)
    if not quiet:
        typer.echo(f"calibration: {written[0]}", err=True)
    return outcome.calibration


def _facts_of_plan(plan: EnginePlan) -> dict[str, Any]:
    key = plan.key
    library = plan.place.library
    (source,) = plan.inputs
    return {
        "file": key.file_name,
        "built already": plan.stored is not None,
        "why again": "; ".join(plan.reasons) or None,
        "model": key.model,
        "precision": key.precision,
        "library": library.title,
        "for": ", ".join(key.targets) + (f" ({key.gpu})" if key.gpu else ""),
        "input": f"{source.name} {source.dtype.name} {shape_in_words(source.shape)}",
        "outputs": ", ".join(f"{o.name} {o.dtype.name} {shape_in_words(o.shape)}" for o in plan.outputs),
        "batch": ":".join(map(str, plan.shapes.batch)),
        "sizes": ", ".join(f"{height}x{width}" for height, width in plan.shapes.sizes_hw_px),
        "workspace": "all there is" if key.workspace_bytes is None else f"{key.workspace_bytes >> 20} MiB",
        "network": str(plan.network.path),
        "network sha256": key.onnx_sha256,
        "source sha256": key.source_sha256,
        "calibration sha256": key.calibration_sha256,
    }


def _one_of(value: str, known: tuple[str, ...], option: str) -> Any:
    if value not in known:
        raise UsageError(f"{option} {value}: use one of {', '.join(known)}")
    return value


def _batch(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) not in (1, 3) or not all(re.fullmatch(r"[1-9]\d{0,4}", part) for part in parts):
        raise UsageError(f"--batch {text}: expected MIN:OPT:MAX, as 1:8:32, or one number")
    low, usual, high = (int(part) for part in (parts * 3 if len(parts) == 1 else parts))
    if not low <= usual <= high:
        raise UsageError(f"--batch {text}: the fewest come first, the most last")
    return low, usual, high


def _sizes(text: str | None) -> tuple[tuple[int, int], ...]:
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", part.strip())
        if match is None:
            raise UsageError(f"--size {text}: expected HEIGHTxWIDTH, as 384x640, several with commas between")
        found.append((int(match[1]), int(match[2])))
    return tuple(dict.fromkeys(found))


def _targets(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", part.strip().lower())
        if match is None:
            raise UsageError(f"--target {text}: expected architectures, as sm_86 or 8.6, several with commas between")
        found.append(f"sm_{match[1]}{match[2]}")
    return tuple(sorted(set(found)))


def _within(value: int, least: int, most: int, option: str) -> int:
    if not least <= value <= most:
        raise UsageError(f"{option} {value}: from {least} to {most}")
    return value
