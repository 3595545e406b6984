"""The page of the quantization benchmark, from the figures that `quantization.py` left in a machine's result file.

    python benchmarks/quantization_page.py benchmarks/results/MACHINE.json --docs docs

Writes the short table into docs/calibrate.md, between its two marks, and the long one with a plot to docs/calibration.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ORDER = (
    "yunet", "centerface", "retinaface", "ultralight-320", "ultralight-640", "yoloface",
    "lpd-yunet", "retinaface-plate",
)  # fmt: skip
METHODS = ("MinMax", "Percentile", "Entropy")
WAYS = ("calibrated", "calibrated, every kind of layer", *(f"ONNX Runtime {method}" for method in METHODS))
LOST_MORE = {"retinaface-plate"}
"""Detectors that lose more than half a point on pictures that no calibration has seen; docs/calibrate.md names them."""

BETTER_ELSEWHERE: frozenset[str] = frozenset()
"""Detectors of which one of ONNX Runtime's methods loses less, beyond chance."""

BEGIN = "<!-- written by benchmarks/quantization_page.py -->"
END = "<!-- until here -->"


def ordered(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in ORDER if name in figures}


def summary(quantization: Mapping[str, Any]) -> str:
    """Two tables with a row for each detector, as Markdown: what is lost by each way, and how fast it is."""
    figures = ordered(quantization["detectors"])
    return "\n".join([*_recall(figures), "", *_speed(figures), *_cost(quantization.get("calibrating"))]) + "\n"


def _recall(figures: Mapping[str, Any]) -> list[str]:
    heads = (
        "detector", "objects, pictures", "recall", "**INT8**", "**all kinds**", *METHODS, "INT8's multiply-adds",
        "all kinds",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in figures.items():
        networks = one["networks"]
        own = [networks[way] for way in WAYS[:2]]
        others = [networks[f"ONNX Runtime {method}"] for method in METHODS]
        cells = [
            name,
            f"{one['measured_on']['objects']}, {one['measured_on']['images']}",
            f"{networks['float32']['recall']:.1%}",
            *(f"**{entry['points_lost']:+.2f}**" for entry in own),
            *(f"{entry['points_lost']:+.2f}{mark(entry)}" for entry in others),
            *(f"{entry['multiply_adds_in_int8']:.0%}" for entry in own),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _speed(figures: Mapping[str, Any]) -> list[str]:
    exact, whole = WAYS[:2]
    shown = {
        "INT8": f"{exact}, f32", "all kinds": f"{whole}, f32", "ONNX Runtime's file": f"{WAYS[2]}, f32",
        "bfloat16": "float32, bf16", "INT8, rest bfloat16": f"{exact}, bf16", "all kinds ": f"{whole}, bf16",
    }  # fmt: skip
    lines = [f"| detector | pixels | float32, CPU ms | {' | '.join(shown)} |", "|---" * (len(shown) + 3) + "|"]
    for name, one in figures.items():
        speed = one["speed"]
        times = [speed["times_float32"].get(way) for way in shown.values()]
        cells = [
            name,
            "x".join(map(str, speed["size_px"])),
            f"{speed['cpu_ms']['float32, f32']['median']:.1f}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in times),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cost(spent: Mapping[str, Any] | None) -> list[str]:
    if not spent:
        return []
    run = spent["run"]
    minutes, core, peak = run["wall_seconds"] / 60, run["cpu_seconds"] / 60, run["peak_rss_mib"] / 1024
    took = f"{minutes:.1f} minutes on {spent['cores']} cores ({core:.1f} of one), and {peak:.2f} GiB at most"
    return ["", f"Calibrating {spent['detector']} on {spent['images']} pictures took {took}."]


def mark(entry: Mapping[str, Any]) -> str:
    """What stands behind a figure: whether its difference to ours is more than chance, or was not tested."""
    if "only_this_found" not in entry:
        return "†"
    return "" if by_chance(entry) else "*"


def by_chance(entry: Mapping[str, Any]) -> bool:
    """Whether what only one of two networks found may be chance (two-sided sign test, 5%)."""
    own, other = entry.get("only_calibrated_found", 0), entry.get("only_this_found", 0)
    total = own + other
    tail = sum(math.comb(total, k) for k in range(max(own, other), total + 1)) / 2**total
    return 2 * tail >= 0.05


def table(figures: Mapping[str, Any]) -> str:
    """All detectors and networks, as Markdown."""
    heads = (
        "detector", "network", "recall", "points lost", "objects lost, gained", "worst size", "boxes on nothing",
        "multiply-adds in INT8",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} | times float32's speed |", "|---" * (len(heads) + 1) + "|"]
    for name, one in figures.items():
        for network, entry in one["networks"].items():
            times = one.get("speed", {}).get("times_float32", {}).get(f"{network}, f32")
            best = "**" if network.startswith("calibrated") else ""
            lost = "" if network == "float32" else f"{best}{entry['points_lost']:+.2f}{best}"
            worst = (
                "" if network == "float32" else f"{entry['worst_size_points_lost']:+.2f} ({entry['worst_size_px']} px)"
            )
            churn = "" if network == "float32" else f"{entry['objects_lost']}, {entry['objects_gained']}"
            cells = (
                name if network == "float32" else "", network, f"{entry['recall']:.1%}", lost, churn, worst,
                str(entry["boxes_on_nothing"]), f"{entry['multiply_adds_in_int8']:.0%}",
                "" if times is None else f"{times:.2f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Points of recall lost by each way of quantizing."""
    from matplotlib.figure import Figure

    colors = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#cc79a7")
    figure = Figure(figsize=(9, 4.8), dpi=120, layout="constrained")
    axes = figure.subplots()
    shown = 6.0
    for number, (way, color) in enumerate(zip(WAYS, colors, strict=True)):
        lost = [one["networks"][way]["points_lost"] for one in figures.values()]
        places = np.arange(len(lost)) + (number - 2) * 0.16
        axes.bar(places, np.clip(lost, -2, shown), width=0.16, color=color, label=way)
        for place, points in zip(places, lost, strict=True):
            if points > shown:
                axes.annotate(f"{points:.0f}", (place, shown), ha="center", va="bottom", fontsize=7)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--")
    axes.annotate("allowed: 0.5", (len(figures) - 0.5, 0.5), ha="right", va="bottom", fontsize=8)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(figures)), figures)
    axes.set_ylabel("points of recall lost against float32")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.savefig(path)


def write_page(result: Mapping[str, Any], docs: Path) -> None:
    quantization = result["quantization"]
    page, folder = docs / "calibrate.md", docs / "calibration"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{summary(quantization)}\n{END}{after}", encoding="utf-8")
    figures = ordered(quantization["detectors"])
    folder.mkdir(exist_ok=True)
    (folder / "recall.md").write_text(long_page(result), encoding="utf-8")
    plot(figures, folder / "recall.png")


def long_page(result: Mapping[str, Any]) -> str:
    quantization, machine = result["quantization"], result["machine"]
    return (
        "# What INT8 costs each detector\n\n"
        f"By `benchmarks/quantization.py`, {quantization['date']}, {machine['cpu']}. What is lost and gained is\n"
        "against float32 in the same run; speeds are of OpenVINO on one thread.\n\n"
        f"{table(ordered(quantization['detectors']))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="of the machine")
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    options = parser.parse_args()
    write_page(json.loads(options.result.read_text()), options.docs)


if __name__ == "__main__":
    main()
