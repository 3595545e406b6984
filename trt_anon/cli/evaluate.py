"""`trt-anon evaluate`: how much a detector finds, covers and misses, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from trt_anon.cli import options
from trt_anon.cli.evaluation_view import EvaluationProgress, show
from trt_anon.cli.options import DETECTION, OUTPUT, REDACTION
from trt_anon.errors import OutputError, UsageError

if TYPE_CHECKING:
    from trt_anon.config import Scale
    from trt_anon.evaluate import Evaluation

LABELS = "What is labelled"
MEASURES = "What to measure"
TARGET = "Threshold from a target"


def evaluate(
    labels: Annotated[
        Path,
        typer.Argument(
            help="COCO JSON, WIDER FACE text, or a folder of YOLO or Pascal VOC labels.",
            metavar="LABELS",
            show_default=False,
        ),
    ],
    label_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="auto|coco|yolo|voc|voc0|wider",
            help="voc0: VOC whose boxes count from 0.",
            rich_help_panel=LABELS,
        ),
    ] = "auto",
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The images' folder, where it is not the usual one.", rich_help_panel=LABELS),
    ] = None,
    class_map: Annotated[
        list[str] | None,
        typer.Option(
            "--class-map",
            metavar="NAME=face|plate|ignore",
            help="What a name in the labels means; repeatable.",
            rich_help_panel=LABELS,
        ),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option("--class-names", metavar="A,B,...", help="Names of YOLO's class numbers.", rich_help_panel=LABELS),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", help="A CSV file of groups, by file or annotation_id.", rich_help_panel=LABELS),
    ] = None,
    group_column: Annotated[
        list[str] | None,
        typer.Option("--group-column", help="A column of it; repeatable.  \\[default: all]", rich_help_panel=LABELS),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option(
            "--detections",
            help="Measure these instead: COCO results, or the output of [bold]trt-anon detect[/].",
            rich_help_panel=DETECTION,
        ),
    ] = None,
    detect: options.Detect = None,
    detector: options.Detector = None,
    preset: options.Preset = None,
    threshold: options.Threshold = None,
    tile: options.Tile = None,
    tile_overlap: options.TileOverlap = None,
    flip: options.Flip = None,
    fusion: options.Fusion = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            "--scale",
            metavar="PIXELS|LOW:HIGH|native",
            help="Longer side of a pass, instead of the recipe's; repeat for several.",
            rich_help_panel=DETECTION,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", metavar="ellipse|box|rounded", help="\\[default: ellipse]", rich_help_panel=REDACTION),
    ] = None,
    grow: Annotated[
        float | None,
        typer.Option(
            "--grow", help="Region size relative to the found box.  \\[default: 1.3]", rich_help_panel=REDACTION
        ),
    ] = None,
    iou: Annotated[
        float | None, typer.Option("--iou", help="Overlap that finds.  \\[default: 0.5]", rich_help_panel=MEASURES)
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option("--floor", help="Lowest threshold measured.  \\[default: 0.05]", rich_help_panel=MEASURES),
    ] = None,
    size_by: Annotated[
        str | None,
        typer.Option(
            "--size-by",
            metavar="height|sqrt-area",
            help="What size means.  \\[default: height]",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    corrupt: Annotated[
        str | None,
        typer.Option(
            "--corrupt",
            metavar="NAME,...",
            help="Measure again on worse pictures: motion-blur, defocus, low-light, overexposure, noise, jpeg, "
            "low-resolution, fog, occlusion, or all.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    severity: Annotated[
        str | None,
        typer.Option("--severity", metavar="1,...,5", help="\\[default: 1,3,5]", rich_help_panel=MEASURES),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the corruptions.  \\[default: 0]", rich_help_panel=MEASURES)
    ] = None,
    timing_images: Annotated[
        int | None,
        typer.Option("--timing-images", help="How many to time; 0 none.  \\[default: 64]", rich_help_panel=MEASURES),
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option("--target-recall", help="Find at least this share of objects.", rich_help_panel=TARGET),
    ] = None,
    target_cover: Annotated[
        float | None,
        typer.Option("--target-cover", help="Cover 0.75 of at least this share of objects.", rich_help_panel=TARGET),
    ] = None,
    min_height: Annotated[
        float | None,
        typer.Option("--min-height", metavar="PIXELS", help="Leave lower objects out.", rich_help_panel=TARGET),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option("--confidence", help="Of the target and of intervals.  \\[default: 0.95]", rich_help_panel=TARGET),
    ] = None,
    write_recipe: Annotated[
        Path | None,
        typer.Option(
            "--write-recipe",
            metavar="FILE.toml",
            help="Store the threshold that meets the target, in a copy of the recipe.",
            rich_help_panel=TARGET,
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write all figures; no boxes.", rich_help_panel=OUTPUT)
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="FOLDER", help="Draw plots into it.", rich_help_panel=OUTPUT)
    ] = None,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure a detector on labelled images.

    Recall, precision, and what stays exposed after redaction; by class, size and group. Exits with 1 where a target is
    not met. Nothing is redacted, and the figures hold no boxes.
    """
    from trt_anon.config import validated
    from trt_anon.evaluate import ClassMap, EvaluateConfig, read_detections, read_groups, read_labels
    from trt_anon.evaluate import evaluate as measure
    from trt_anon.evaluate.corrupt import CORRUPTIONS
    from trt_anon.evaluate.plots import PLOTS, write_plots

    if write_recipe is not None and target_recall is None and target_cover is None:
        raise UsageError("--write-recipe stores the threshold of a target; add --target-recall or --target-cover")
    if write_recipe is not None and (detections is not None or len(detector or ()) > 1):
        raise UsageError("--write-recipe needs exactly one detector")
    if min_height is not None and target_recall is None and target_cover is None:
        raise UsageError("--min-height is part of a target; add --target-recall or --target-cover")
    outputs = [json, write_recipe, *([] if plots is None else [plots / f"{name}.png" for name in PLOTS])]
    for output in outputs:  # now, and not after the measurement
        if output is not None and output.exists() and not overwrite:
            raise OutputError(f"{output} exists; choose another name, or replace it with --overwrite")
    settings = options.configuration(
        config,
        classes=options.classes(detect),
        detectors=tuple(detector) if detector else None,
        preset=preset,
        threshold=threshold,
        **options.views(tile, tile_overlap, flip, fusion),
        shape=shape,
        grow=grow,
        device=device,
        runtime=runtime,
        threads=threads,
    )
    names = tuple(CORRUPTIONS) if corrupt == "all" else _words(corrupt)
    given = {
        "iou": iou,
        "floor": floor,
        "size_by": size_by,
        "corruptions": names,
        "severities": _words(severity),
        "seed": seed,
        "timing_images": timing_images,
        "target_recall": target_recall,
        "target_cover": target_cover,
        "min_height_px": min_height,
        "confidence": confidence,
    }
    wanted = validated(EvaluateConfig, {k: v for k, v in given.items() if v is not None}, "options")
    meaning = ClassMap.parse(class_map or ())
    labelled = read_labels(
        labels,
        label_format=label_format,  # type: ignore[arg-type] # checked by read_labels
        images=images,
        classes=settings.detect.classes,
        class_map=meaning,
        class_names=_words(class_names),
    )
    with EvaluationProgress(quiet=quiet) as progress:
        result = measure(
            labelled,
            settings,
            wanted,
            scales=[_scale(word) for word in scale or ()],
            detections=None if detections is None else read_detections(detections, labelled, meaning),
            groups=None if groups is None else read_groups(groups, labelled, tuple(group_column or ())),
            on_progress=progress,
        )
    if not quiet:
        show(result, Console())
    if json is not None:
        result.write(json, overwrite=overwrite)
    if plots is not None:
        write_plots(result, plots, overwrite=overwrite)
    target = result.figures["target"]
    if target is not None and not target["met"]:
        raise typer.Exit(1)
    if write_recipe is not None:
        _store(result, write_recipe, overwrite=overwrite)


def _store(result: Evaluation, path: Path, *, overwrite: bool) -> None:
    from trt_anon.evaluate.recipe import write_recipe

    if len(result.recipes) != 1:
        raise UsageError("--write-recipe needs exactly one detector")
    target = result.figures["target"]
    of_class = ", ".join(
        f"{name}: {one['share']:.4f} of {one['total']} measured, at least {one['bound']:.4f} proved"
        for name, one in target["per_class"].items()
    )
    higher = f", of objects at least {target['min_height_px']:g} px high" if target["min_height_px"] else ""
    remarks = [
        f"Threshold chosen by measurement: {target['of']} of at least {target['target']:g}{higher}",
        f"with confidence {target['confidence']:g}, at IoU {result.figures['settings']['iou']:g}.",
        of_class,
    ]
    write_recipe(result.recipes[0], target["threshold"], path, remarks=remarks, overwrite=overwrite)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _scale(word: str) -> Scale:
    from trt_anon.config import Scale, validated

    low, colon, high = word.partition(":")
    values: dict[str, str] = {}
    if word != "native":
        values = {"min_long_side_px": low, "max_long_side_px": high if colon else low}
    return validated(Scale, {k: v for k, v in values.items() if v}, f"--scale {word}")
