"""INT8 against float32: recall lost, share of multiply-adds, speed, and what calibrating takes.

    python benchmarks/quantization.py --data ../shared --result benchmarks/results/MACHINE.json [--out docs/calibration]
        [--calibrations calibration] [--detector yunet ...] [--skip recall|speed|cost ...]

Each detector is calibrated on one half of a set of labelled pictures (part of it for ranges, part to choose layers by),
and measured on pictures that no calibration has seen, beside the networks that ONNX Runtime's `quantize_static` makes
of the same pictures by its three methods. Recall is measured with OpenVINO, in float32 arithmetic but for what is INT8.
Detectors that no command fetches are taken from the data folder. Figures are written after each detector, and a later
run with other detectors adds to them; `quantization_page.py` makes the page of them. `--calibrations` writes what was
found for the library's own detectors to the folder that comes with the library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from harness import Spread, run_command, write_result

from trt_anon.build.quantize.layers import find_layers, multiply_adds
from trt_anon.build.quantize.plan import plan_of
from trt_anon.calibrate import CalibrateConfig, Draft, Outcome, choose, draft
from trt_anon.calibrate.plot import draw
from trt_anon.calibrate.recall import Recall, RecallMeter, Verdict, compare
from trt_anon.calibrate.write import write_outcome
from trt_anon.config import RuntimeConfig
from trt_anon.evaluate import LabelSet, read_labels
from trt_anon.models.add import Wish, add_model
from trt_anon.models.registry import Registry
from trt_anon.runtime.openvino import OpenVinoRunner, _shared_core

EXACT = RuntimeConfig(device="cpu", runtime="openvino", precision="f32")
EVERY_KIND = ("depthwise", "transposed", "head", "few channels")
METHODS = ("MinMax", "Percentile", "Entropy")
IMAGES = 96
ROUNDS = 51
PIXELS_PX = (640, 384)
"""Of the detectors that take any size."""

FACES = ("faces/facemask853",)
PLATES = ("plates/carplate433",)
UNSEEN_PLATES = ("plates/robertlucian_train", "plates/robertlucian107")
FACE_ANCHORS = [[4, 6], [7, 10], [11, 15], [16, 24], [33, 25], [26, 41], [47, 60], [83, 97], [141, 149]]


@dataclass(frozen=True)
class Subject:
    """A detector to measure: its file in the data folder and how it is added, None for one of the library's own."""

    name: str
    class_name: str
    file: str | None = None
    wish: Mapping[str, Any] | None = None


SUBJECTS = (
    Subject("yunet", "face"),
    Subject("centerface", "face"),
    Subject("retinaface", "face", "retinaface_mnet025"),
    Subject("ultralight-320", "face", "ultralight_version-RFB-320", {"classes": ("face",)}),
    Subject("ultralight-640", "face", "ultralight_version-RFB-640", {"classes": ("face",)}),
    Subject(
        "yoloface", "face", "dk_yoloface-500k-v2",
        {
            "classes": ("face",), "family": "yolov3", "options": {"anchors_px": FACE_ANCHORS},
            "input": {"fit": "stretch"},
        },
    ),
    Subject("lpd-yunet", "license_plate"),
    Subject("retinaface-plate", "license_plate"),
)  # fmt: skip


def detectors(data: Path, folder: Path) -> Registry:
    """A registry with all subjects, in folders of its own; models that commands fetch are taken from the user's."""
    models, recipes = folder / "models", folder / "recipes"
    models.mkdir()
    recipes.mkdir()
    own = Registry()
    for name in ("centerface", "retinaface-plate"):
        (models / f"{name}.onnx").write_bytes(own.fetch(own.get(name)).read_bytes())
    lpd = own.get("lpd-yunet")
    (models / lpd.source.path).write_bytes((data / "models" / "lpd_yunet_2023mar.onnx").read_bytes())
    os.environ |= {"TRT_ANON_MODELS": str(models), "TRT_ANON_RECIPES": str(recipes)}
    for subject in SUBJECTS:
        if subject.file is not None:
            wish = Wish(name=subject.name, **(subject.wish or {}))
            add_model(data / "models" / f"{subject.file}.onnx", wish, Registry())
    return Registry()


def halves(labels: LabelSet, seed: int = 0) -> tuple[LabelSet, LabelSet]:
    """Two halves of the pictures, that a seed decides."""
    order = np.random.default_rng(seed).permutation(len(labels.images))
    first = set(order[: len(order) // 2].tolist())
    chosen = [replace(labels, images=tuple(i for n, i in enumerate(labels.images) if (n in first) == wanted))
              for wanted in (True, False)]  # fmt: skip
    return chosen[0], chosen[1]


def together(sets: Sequence[LabelSet]) -> LabelSet:
    return replace(sets[0], images=tuple(image for one in sets for image in one.images))


def labelled(data: Path, subject: Subject) -> tuple[LabelSet, LabelSet]:
    """Pictures to calibrate on, and pictures to measure on; frames of one drive are on one side."""

    def read(folder: str) -> LabelSet:
        return read_labels(data / "data" / folder / "annotations.json", classes=(subject.class_name,))

    first, second = halves(together([read(name) for name in (FACES if subject.class_name == "face" else PLATES)]))
    if subject.class_name == "license_plate":
        unseen = [read(name) for name in UNSEEN_PLATES]
        second = together([second, halves(unseen[0])[0], *unseen[1:]])  # half of many alike frames
    return first, second


class Reader:
    """The pictures of a calibration for ONNX Runtime."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


@contextmanager
def few_at_a_time(count: int = 4) -> Iterator[None]:
    """Let ONNX Runtime's histograms take pictures in portions of one size, which they add up.

    Else they hold all values of all pictures, and fail where sizes differ. Their bins are of one width, which NumPy is
    told, as it sorts all values otherwise.
    """
    from onnxruntime.quantization.calibrate import HistogramCalibrater

    whole, histogram = HistogramCalibrater.collect_data, np.histogram

    def collect(self: Any, reader: Any) -> None:
        portion: list[dict[str, Any]] = []
        while (feed := reader.get_next()) is not None:
            if portion and (len(portion) == count or shapes(feed) != shapes(portion[0])):
                whole(self, Reader(iter(portion)))
                portion = []
            portion.append(feed)
        if portion:
            whole(self, Reader(iter(portion)))

    def shapes(feed: Mapping[str, Any]) -> list[tuple[int, ...]]:
        return [array.shape for array in feed.values()]

    def uniform(values: Any, bins: Any = 10, **rest: Any) -> Any:
        if np.ndim(bins) != 1:
            return histogram(values, bins, **rest)
        counts, _ = histogram(values, len(bins) - 1, range=(float(bins[0]), float(bins[-1])))
        return counts, bins

    HistogramCalibrater.collect_data, np.histogram = collect, uniform
    try:
        yield
    finally:
        HistogramCalibrater.collect_data, np.histogram = whole, histogram


def by_onnxruntime(drafted: Draft, method: str, folder: Path) -> onnx.ModelProto:
    """What `quantize_static` makes of the same network and pictures: per channel, Q/DQ, all layers."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    before, after = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(drafted.subject.model, before)
    feeds = drafted.subject.prepared().feeds(drafted.data.ranges)
    with few_at_a_time():
        quantize_static(
            before, after, Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )  # fmt: skip
    return onnx.load(after)


def recall_of(
    subject: Subject, data: Path, registry: Registry, out: Path | None, calibrations: Path | None
) -> tuple[dict[str, Any], dict[str, onnx.ModelProto]]:
    """Recall of one detector in float32, calibrated in two ways, and by ONNX Runtime; and the networks."""
    calibration, test = labelled(data, subject)
    config = CalibrateConfig(images=min(IMAGES, len(calibration.images) // 2))
    started = time.perf_counter()
    drafted = draft(subject.name, calibration, config, registry=registry, runtime=EXACT, on_progress=tell)
    outcomes = {"calibrated": choose(drafted, on_progress=tell)}
    outcomes["calibrated, every kind of layer"] = choose(drafted, EVERY_KIND, on_progress=tell)
    seconds = time.perf_counter() - started
    if calibrations is not None and subject.file is None:
        folders = FACES if subject.class_name == "face" else PLATES
        described = f"half of {' and '.join(folder.partition('/')[2] for folder in folders)}, chosen by the seed"
        *_, plot_path = write_outcome(outcomes["calibrated"], calibrations, described, overwrite=True)
        plot_path.unlink()  # it is among the pages
    loaded = drafted.subject
    networks: dict[str, onnx.ModelProto] = {"float32": loaded.model}
    for name, outcome in outcomes.items():
        networks[name] = plan_of(loaded.model, outcome.calibration).quantized(inside(outcome))
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            networks[f"ONNX Runtime {method}"] = by_onnxruntime(drafted, method, Path(folder))
    meter = RecallMeter(loaded.recipe, loaded.family, test, EXACT, config.iou)
    recalls = {}
    for name, network in networks.items():
        recalls[name] = meter.measure(network, lambda done, total, name=name: tell(f"test, {name}", done, total))
    counts = multiply_adds(loaded.pinned(), find_layers(loaded.model))
    shares = {
        name: sum(counts[layer] for layer in inside(outcome)) / sum(counts.values())
        for name, outcome in outcomes.items()
    }
    rows = {
        name: row(recalls["float32"], recall, config, shares.get(name, 0.0 if name == "float32" else 1.0))
        | duel(recalls["calibrated"], recall)
        for name, recall in recalls.items()
    }
    if out is not None:
        draw(outcomes["calibrated"].report, out / f"{subject.name}.png")
    return {
        "calibrated_on": {"ranges": len(drafted.data.ranges), "layers_chosen_by": len(drafted.data.judged.images)},
        "measured_on": {"images": len(test.images), "objects": recalls["float32"].share()[1]},
        "threshold": loaded.recipe.threshold,
        "kept_for_recall": {name: one.report["int8"]["kept_for_recall"] for name, one in outcomes.items()},
        "seconds_both_calibrations": seconds,
        "networks": rows,
    }, networks


def inside(outcome: Outcome) -> list[str]:
    calibration = outcome.calibration
    return [name for name in calibration.weights if name not in calibration.high]


def row(before: Recall, after: Recall, config: CalibrateConfig, share: float) -> dict[str, Any]:
    verdict: Verdict = compare(before, after, config)
    worst = max(verdict.drops[1:], key=lambda drop: drop.points)
    found, objects = after.share()
    return {
        "recall": found / objects, "points_lost": verdict.overall.points,
        "objects_lost": int((before.found & ~after.found).sum()),
        "objects_gained": int((after.found & ~before.found).sum()), "worst_size_px": worst.name,
        "worst_size_points_lost": worst.points, "boxes_on_nothing": after.wrong, "multiply_adds_in_int8": share,
    }  # fmt: skip


def duel(own: Recall, other: Recall) -> dict[str, int]:
    """Objects that only one of two networks finds: whether one is better, or it is chance."""
    return {
        "only_calibrated_found": int((own.found & ~other.found).sum()),
        "only_this_found": int((other.found & ~own.found).sum()),
    }


def speed_of(subject: Subject, networks: Mapping[str, onnx.ModelProto], registry: Registry) -> dict[str, Any]:
    """Milliseconds of the processor for one inference on one thread, all in turn."""
    from trt_anon.calibrate.subject import Subject as Loaded

    loaded = Loaded.load(subject.name, registry)
    width, height = loaded.family.input_spec.size_px or PIXELS_PX
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    has_bf16 = "BF16" in _shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    with tempfile.TemporaryDirectory() as folder:
        runners = {}
        for name in [name for name in networks if not name.startswith("ONNX Runtime") or name.endswith("MinMax")]:
            path = Path(folder) / f"{len(runners)}.onnx"
            onnx.save(networks[name], path)
            for precision in ("f32", "bf16") if has_bf16 else ("f32",):
                try:
                    runner = OpenVinoRunner(path, threads=1, precision=precision)
                    runner.prepare({"pixels": picture.shape})
                except Exception as error:  # noqa: BLE001 - OpenVINO has no bf16 form of asymmetric convolutions
                    print(f"  {subject.name}, {name}, {precision}: {str(error)[:90]}", file=sys.stderr)
                    continue
                runners[f"{name}, {precision}"] = runner
        times: dict[str, list[float]] = {name: [] for name in runners}
        for number in range(ROUNDS + 3):
            for name, runner in runners.items():
                started = time.process_time()  # of the processor: others who run take wall time, not this
                runner.run({"pixels": picture})
                if number >= 3:
                    times[name].append(1000 * (time.process_time() - started))
        for runner in runners.values():
            runner.close()
    spreads = {name: Spread.of(values) for name, values in times.items()}
    base = spreads["float32, f32"].median
    return {
        "size_px": [width, height],
        "cpu_ms": spreads,
        "times_float32": {name: base / spread.median for name, spread in spreads.items()},
    }


def cost(data: Path) -> dict[str, Any]:
    """What the command takes for CenterFace on 200 pictures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("trt-anon")), "calibrate", "centerface",
            str(data / "data" / FACES[0]), "--images", "200", "--output", folder, "--quiet",
        ]  # fmt: skip
        run = run_command(command)
    return {"detector": "centerface", "images": 200, "cores": os.cpu_count(), "run": run}


def keep(networks: Mapping[str, onnx.ModelProto], folder: Path | None) -> None:
    """Keep the networks, so that their speed can be measured another time."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, network in networks.items():
            onnx.save(network, folder / f"{name}.onnx")


def tell(title: str, done: int, total: int) -> None:
    if done == total:
        print(f"  {title}: {total}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder for the plots of layers")
    parser.add_argument("--calibrations", type=Path, help="folder for calibrations of the library's own detectors")
    parser.add_argument(
        "--networks",
        type=Path,
        help="folder to keep networks in; with --skip recall, to measure the speed of those there",
    )
    parser.add_argument("--detector", action="append", choices=[one.name for one in SUBJECTS])
    parser.add_argument("--skip", action="append", choices=("recall", "speed", "cost"), default=[])
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.result.read_text()).get("quantization", {}) if options.result.exists() else {}
    figures: dict[str, Any] = dict(known.get("detectors", {}))
    spent = known.get("calibrating")
    with tempfile.TemporaryDirectory(prefix="trt-anon-bench-") as folder:
        registry = detectors(options.data, Path(folder))
        for subject in SUBJECTS:
            if options.detector and subject.name not in options.detector:
                continue
            print(subject.name, file=sys.stderr, flush=True)
            kept = None if options.networks is None else options.networks / subject.name
            if "recall" not in options.skip:
                speed = figures.get(subject.name, {}).get("speed")
                figures[subject.name], networks = recall_of(
                    subject, options.data, registry, options.out, options.calibrations
                )
                if speed is not None:
                    figures[subject.name]["speed"] = speed
                keep(networks, kept)
            elif kept is None or not kept.is_dir():
                continue
            else:
                networks = {path.stem: onnx.load(path) for path in sorted(kept.glob("*.onnx"))}
            if "speed" not in options.skip:
                figures[subject.name]["speed"] = speed_of(subject, networks, registry)
            write_result(options.result, "quantization", {"detectors": figures, "calibrating": spent})
        if "cost" not in options.skip:
            spent = cost(options.data)
            write_result(options.result, "quantization", {"detectors": figures, "calibrating": spent})
    return 0


if __name__ == "__main__":
    sys.exit(main())
