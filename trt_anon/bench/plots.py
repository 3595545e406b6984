"""Plots of a bench, as PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.bench.result import BenchResult
from trt_anon.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS = ("throughput", "latency", "shares")
"""The names of all plots, without suffix."""

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#666666")


def write_plots(result: BenchResult, folder: Path) -> list[Path]:
    """Draw a result into a folder, which is made if it is not there, in the place of what is there, and give the files.

    throughput.png: frames per second of every part, with quartiles. latency.png: median, p95 and p99 of a frame.
    shares.png: how much of each limit was reached. Raises OutputError, PackageMissing without matplotlib.
    """
    figure_of = require("matplotlib.figure", "drawing plots").Figure
    drawn: tuple[Callable[[Axes, BenchResult], int], ...] = (_throughput, _latency, _shares)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in zip(PLOTS, drawn, strict=True):
            figure = figure_of(figsize=(8, 4.8), dpi=120, layout="constrained")
            axes = figure.subplots()
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, axis="x")
            rows = draw(axes, result)
            figure.set_size_inches(8, max(2.4, 1.6 + 0.2 * rows))
            path = folder / f"{name}.png"
            figure.savefig(path, format="png")
            written.append(path)
    except OSError as error:
        raise OutputError(f"cannot write plots into {folder}: {error.strerror}") from error
    return written


def _label(case_name: str, batch: int, batches: bool) -> str:
    return f"{case_name}, batch {batch}" if batches else case_name


def _grouped(
    axes: Axes, names: list[str], series: list[tuple[str, list[float], list[tuple[float, float]]]], unit: str
) -> int:
    """Horizontal bars, one group per name, one bar per series, with the interval of each."""
    height = 0.8 / max(len(series), 1)
    places = np.arange(len(names))[::-1]
    for number, (label, values, intervals) in enumerate(series):
        at = places + 0.4 - height * (number + 0.5)
        color = _COLORS[number % len(_COLORS)]
        ends = np.array([(v - low, high - v) for v, (low, high) in zip(values, intervals, strict=True)]).T.clip(0)
        axes.barh(at, values, height * 0.9, color=color, label=label, alpha=0.85)
        axes.errorbar(values, at, xerr=ends, fmt="none", color="black", capsize=2, lw=0.8)
        for y, value, (_, high) in zip(at, values, intervals, strict=True):
            if np.isfinite(value):
                axes.annotate(
                    f"{value:,.{0 if value >= 100 else 1}f}{unit}",
                    (max(value, high), y),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                )
    axes.set_yticks(places, names)
    axes.margins(x=0.15)
    if len(series) > 1:
        axes.figure.legend(frameon=False, loc="outside lower center", ncols=min(4, len(series)), fontsize=8)
    return len(names) * max(len(series), 1)


def _throughput(axes: Axes, result: BenchResult) -> int:
    names = list(dict.fromkeys(part for case in result.cases for part in case.parts))
    batches = len({case.batch for case in result.cases}) > 1
    series = []
    for case in result.cases:
        spreads = [case.parts[name].fps if name in case.parts else None for name in names]
        values = [s.median if s else np.nan for s in spreads]
        series.append(
            (
                _label(case.name, case.batch, batches),
                values,
                [(s.low, s.high) if s else (np.nan, np.nan) for s in spreads],
            )
        )
    axes.set_xscale("log")
    axes.set(xlabel="Frames per second (median and quartiles)", title="Each part alone, and the whole")
    return _grouped(axes, names, series, "")


def _latency(axes: Axes, result: BenchResult) -> int:
    names = list(dict.fromkeys(n for case in result.cases for n, part in case.parts.items() if part.latency))
    batches = len({case.batch for case in result.cases}) > 1
    series = []
    for case in result.cases:
        found = [case.parts[name].latency if name in case.parts else None for name in names]
        values = [one.median_ms if one else np.nan for one in found]
        series.append(
            (
                _label(case.name, case.batch, batches),
                values,
                [(v, one.p99_ms if one else np.nan) for v, one in zip(values, found, strict=True)],
            )
        )
    axes.set_xscale("log")
    axes.set(xlabel="Milliseconds of a frame: median, line to the 99th percentile", title="Latency")
    return _grouped(axes, names, series, " ms")


def _shares(axes: Axes, result: BenchResult) -> int:
    names = list(dict.fromkeys(name for case in result.cases for name in case.shares))
    batches = len({case.batch for case in result.cases}) > 1
    series = []
    for case in result.cases:
        spreads = [case.shares.get(name) for name in names]
        values = [100 * s.median if s else np.nan for s in spreads]
        series.append(
            (
                _label(case.name, case.batch, batches),
                values,
                [(100 * s.low, 100 * s.high) if s else (np.nan, np.nan) for s in spreads],
            )
        )
    axes.axvline(100, color="grey", lw=1, ls="--")
    axes.set(xlabel="Percent", title="How much of each limit was reached")
    return _grouped(axes, names, series, "%")
