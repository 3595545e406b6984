"""An evaluation in the terminal: tables of figures, and progress while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from trt_anon.evaluate import Evaluation


class EvaluationProgress:
    """A bar for each pass over the images, in a terminal; nothing elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> EvaluationProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, title: str, done: int, total: int) -> None:
        """Show how far a pass is."""
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=total)
        self._progress.update(self._tasks[title], completed=done)


def show(evaluation: Evaluation, console: Console) -> None:
    """Print the figures."""
    figures = evaluation.figures
    console.print(_headline(figures), highlight=False)
    if figures["labels"]["left_out"]:
        names = ", ".join(f"{count} {name}" for name, count in figures["labels"]["left_out"].items())
        console.print(f"[yellow]Left out[/], of other classes: {escape(names)}", highlight=False)
    console.print(_objects(figures))
    console.print(_precision(figures))
    for column, one in (figures["per_group"] or {}).items():
        for name in ("recall_gap", "exposed_gap"):
            gap = one[name]
            if gap:
                apart = "intervals apart" if gap["intervals_apart"] else "intervals overlap"
                console.print(
                    f"Largest gap by {escape(column)}, {name.removesuffix('_gap')}: {_percent(gap['gap'])} "
                    f"({escape(gap['lowest'])} to {escape(gap['highest'])}, {apart})",
                    highlight=False,
                )
    if figures["robustness"]:
        console.print(_robustness(figures["robustness"]))
    speed = figures["speed"]
    if speed:
        latency = speed["latency_ms"]
        console.print(
            f"Detection of one image: median {latency['median']:.1f} ms, 95% below {latency['p95']:.1f} ms, 99% below "
            f"{latency['p99']:.1f} ms; {speed['images_per_second']:.1f} images/s "
            f"({speed['images']} images of {speed['megapixels_mean']:.2f} megapixels)",
            highlight=False,
        )
    if figures["target"]:
        console.print(_target(figures["target"]), highlight=False)


def _headline(figures: dict[str, Any]) -> str:
    labels, settings = figures["labels"], figures["settings"]
    names = ", ".join(detector["name"] for detector in settings["detectors"]) or "given detections"
    ignored = f" ({labels['ignored']} ignored)" if labels["ignored"] else ""
    shapes = ", ".join(sorted(set(settings["shape"].values())))
    return (
        f"[bold]{escape(names)}[/] at threshold {settings['threshold']:g}: {labels['objects']} objects{ignored} in "
        f"{labels['images']} images; found at IoU {settings['iou']:g}; region: {shapes} grown "
        f"{settings['grow']:g} times, {_percent(figures['redacted']['of_all_pixels'])} of all pixels redacted"
    )


def _objects(figures: dict[str, Any]) -> Table:
    settings = figures["settings"]
    table = _table("Objects found, with interval, and exposed: less than that share covered")
    table.add_column("", no_wrap=True)
    for name in ("objects", "recall", f"({settings['confidence']:.0%})", *_exposed(figures["all"]["cover"])):
        table.add_column(name, justify="right", no_wrap=True)
    _add(table, "all", figures["all"])
    if len(figures["per_class"]) > 1:
        _section(table, "{}", figures["per_class"])
    if len(figures["per_category"]) > 1:
        _section(table, "{}", figures["per_category"])
    what = "high" if settings["size_by"] == "height" else "by area"
    _section(table, "{} px " + what, figures["per_size"])
    for column, one in (figures["per_group"] or {}).items():
        _section(table, column.replace("{", "(").replace("}", ")") + " {}", one["groups"])
    return table


def _section(table: Table, title: str, rows: dict[str, Any]) -> None:
    table.add_section()
    for name, figures in rows.items():
        if figures["objects"]:
            _add(table, title.format(name), figures)


def _add(table: Table, name: str, figures: dict[str, Any]) -> None:
    interval = figures["recall_interval"]
    table.add_row(
        escape(name.replace("license_plate", "license plate")),
        str(figures["objects"]),
        _percent(figures["recall"]),
        f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}" if interval else "-",
        *(_percent(one["exposed"]) for one in figures["cover"].values()),
    )


def _precision(figures: dict[str, Any]) -> Table:
    table = _table("Precision, and average precision over all thresholds")
    table.add_column("", no_wrap=True)
    iou = f"{figures['settings']['iou']:g}"
    for name in ("precision", "F1", "mAP .5:.95", "AP .5", f"VOC {iou}", f"VOC11 {iou}"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in figures["per_class"].items():
        coco, ap = figures["coco"]["per_class"][name], one["average_precision"]
        values = (one["precision"], one["f1"], coco["AP"], coco["AP50"], ap["voc"], ap["voc_11_point"])
        table.add_row(escape(name.replace("_", " ")), *(_percent(value) for value in values))
    return table


def _robustness(results: list[dict[str, Any]]) -> Table:
    table = _table("Worse pictures: objects found, and exposed: less than that share covered")
    table.add_column("corruption, severity", no_wrap=True)
    for name in ("recall", "AP", *_exposed(results[0]["exposed"]), "redacted"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for one in results:
        if last not in (None, one["corruption"]):
            table.add_section()
        last = one["corruption"]
        shares = (one["recall"], one["average_precision"], *one["exposed"].values(), one["redacted"])
        name = f"{one['corruption']} {one['severity']}" if one["severity"] else "none"
        table.add_row(name, *map(_percent, shares))
    return table


def _target(target: dict[str, Any]) -> str:
    higher = f" of objects at least {target['min_height_px']:g} px high" if target["min_height_px"] else ""
    asked = (
        f"{target['of']} of at least {_percent(target['target'])}{higher} with {target['confidence']:.0%} confidence"
    )
    lines = []
    for name, one in target["per_class"].items():
        seen = f"{_percent(one['share'])} of {one['total']} measured, at least {_percent(one['bound'])} proved"
        word = name.replace("_", " ")
        if one["met"]:
            lines.append(f"[green]Target met[/] for {word}: {asked} up to threshold {one['threshold']:g} ({seen})")
            continue
        why = ""
        if one["possible_bound"] < one["target"]:
            why = f"; with {one['total']} objects no more than {_percent(one['possible_bound'])} can be proved"
        lines.append(
            f"[red]Target not met[/] for {word}: {asked} is not reached; the best, at threshold {one['threshold']:g}: "
            f"{seen}{why}"
        )
    return "\n".join(lines)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)


def _exposed(shares: Iterable[str]) -> list[str]:
    """Column heads."""
    return [f"<{share}" for share in shares]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
