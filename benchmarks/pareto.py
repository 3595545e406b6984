"""Every detector that a user may ship, at several sizes and scale sets: what stays exposed, and what it costs.

    python benchmarks/pareto.py --data ../shared [--class face|license_plate] [--out docs/pareto]

Writes a JSON file of all figures, a table (Markdown) and a plot (exposed share against milliseconds per image) for each
class. Cost is the median of the time from a decoded image to its detections, and is quoted as a multiple of that of the
cheapest configuration of the same run, beside the milliseconds.

Detectors that no command fetches (LPD-YuNet) are taken from the folder named by TRT_ANON_MODELS where they are there.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_anon.api import make_config
from trt_anon.config import Scale
from trt_anon.evaluate import EvaluateConfig, evaluate, read_labels
from trt_anon.evaluate.speed import measure_speed
from trt_anon.machine import inspect_machine
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, choose_recipes

HERE = Path(__file__).parent
GROWS = (1.0, 1.15, 1.3, 1.4, 1.5, 1.6)
SETS = {
    "face": ("faces/facemask853", "faces/dlib_voc", "faces/coco34"),
    "license_plate": ("plates/carplate433", "plates/robertlucian107", "plates/robertlucian_train"),
}
MAX_REDACTED = {"face": 0.18, "license_plate": 0.10}
"""Configurations are compared at the threshold and growth that expose least with at most this share of pixels redacted
on the first set."""


def native() -> Scale:
    return Scale(max_long_side_px=1920)


def at(side: int) -> Scale:
    """The longer side is exactly this."""
    return Scale(min_long_side_px=side, max_long_side_px=side)


def at_least(side: int) -> Scale:
    return Scale(min_long_side_px=side, max_long_side_px=1920)


@dataclass(frozen=True)
class Candidate:
    """A set of detectors and the passes of each."""

    detectors: tuple[str, ...]
    scales: tuple[Scale, ...]

    @property
    def name(self) -> str:
        return f"{' + '.join(self.detectors)} @ {', '.join(map(describe, self.scales))}"


def describe(scale: Scale) -> str:
    low, high = scale.min_long_side_px, scale.max_long_side_px
    if low == high:
        return str(low)
    return f">={low}" if low else "native"


CANDIDATES = {
    "face": [
        *(
            Candidate(("yunet",), scales)
            for scales in (
                (native(),),
                (at_least(640),),
                (at_least(960),),
                (at_least(1280),),
                (native(), at_least(960)),
                (native(), at_least(1280)),
                (at(480), at_least(960)),
                (at(640), at_least(1280)),
                (at(480), at(960), at(1600)),
            )
        ),
        *(Candidate(("centerface",), (scale,)) for scale in (native(), at_least(640), at_least(960))),
        Candidate(("yunet", "centerface"), (at_least(960),)),
        Candidate(("yunet", "centerface"), (at(640), at_least(1280))),
    ],
    "license_plate": [
        *(
            Candidate(("retinaface-plate",), scales)
            for scales in ((at(320),), (at(640),), (at(960),), (at(320), at(640)), (at(320), at(640), at(1280)))
        ),
        Candidate(("lpd-yunet",), (at(320),)),  # has one size
        Candidate(("retinaface-plate", "lpd-yunet"), (at(320), at(640))),
        Candidate(("retinaface-plate", "lpd-yunet"), (at(320), at(640), at(1280))),
    ],
}


def measure(candidate: Candidate, class_name: str, data: Path, timing_images: int) -> dict[str, Any]:
    """Figures of one candidate on every set, at its best operating point on the first."""
    config = make_config(classes=(class_name,), detectors=candidate.detectors, threshold=0.3)
    shape = "ellipse" if class_name == "face" else "box"
    config = make_config(config, shape=shape)
    figures: dict[str, Any] = {"name": candidate.name}
    point: tuple[float, float] | None = None
    for number, folder in enumerate(SETS[class_name]):
        labels = read_labels(data / "data" / folder / "annotations.json", classes=(class_name,))
        settings = EvaluateConfig(
            iou=0.3, floor=0.05, grows=GROWS, covers=(0.75, 0.9), timing_images=0 if number else timing_images
        )
        result = evaluate(labels, config, settings, scales=candidate.scales).figures
        curves = result["curves"]
        if point is None:
            point = best_point(curves, MAX_REDACTED[class_name])
            figures["threshold"], figures["grow"] = point
            figures["ms_per_image"] = result["speed"]["latency_ms"]["median"]
        figures[folder] = at_point(curves, *point)
    return figures


def time_again(results: list[dict[str, Any]], class_name: str, data: Path, images: int) -> None:
    """Replace the milliseconds of results that are there by new ones, of all candidates in turn."""
    registry = Registry()
    labels = read_labels(data / "data" / SETS[class_name][0] / "annotations.json", classes=(class_name,))
    by_name = {candidate.name: candidate for candidate in CANDIDATES[class_name]}
    for result in results:
        candidate = by_name[result["name"]]
        config = make_config(classes=(class_name,), detectors=candidate.detectors, threshold=result["threshold"])
        recipes = choose_recipes(config, registry, candidate.scales)
        detector = FrameDetector.load(config, registry, recipes)
        try:
            speed = measure_speed(labels.images, detector, images)
        finally:
            detector.close()
        assert speed is not None
        result["ms_per_image"] = speed["latency_ms"]["median"]


def best_point(curves: dict[str, Any], max_redacted: float) -> tuple[float, float]:
    """(threshold, growth) that exposes least with at most that share of the pixels redacted."""
    points = [
        (exposed, redacted, threshold, float(grow))
        for grow, curve in curves["by_growth"].items()
        for threshold, exposed, redacted in zip(
            curves["threshold"], curve["exposed"]["0.75"], curve["redacted"], strict=True
        )
        if redacted <= max_redacted
    ]
    _, _, threshold, grow = min(points)
    return threshold, grow


def at_point(curves: dict[str, Any], threshold: float, grow: float) -> dict[str, float]:
    """The figures of one set at a threshold and growth."""
    place = curves["threshold"].index(threshold)
    curve = curves["by_growth"][f"{grow:g}"]
    return {
        "recall_at_iou_0.3": curves["recall"][place],
        "exposed": curve["exposed"]["0.75"][place],
        "exposed_0.9": curve["exposed"]["0.9"][place],
        "redacted": curve["redacted"][place],
    }


def table(results: list[dict[str, Any]], class_name: str) -> str:
    """A Markdown table, cheapest first."""
    sets = SETS[class_name]
    names = [folder.partition("/")[2] for folder in sets]
    lines = [
        "| detectors @ longer sides | ms | cost | threshold | grow | "
        + " | ".join(f"exposed: {name}" for name in names)
        + " | recall: "
        + " / ".join(names)
        + f" | redacted: {names[0]} |",
        "|---|" + "---|" * (6 + len(sets)),
    ]
    cheapest = min(result["ms_per_image"] for result in results)
    for result in sorted(results, key=lambda r: float(r["ms_per_image"])):
        exposed = " | ".join(f"{100 * result[folder]['exposed']:.1f}%" for folder in sets)
        recall = " / ".join(f"{result[folder]['recall_at_iou_0.3']:.3f}" for folder in sets)
        lines.append(
            f"| {result['name']} | {result['ms_per_image']:.1f} | {result['ms_per_image'] / cheapest:.1f} | "
            f"{result['threshold']:.2f} | {result['grow']:g} | {exposed} | {recall} | "
            f"{100 * result[sets[0]]['redacted']:.1f}% |"
        )
    return "\n".join(lines) + "\n"


def plot(results: list[dict[str, Any]], class_name: str, path: Path) -> None:
    """Exposed share on the first set against cost; the front is what nothing beats in both."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    first = SETS[class_name][0]
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    lowest = float("inf")
    front = []
    for result in sorted(results, key=lambda r: float(r["ms_per_image"])):
        x, y = result["ms_per_image"], 100 * result[first]["exposed"]
        if y < lowest:
            lowest = y
            front.append((x, y))
        axes.scatter(x, y, color="C0")
        axes.annotate(result["name"], (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.step(*zip(*front, strict=True), where="post", color="C1", label="front")
    axes.set(
        xscale="log",
        xlabel="ms per image (median, from decoded image to detections)",
        ylabel=f"exposed: {class_name.replace('_', ' ')}s covered less than 75%, in % ({first.partition('/')[2]})",
        ylim=(0, None),
    )
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder that holds data/")
    parser.add_argument("--class", dest="classes", choices=sorted(SETS), action="append", help="default: both")
    parser.add_argument("--timing-images", type=int, default=60)
    parser.add_argument("--resume", action="store_true", help="keep the results that --out has already")
    parser.add_argument(
        "--time-again", action="store_true", help="with --resume: measure the times anew, on a quiet machine"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "pareto")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    registry = Registry()
    for class_name in arguments.classes or sorted(SETS):
        out = arguments.out / class_name
        file = out.with_suffix(".json")
        results = json.loads(file.read_text())["results"] if arguments.resume and file.exists() else []
        for candidate in CANDIDATES[class_name]:
            missing = [name for name in candidate.detectors if registry.state(registry.get(name)) != "ready"]
            if missing:
                print(f"left out, {', '.join(missing)} not here: {candidate.name}", file=sys.stderr)
            elif not any(result["name"] == candidate.name for result in results):
                results.append(measure(candidate, class_name, arguments.data, arguments.timing_images))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
                figures = {"machine": inspect_machine().to_dict(), "results": results}
                file.write_text(json.dumps(figures, indent=2) + "\n")
        if arguments.time_again:
            time_again(results, class_name, arguments.data, arguments.timing_images)
            figures = {"machine": inspect_machine().to_dict(), "results": results}
            file.write_text(json.dumps(figures, indent=2) + "\n")
        out.with_suffix(".md").write_text(table(results, class_name))
        plot(results, class_name, out.with_suffix(".png"))
        print(table(results, class_name))


if __name__ == "__main__":
    main()
