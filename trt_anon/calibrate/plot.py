"""The plot of a calibration: the error of every layer alone in INT8, its arithmetic, and where its precision went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trt_anon._optional import require

_COLORS = {"int8": "#0072b2", "recall": "#d55e00", "high": "#aaaaaa"}
_WORDS = {"int8": "INT8", "recall": "high precision, for recall's sake", "high": "high precision by kind"}


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write the plot of a report as a PNG file. Raises PackageMissing without matplotlib."""
    figure_of = require("matplotlib.figure", "drawing a calibration").Figure
    layers = report["layers"]
    kinds = [
        "int8" if layer["precision"] == "int8" else "recall" if layer["reason"] == "recall" else "high"
        for layer in layers
    ]
    places = np.arange(len(layers))
    figure = figure_of(figsize=(9, 7), dpi=120, layout="constrained")
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    error = np.maximum([layer["error_alone"] for layer in layers], 1e-9)
    cut = [layer["range"] / layer["largest"] if layer["largest"] else 1.0 for layer in layers]
    work = np.array([layer["multiply_adds"] for layer in layers], float)
    for kind, color in _COLORS.items():
        mine = np.array([one == kind for one in kinds])
        if not mine.any():
            continue
        above.bar(places[mine], error[mine], color=color, width=0.8, label=_WORDS[kind])
        middle.bar(places[mine], work[mine] / max(work.sum(), 1), color=color, width=0.8)
        below.plot(places[mine], np.array(cut)[mine], "o", color=color, markersize=4)
    above.set_yscale("log")
    above.set_ylabel("error at the outputs\n(relative, this layer alone)")
    above.legend(frameon=False, fontsize=8, loc="upper right")
    middle.set_ylabel("share of all\nmultiply-adds")
    below.set_ylabel("range of its input,\nof the largest value")
    below.set_ylim(0, 1.05)
    below.set_xlabel("layers, in the order of the network")
    for axes in (above, middle, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    overall = report["recall"]["drops"][0]
    share = report["int8"]["share_of_multiply_adds"]
    figure.suptitle(
        f"{report['detector']}: recall {overall['recall_before']:.1%} in float32, {overall['recall_after']:.1%} with "
        f"{share:.0%} of the multiply-adds in INT8",
        fontsize=11,
    )
    figure.savefig(path, format="png")
