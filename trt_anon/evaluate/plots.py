"""Plots of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import OutputError
from trt_anon.evaluate.run import Evaluation
from trt_anon.job.publish import atomic_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS = ("precision-recall", "f1", "recall-by-size", "cover", "groups", "robustness")
"""The names of all plots, without suffix."""

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#666666", "#000000")


def write_plots(evaluation: Evaluation, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Draw an evaluation into a folder, which is made if it is not there, and give the files.

    precision-recall.png, f1.png (precision, recall and F1 against the threshold), recall-by-size.png, cover.png
    (exposed objects against redacted pixels, over thresholds and growths), groups.png and robustness.png where these
    were measured. Raises OutputError, PackageMissing without matplotlib.
    """
    figure_of = require("matplotlib.figure", "drawing plots").Figure
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; plots need a folder")
    drawn: tuple[Callable[[Axes, Evaluation], None], ...] = (
        _precision_recall,
        _f1,
        _by_size,
        _cover,
        _groups,
        _robustness,
    )
    missing = {
        name for name, key in (("groups", "per_group"), ("robustness", "robustness")) if not evaluation.figures[key]
    }
    written = []
    for name, draw in zip(PLOTS, drawn, strict=True):
        if name in missing:
            continue
        figure = figure_of(figsize=(7, 4.8), dpi=120, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(axes, evaluation)
        path = folder / f"{name}.png"
        with atomic_output(path, overwrite=overwrite) as partial:
            figure.savefig(partial, format="png")
        written.append(path)
    return written


def _percent(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    formatter = require("matplotlib.ticker", "drawing plots").PercentFormatter
    for axis, wanted in ((axes.xaxis, x), (axes.yaxis, y)):
        if wanted:
            axis.set_major_formatter(formatter(1.0))


def _precision_recall(axes: Axes, evaluation: Evaluation) -> None:
    settings = evaluation.figures["settings"]
    for color, (name, points) in zip(_COLORS, evaluation.precision_recall.items(), strict=False):
        ap = evaluation.figures["per_class"][name]["average_precision"]["coco"]
        if ap is None or not len(points.scores):
            continue
        axes.plot(points.recall, points.precision, color=color, label=f"{_word(name)}, AP {ap:.3f}")
        used = int((points.scores >= np.float32(settings["threshold"])).sum()) - 1
        if used >= 0:
            axes.plot(points.recall[used], points.precision[used], "o", color=color)
    axes.plot([], [], "o", color="grey", label=f"threshold {settings['threshold']:g}")
    axes.set(xlabel=f"Recall at IoU {settings['iou']:g}", ylabel="Precision", xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_title("Precision against recall")
    _percent(axes, x=True, y=True)
    axes.legend(frameon=False, loc="lower left")


def _f1(axes: Axes, evaluation: Evaluation) -> None:
    curves, settings = evaluation.figures["curves"], evaluation.figures["settings"]
    for color, name in zip(_COLORS, ("recall", "precision", "f1"), strict=False):
        values = [np.nan if value is None else value for value in curves[name]]
        axes.plot(curves["threshold"], values, color=color, label=_word(name).replace("f1", "F1").capitalize())
    axes.axvline(settings["threshold"], color="grey", ls="--", lw=1, label=f"in use: {settings['threshold']:g}")
    chosen = evaluation.figures["target"]
    if chosen and chosen["met"]:
        higher = f" from {chosen['min_height_px']:g} px" if chosen["min_height_px"] else ""
        text = f"{chosen['of']} of at least {chosen['target']:g}{higher}: {chosen['threshold']:g}"
        axes.axvline(chosen["threshold"], color="black", ls=":", lw=1.2, label=text)
    axes.set(xlabel="Threshold", xlim=(0, 1), ylim=(0, 1.02), title="What a threshold finds")
    _percent(axes, y=True)
    axes.figure.legend(frameon=False, loc="outside lower center", ncols=3)


def _bars(axes: Axes, names: list[str], figures: list[dict[str, Any]], note: str) -> None:
    """Recall and share covered side by side, with their intervals."""
    shares: dict[str, list[tuple[float, list[float]]]] = {"found": [], f"covered at least {note}": []}
    for one in figures:
        exposed = one["cover"][note]
        low, high = exposed["exposed_interval"]
        shares["found"].append((one["recall"], list(one["recall_interval"])))
        shares[f"covered at least {note}"].append((exposed["covered"], [1 - high, 1 - low]))
    places = np.arange(len(names))
    for number, (label, values) in enumerate(shares.items()):
        heights = np.array([share for share, _ in values])
        ends = np.array([interval for _, interval in values]).T
        errors = np.abs(np.stack((heights - ends[0], ends[1] - heights)))
        axes.bar(places + (number - 0.5) * 0.38, heights, 0.36, color=_COLORS[2 * number], label=label, alpha=0.85)
        axes.errorbar(places + (number - 0.5) * 0.38, heights, errors, fmt="none", color="black", capsize=3, lw=1)
    axes.set_xticks(places, [f"{name}\n{one['objects']}" for name, one in zip(names, figures, strict=True)])
    axes.set(ylim=(0, 1.12), ylabel="Share of objects")
    axes.set_yticks(np.linspace(0, 1, 6))
    _percent(axes, y=True)
    axes.legend(frameon=False, loc="upper left", ncols=2)


def _by_size(axes: Axes, evaluation: Evaluation) -> None:
    figures = evaluation.figures
    there = {name: one for name, one in figures["per_size"].items() if one["objects"]}
    needed = next(iter(figures["all"]["cover"]))
    _bars(axes, list(there), list(there.values()), needed)
    what = "height" if figures["settings"]["size_by"] == "height" else "square root of the area"
    axes.set(xlabel=f"Object's {what} in pixels, and number of objects")
    axes.set_title(f"By size, at threshold {figures['settings']['threshold']:g}")


def _groups(axes: Axes, evaluation: Evaluation) -> None:
    figures = evaluation.figures
    needed = next(iter(figures["all"]["cover"]))
    columns = figures["per_group"]
    there = {
        name if len(columns) == 1 else f"{column}:\n{name}": one
        for column, groups in columns.items()
        for name, one in groups["groups"].items()
    }
    _bars(axes, list(there), list(there.values()), needed)
    axes.tick_params(axis="x", labelsize="small")
    axes.set(xlabel="Group, and number of objects")
    axes.set_title(f"By group, at threshold {figures['settings']['threshold']:g}")


def _cover(axes: Axes, evaluation: Evaluation) -> None:
    figures = evaluation.figures
    curves, settings = figures["curves"], figures["settings"]
    needed = next(iter(figures["all"]["cover"]))
    used = int(np.argmin(np.abs(np.array(curves["threshold"]) - settings["threshold"])))
    for color, (grow, values) in zip(_COLORS, curves["by_growth"].items(), strict=False):
        exposed = values["exposed"][needed]
        if exposed[0] is None:
            continue
        in_use = float(grow) == settings["grow"]
        axes.plot(
            values["redacted"], exposed, color=color, lw=2.4 if in_use else 1.3, label=f"grown {float(grow):.2f} times"
        )
        axes.plot(values["redacted"][used], exposed[used], "o", color=color, ms=8 if in_use else 5)
    axes.plot([], [], "o", color="grey", label=f"threshold {settings['threshold']:g}")
    axes.set(xlabel="Redacted share of all pixels", ylabel=f"Exposed: less than {needed} of the object covered")
    axes.set(title="What is still seen, against what is destroyed (lower left is better)")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    _percent(axes, x=True, y=True)
    axes.legend(frameon=False)


def _robustness(axes: Axes, evaluation: Evaluation) -> None:
    results = evaluation.figures["robustness"]
    needed = next(iter(evaluation.figures["all"]["cover"]))
    clean = results[0]
    names = list(dict.fromkeys(one["corruption"] for one in results[1:]))
    for color, name in zip(_COLORS, names, strict=False):
        mine = [clean, *(one for one in results if one["corruption"] == name)]
        exposed = [np.nan if one["exposed"][needed] is None else one["exposed"][needed] for one in mine]
        axes.plot([one["severity"] for one in mine], exposed, "o-", color=color, label=name)
    axes.set(xlabel="Severity", ylabel=f"Exposed: less than {needed} of the object covered", ylim=(0, 1))
    axes.set_xticks(range(6))
    axes.set_title(f"Worse pictures, at threshold {evaluation.figures['settings']['threshold']:g}")
    _percent(axes, y=True)
    axes.legend(frameon=False)


def _word(name: str) -> str:
    return name.replace("_", " ")
