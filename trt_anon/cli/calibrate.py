"""`trt-anon calibrate`: a detector to INT8, with its loss of recall known and bounded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from trt_anon.cli import options
from trt_anon.cli.calibration_view import show_outcome, show_verdict
from trt_anon.cli.evaluation_view import EvaluationProgress
from trt_anon.cli.options import OUTPUT

if TYPE_CHECKING:
    from trt_anon.evaluate import LabelSet

RANGES = "How ranges are found"
RECALL = "How much recall may be lost"


def calibrate(
    detector: Annotated[
        str,
        typer.Argument(
            help="A detector by name (see [bold]trt-anon models list[/]) or recipe file.",
            metavar="DETECTOR",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of images, or labels as for [bold]trt-anon evaluate[/].", metavar="DATA", show_default=False
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Measure recall on these labels instead of a part of DATA.", rich_help_panel=RECALL
        ),
    ] = None,
    label_format: Annotated[
        str,
        typer.Option("--format", metavar="auto|coco|yolo|voc|voc0|wider", help="Of --labels.", rich_help_panel=RECALL),
    ] = "auto",
    max_recall_drop: Annotated[
        float | None,
        typer.Option(
            "--max-recall-drop", metavar="POINTS", help="Of all objects.  \\[default: 0.5]", rich_help_panel=RECALL
        ),
    ] = None,
    max_bucket_drop: Annotated[
        float | None,
        typer.Option(
            "--max-bucket-drop",
            metavar="POINTS",
            help="Of the objects of any range of sizes.  \\[default: 1]",
            rich_help_panel=RECALL,
        ),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(
            "--include",
            metavar="KIND,...",
            help="Layers to try in INT8 that stay out otherwise: depthwise, transposed, head, few channels.",
            rich_help_panel=RANGES,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="auto|min-max|percentile|entropy|mse",
            help="auto: for each value by the error it causes.  \\[default: auto]",
            rich_help_panel=RANGES,
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", help="How many give ranges.  \\[default: 128]", rich_help_panel=RANGES),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of their choice.  \\[default: 0]", rich_help_panel=RANGES)
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Take ranges from this TensorRT calibration cache.", rich_help_panel=RANGES),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="CALIBRATION.json",
            help="Calibrate nothing: measure this calibration on DATA, which is labelled.",
            rich_help_panel=RECALL,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder.  \\[default: your calibrations]", rich_help_panel=OUTPUT),
    ] = None,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Write the INT8 network too, with a recipe to use it by.", rich_help_panel=OUTPUT),
    ] = False,
    describe: Annotated[
        str | None,
        typer.Option("--describe", metavar="TEXT", help="What the data is, for the recipe.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: options.Overwrite = False,
    runtime: options.Runtime = None,
    quiet: options.Quiet = False,
) -> None:
    """Calibrate a detector to INT8 so that its recall holds.

    A part of the pictures gives the ranges of the network's values; on the others the INT8 network is held against the
    float32 one. Layers that cost recall stay in high precision. Exit code 1 if too much recall is lost.
    """
    from trt_anon.calibrate import CalibrateConfig
    from trt_anon.calibrate import calibrate as run
    from trt_anon.calibrate import check as measure
    from trt_anon.calibrate.write import write_network, write_outcome
    from trt_anon.config import RuntimeConfig, validated
    from trt_anon.models.calibrations import user_calibrations
    from trt_anon.models.registry import Registry

    given: dict[str, Any] = {
        "images": images,
        "seed": seed,
        "method": method,
        "include": None if include is None else tuple(word.strip() for word in include.split(",") if word.strip()),
        "max_recall_drop": max_recall_drop,
        "max_bucket_drop": max_bucket_drop,
    }
    config = validated(CalibrateConfig, {k: v for k, v in given.items() if v is not None}, "options")
    where = validated(RuntimeConfig, {"device": "cpu", "precision": "f32", "runtime": runtime or "auto"}, "options")
    registry = Registry()
    console = Console()
    if check is not None:
        from trt_anon.build.calibration import Calibration

        found = Calibration.load(check)
        with EvaluationProgress(quiet=quiet) as progress:
            verdict = measure(
                detector, found, _labels(detector, data, label_format, registry), config,
                registry=registry, runtime=where, on_progress=progress,
            )  # fmt: skip
        if not quiet:
            show_verdict(verdict, console)
        raise typer.Exit(0 if verdict.holds else 1)
    judged = None if labels is None else _labels(detector, labels, label_format, registry)
    with EvaluationProgress(quiet=quiet) as progress:
        outcome = run(
            detector, data, config, labels=judged, cache=cache, registry=registry, runtime=where, on_progress=progress
        )
    if not quiet:
        show_outcome(outcome, console)
    if not outcome.verdict.holds:
        raise typer.Exit(1)
    folder = output or user_calibrations()
    written = write_outcome(outcome, folder, describe or "pictures of the user's own", overwrite=overwrite)
    if onnx:
        written += write_network(outcome, folder, registry, overwrite=overwrite)
    if not quiet:
        for path in written:
            console.print(f"written: {escape(str(path))}", highlight=False, soft_wrap=True)


def _labels(detector: str, path: Path, label_format: str, registry: Any) -> LabelSet:
    from trt_anon.evaluate import read_labels

    classes = tuple(name for name in ("face", "license_plate") if name in registry.get(detector).classes)
    return read_labels(path, label_format=label_format, classes=classes)  # type: ignore[arg-type] # checked there
