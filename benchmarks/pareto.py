"""Every detector that a user may ship, at several sizes and in several views: what stays exposed, and what it costs.

    python benchmarks/pareto.py --data ../shared [--class face|license_plate] [--out docs/pareto]

Writes a JSON file of all figures, a table (Markdown) and a plot (exposed share against milliseconds per image) for each
class. Threshold and growth are chosen on one half of the first set's images; the other half, which had no say in it,
and the other sets are what is reported. Cost is the median time from a decoded image to its detections, taken in rounds
that go through all configurations in turn, and quoted as a multiple of that of the cheapest.

Detectors that no command fetches are taken from `models/` in the data folder, where they are there (see candidates.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from candidates import CANDIDATES, Candidate, add_others

from trt_anon.api import make_config
from trt_anon.config import AnonymizeConfig
from trt_anon.evaluate import EvaluateConfig, evaluate, read_labels
from trt_anon.evaluate.dataset import LabelSet
from trt_anon.evaluate.speed import measure_speed
from trt_anon.machine import inspect_machine
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, choose_recipes

HERE = Path(__file__).parent
GROWS = (1.15, 1.3, 1.4, 1.5)
FLOOR = {"face": 0.05, "license_plate": 0.02}
SHAPE = {"face": "ellipse", "license_plate": "box"}
SETS = {
    "face": ("faces/facemask853", "faces/dlib_voc", "faces/coco34"),
    "license_plate": ("plates/carplate433", "plates/robertlucian107"),
}
MAX_REDACTED = {"face": 0.18, "license_plate": 0.12}
"""Configurations are compared at the threshold and growth that expose least with at most this share of pixels redacted
on the half that they are chosen on."""
ROUNDS = 3


class Bench:
    """What all candidates of a class are measured with."""

    def __init__(self, class_name: str, data: Path, others: Mapping[str, Path], timing_images: int) -> None:
        self.class_name, self.others, self.timing_images = class_name, others, timing_images
        self.registry = Registry()
        self.sets = {
            name: read_labels(data / "data" / name / "annotations.json", classes=(class_name,))
            for name in SETS[class_name]
        }

    def named(self, candidate: Candidate) -> tuple[str, ...]:
        """Names, or paths of recipes, of its detectors."""
        return tuple(str(self.others.get(name, name)) for name in candidate.detectors)

    def missing(self, candidate: Candidate) -> list[str]:
        """Those of its detectors that are not here."""
        known = {*self.registry.names(), *self.others}
        return [
            name
            for name, path in zip(candidate.detectors, self.named(candidate), strict=True)
            if name not in known or self.registry.state(self.registry.get(path)) != "ready"
        ]

    def config(self, candidate: Candidate, threshold: float) -> AnonymizeConfig:
        """The candidate as a configuration, but for its scales."""
        return make_config(
            classes=(self.class_name,),
            detectors=self.named(candidate),
            threshold=threshold,
            shape=SHAPE[self.class_name],
            flip=candidate.flip,
            fusion=candidate.fusion,
        )

    def measure(self, candidate: Candidate) -> dict[str, Any]:
        """Figures of one candidate on every set, at its best operating point on half of the first."""
        recipes = [self.registry.get(path) for path in self.named(candidate)]
        figures: dict[str, Any] = {
            "name": candidate.name,
            "licence": " + ".join(dict.fromkeys(recipe.licence.spdx for recipe in recipes)),
        }
        first, *rest = self.sets
        chosen_on, held_out = halves(self.sets[first])
        curves = self._curves(candidate, chosen_on)
        point = best_point(curves, MAX_REDACTED[self.class_name])
        figures["threshold"], figures["grow"] = point
        figures[first] = {"chosen_on": at_point(curves, *point)}
        figures[first]["held_out"] = at_point(self._curves(candidate, held_out), *point)
        for name in rest:
            figures[name] = at_point(self._curves(candidate, self.sets[name]), *point)
        return figures

    def _curves(self, candidate: Candidate, labels: LabelSet) -> dict[str, Any]:
        settings = EvaluateConfig(
            iou=0.3, floor=FLOOR[self.class_name], grows=GROWS, covers=(0.75, 0.9), timing_images=0
        )
        config = self.config(candidate, 0.3)
        result = evaluate(labels, config, settings, registry=self.registry, scales=candidate.scales)
        curves: dict[str, Any] = result.figures["curves"]
        return curves

    def time(self, results: Sequence[dict[str, Any]], candidates: Mapping[str, Candidate]) -> None:
        """Put the milliseconds of each result into it: of all of them in turn, several times over."""
        images = next(iter(self.sets.values())).images
        taken: dict[str, list[float]] = {result["name"]: [] for result in results}
        for _ in range(ROUNDS):
            for result in results:
                candidate = candidates[result["name"]]
                config = self.config(candidate, result["threshold"])
                recipes = choose_recipes(config, self.registry, candidate.scales)
                detector = FrameDetector.load(config, self.registry, recipes)
                try:
                    speed = measure_speed(images, detector, self.timing_images)
                finally:
                    detector.close()
                assert speed is not None
                taken[result["name"]].append(speed["latency_ms"]["median"])
        for result in results:
            result["ms_per_image"] = statistics.median(taken[result["name"]])


def halves(labels: LabelSet) -> tuple[LabelSet, LabelSet]:
    """Every second image, and the others."""
    return (
        dataclasses.replace(labels, images=labels.images[0::2]),
        dataclasses.replace(labels, images=labels.images[1::2]),
    )


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


def held_out(result: dict[str, Any], folder: str) -> dict[str, float]:
    """The figures of a set that had no say in the choice."""
    figures: dict[str, float] = result[folder].get("held_out", result[folder])
    return figures


def front(results: Sequence[dict[str, Any]], class_name: str) -> list[dict[str, Any]]:
    """What nothing beats in both cost and exposed share, cheapest first."""
    first, best, found = SETS[class_name][0], float("inf"), []
    for result in sorted(results, key=lambda r: float(r["ms_per_image"])):
        exposed = held_out(result, first)["exposed"]
        if exposed < best:
            best = exposed
            found.append(result)
    return found


def table(results: Sequence[dict[str, Any]], class_name: str) -> str:
    """A Markdown table, cheapest first; what is on the front is bold."""
    sets = SETS[class_name]
    names = [folder.partition("/")[2] for folder in sets]
    lines = [
        "| detectors @ views | licence | ms | cost | threshold | grow | "
        + " | ".join(f"exposed: {name}" for name in names)
        + " | recall: "
        + " / ".join(names)
        + f" | redacted: {names[0]} |",
        "|---|" + "---|" * (7 + len(sets)),
    ]
    cheapest = min(result["ms_per_image"] for result in results)
    best = [result["name"] for result in front(results, class_name)]
    for result in sorted(results, key=lambda r: float(r["ms_per_image"])):
        exposed = " | ".join(f"{100 * held_out(result, folder)['exposed']:.1f}%" for folder in sets)
        recall = " / ".join(f"{held_out(result, folder)['recall_at_iou_0.3']:.3f}" for folder in sets)
        name = f"**{result['name']}**" if result["name"] in best else result["name"]
        lines.append(
            f"| {name} | {result['licence']} | {result['ms_per_image']:.1f} | "
            f"{result['ms_per_image'] / cheapest:.1f} | {result['threshold']:.2f} | {result['grow']:g} | {exposed} | "
            f"{recall} | {100 * held_out(result, sets[0])['redacted']:.1f}% |"
        )
    return "\n".join(lines) + "\n"


def plot(results: Sequence[dict[str, Any]], class_name: str, path: Path) -> None:
    """Exposed share on the first set against cost, with the front; only what is on the front is named in full."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    first = SETS[class_name][0]
    objects = class_name.replace("_", " ")
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    best = front(results, class_name)
    for result in results:
        x, y = result["ms_per_image"], 100 * held_out(result, first)["exposed"]
        on_front = result in best
        axes.scatter(x, y, color="C1" if on_front else "C0", zorder=3)
        axes.annotate(
            result["name"],
            (x, y),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=8 if on_front else 6,
            color="black" if on_front else "grey",
        )
    points = [(r["ms_per_image"], 100 * held_out(r, first)["exposed"]) for r in best]
    axes.step(*zip(*points, strict=True), where="post", color="C1", label="front")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="ms per image (median, from decoded image to detections)",
        ylabel=f"{objects}s exposed (covered less than 75%), held-out half of {first.partition('/')[2]}",
    )
    times = [result["ms_per_image"] for result in results]
    axes.set_xlim(min(times) / 1.2, max(times) * 2)  # room for the last name
    for axis, ticks, unit in (
        (axes.xaxis, (2, 5, 10, 20, 50, 100, 200, 500), ""),
        (axes.yaxis, (1, 2, 5, 10, 20, 50), "%"),
    ):
        axis.set_major_locator(mpl.ticker.FixedLocator(ticks))
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda tick, _, unit=unit: f"{tick:g}{unit}"))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run(class_name: str, arguments: argparse.Namespace, others: Mapping[str, Path]) -> None:
    """Measure, write and draw one class."""
    bench = Bench(class_name, arguments.data, others, arguments.timing_images)
    out = arguments.out / class_name
    file = out.with_suffix(".json")
    results = json.loads(file.read_text())["results"] if arguments.resume and file.exists() else []
    candidates = {candidate.name: candidate for candidate in CANDIDATES[class_name]}
    results = [
        result for result in results if result["name"] in candidates and "held_out" in result[SETS[class_name][0]]
    ]

    def keep() -> None:
        figures = {"machine": inspect_machine().to_dict(), "results": results}
        file.write_text(json.dumps(figures, indent=2) + "\n")

    for name, candidate in candidates.items():
        missing = bench.missing(candidate)
        if missing:
            print(f"left out, {', '.join(missing)} not here: {name}", file=sys.stderr)
        elif not any(result["name"] == name for result in results):
            results.append(bench.measure(candidate))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
            keep()
    if not arguments.timing_images:
        return
    if arguments.time_again or any("ms_per_image" not in result for result in results):
        bench.time([r for r in results if not bench.missing(candidates[r["name"]])], candidates)
        keep()
    out.with_suffix(".md").write_text(table(results, class_name))
    plot(results, class_name, out.with_suffix(".png"))
    print(table(results, class_name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="folder of data/ and models/")
    parser.add_argument("--class", dest="classes", choices=sorted(SETS), action="append", help="default: both")
    parser.add_argument("--timing-images", type=int, default=24, help="0: times, table and plot are for a later run")
    parser.add_argument("--resume", action="store_true", help="keep the results that --out has already")
    parser.add_argument("--time-again", action="store_true", help="with --resume: measure all times anew")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "pareto")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trt-anon-pareto-") as folder:
        others = add_others(arguments.data / "models", Path(folder))
        for class_name in arguments.classes or sorted(SETS):
            run(class_name, arguments, others)


if __name__ == "__main__":
    main()
