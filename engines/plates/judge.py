"""Judge the folds' networks: each real picture by the one that has not seen it, pictures without plates, rendered plates.

    python engines/plates/judge.py --data ../shared --networks build/plates --result engines/plates/judged.json

`--networks` holds fold0.onnx to fold2.onnx, from `export.py`; `--network` judges one on everything, seen in training or not.
Runs on OpenVINO, with the decoding of the library. Figures per threshold: recall at IoU 0.3, also by width of the plate; the
share of plates of which 75% and 90% lie under grown boxes (box and corners together), and under grown quadrilaterals of the
corners; boxes on no plate per picture.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import openvino
from data import FOLDS, UNLABELLED, fold_of, load_cars, load_others, overlaps
from render import DESIGNS, Fonts
from scenes import Photo, SceneMaker, Settings

from trt_anon.detect.yunet import YuNetPlate

BUCKETS = ((8, 16), (16, 32), (32, 64), (64, 10000))
GROWTHS = (1.2, 1.3, 1.4, 1.5)
THRESHOLDS = (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8)
FLOOR = 0.28
RECALLS = (0.8, 0.85, 0.9, 0.93, 0.95)
RENDERED_SIDE_PX = 640
NO_PLATES = "no_plates"


@dataclass(frozen=True)
class Found:
    """boxes (N, 4), quads (N, 4, 2), scores (N,), the best first, in pixels of the picture."""

    boxes: np.ndarray
    quads: np.ndarray
    scores: np.ndarray


class Network:
    """A fold's network on OpenVINO, in FP32."""

    def __init__(self, file: Path, threads: int = 2) -> None:
        properties = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.model = openvino.Core().compile_model(str(file), "CPU", properties)
        self.family = YuNetPlate()

    def find(self, pixels: np.ndarray, long_side: int) -> Found:
        """All boxes above FLOOR in an RGB picture brought to a longer side, before suppression."""
        height, width, _ = pixels.shape
        scale = long_side / max(height, width)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=method)
        rows, columns = (-(-side // 32) * 32 for side in small.shape[:2])
        padded = np.zeros((1, 3, rows, columns), np.float32)
        padded[0, :, : small.shape[0], : small.shape[1]] = small[..., ::-1].transpose(2, 0, 1)
        made = self.model(padded)
        outputs = {name: made[name] for name in self.family.output_names}
        (found,) = self.family.decode(outputs, (rows, columns), FLOOR)
        assert found.landmarks is not None
        return Found(found.boxes_xyxy / scale, found.landmarks / scale, found.scores)


def together(passes: Sequence[Found], overlap: float = 0.4) -> Found:
    """The boxes of several passes after suppression."""
    boxes, quads, scores = (np.concatenate([getattr(p, n) for p in passes]) for n in ("boxes", "quads", "scores"))
    order = np.argsort(-scores, kind="stable")[:2000]
    boxes, quads, scores = boxes[order], quads[order], scores[order]
    chosen, left = [], np.ones(len(scores), bool)
    for n in range(len(scores)):
        if left[n]:
            chosen.append(n)
            left &= overlaps(boxes[n], boxes) < overlap
    return Found(boxes[chosen], quads[chosen], scores[chosen])


def covered(box: np.ndarray, shapes: Sequence[np.ndarray]) -> float:
    """The share of a box that polygons cover."""
    x0, y0, x1, y1 = box
    unit = 64 / max(x1 - x0, y1 - y0, 1e-3)
    size = (max(int((x1 - x0) * unit), 1), max(int((y1 - y0) * unit), 1))
    mask = np.zeros(size[::-1], np.uint8)
    for shape in shapes:
        if (shape.max(axis=0) < box[:2]).any() or (shape.min(axis=0) > box[2:]).any():
            continue
        cv2.fillPoly(mask, [np.round((shape - (x0, y0)) * unit).astype(np.int32)], 1)
    return float(mask.mean())


def _grown(points: np.ndarray, growth: float) -> np.ndarray:
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return (points - centre) * growth + centre


def _corners(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def judge(photos: Sequence[Photo], found: Sequence[Found], threshold: float) -> dict[str, object]:
    """The figures of a set of pictures at a threshold."""
    hits, widths, wrong, unlabelled = [], [], 0, 0
    covers: dict[tuple[str, float], list[float]] = {(kind, g): [] for kind in ("box", "quad") for g in GROWTHS}
    for photo, result in zip(photos, found, strict=True):
        kept = result.scores >= threshold
        boxes, quads = result.boxes[kept], result.quads[kept]
        for truth in photo.boxes:
            hits.append(bool((overlaps(truth, boxes) >= 0.3).any()))
            widths.append(truth[2] - truth[0])
            for growth in GROWTHS:
                covers["box", growth].append(covered(truth, [_grown(_corners(box), growth) for box in boxes]))
                covers["quad", growth].append(covered(truth, [_grown(quad, growth) for quad in quads]))
        strange = [box for box in boxes if not len(photo.boxes) or bool((overlaps(box, photo.boxes) < 0.3).all())]
        wrong += len(strange)
        others = np.array(UNLABELLED.get(photo.name, []), np.float32).reshape(-1, 4)
        unlabelled += sum(bool((overlaps(box, others) >= 0.3).any()) for box in strange)
    figures: dict[str, object] = {"pictures": len(photos), "plates": len(hits)}
    figures["wrong_per_picture"] = round(wrong / len(photos), 3)
    figures["of_these_on_unlabelled_plates"] = round(unlabelled / len(photos), 3)
    if hits:
        hit, width = np.array(hits), np.array(widths)
        figures["recall_iou30"] = round(float(hit.mean()), 4)
        for (kind, growth), shares in covers.items():
            both = [round(float((np.array(shares) >= least).mean()), 4) for least in (0.75, 0.9)]
            figures[f"{kind}_grown_{growth}_cover75_cover90"] = both
        for low, high in BUCKETS:
            inside = (width >= low) & (width < high)
            if inside.any():
                figures[f"recall_{low}_{high}_px"] = [round(float(hit[inside].mean()), 4), int(inside.sum())]
    return figures


def trade(photos: Sequence[Photo], found: Sequence[Found], without: Sequence[Found]) -> dict[str, object]:
    """For each recall at IoU 0.3 the highest threshold that reaches it, and the boxes per picture `without` plates there."""
    best = []
    for photo, result in zip(photos, found, strict=True):
        for truth in photo.boxes:
            hit = result.scores[overlaps(truth, result.boxes) >= 0.3]
            best.append(float(hit.max(initial=0.0)))
    descending = np.sort(best)[::-1]
    strange = np.concatenate([result.scores for result in without])
    figures: dict[str, object] = {}
    for recall in RECALLS:
        threshold = float(descending[math.ceil(recall * len(best)) - 1])
        if threshold > FLOOR:
            wrong = float((strange >= threshold).sum()) / len(without)
            figures[f"recall {recall}"] = {"threshold": round(threshold, 3), "wrong_per_picture": round(wrong, 3)}
    return figures


def rendered(cars: Sequence[Photo], fonts: Fonts, design: str, fold: int, count: int) -> list[Photo]:
    """Pictures of cars of the fold with plates of one design; seeds that training does not use."""
    settings = Settings(
        RENDERED_SIDE_PX, rendered=1, painted_over=0, elsewhere=0, free=0, signs=0, mosaic=0, design=design
    )
    maker = SceneMaker([car for car in cars if fold_of(car.name) == fold], [], fonts, settings)
    rng = np.random.default_rng((2026, fold, sorted(DESIGNS).index(design)))
    photos = []
    for n in range(count):
        sample = maker.sample(rng)
        boxes = np.concatenate((sample.quads.min(axis=1), sample.quads.max(axis=1)), axis=1).clip(0, RENDERED_SIDE_PX)
        photos.append(Photo(sample.pixels, boxes, f"{design}/{fold}/{n}"))
    return photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--networks", type=Path, default=Path("build/plates"))
    parser.add_argument("--network", type=Path, help="one network for all pictures, to compare it with another")
    parser.add_argument("--result", type=Path)
    parser.add_argument("--fonts", type=Path, action="append", default=[], help="judge rendered plates too")
    parser.add_argument("--rendered", type=int, default=15, help="rendered pictures of each design and fold")
    parser.add_argument("--sizes", nargs="+", default=["640", "1280", "640+1280"], help="longer sides; + joins passes")
    parser.add_argument("--sets", nargs="+", default=["carplate433", "robertlucian107", NO_PLATES])
    parser.add_argument("--others", type=int, default=120, help="pictures without plates")
    arguments = parser.parse_args()
    files = [arguments.network or arguments.networks / f"fold{fold}.onnx" for fold in range(FOLDS)]
    nets = [Network(file) for file in files]
    cars = load_cars(arguments.data)
    sides = sorted({int(side) for size in arguments.sizes for side in size.split("+")})
    results: dict[str, object] = {}
    judged: dict[tuple[str, str], tuple[Sequence[Photo], Sequence[Found]]] = {}

    def note(name: str, photos: Sequence[Photo], found: Sequence[Found]) -> None:
        for threshold in THRESHOLDS:
            results[f"{name} at {threshold}"] = figures = judge(photos, found, threshold)
            print(f"{name} at {threshold}", json.dumps(figures), flush=True)

    for name in arguments.sets:
        if name == NO_PLATES:
            photos = load_others(arguments.data, judged=True)
            photos = photos[:: max(len(photos) // arguments.others, 1)]
            chosen = [nets[n % FOLDS] for n in range(len(photos))]
        else:
            photos = [photo for photo in cars if photo.name.startswith(name + "/")]
            chosen = [nets[fold_of(photo.name)] for photo in photos]
        passes = {s: [net.find(p.pixels, s) for net, p in zip(chosen, photos, strict=True)] for s in sides}
        for size in arguments.sizes:
            per_size = [passes[int(side)] for side in size.split("+")]
            found = [together(parts) for parts in zip(*per_size, strict=True)]
            judged[name, size] = photos, found
            note(f"{name} {size}", photos, found)
    for (name, size), (photos, found) in judged.items():
        if name != NO_PLATES and (NO_PLATES, size) in judged:
            results[f"{name} {size} by recall"] = figures = trade(photos, found, judged[NO_PLATES, size][1])
            print(f"{name} {size} by recall", json.dumps(figures), flush=True)
    for design in DESIGNS if arguments.fonts else ():
        fonts = Fonts(arguments.fonts)
        photos, found = [], []
        for fold in range(FOLDS):
            drawn = rendered(cars, fonts, design, fold, arguments.rendered)
            photos += drawn
            found += [together([nets[fold].find(photo.pixels, RENDERED_SIDE_PX)]) for photo in drawn]
        note(f"rendered {design} {RENDERED_SIDE_PX}", photos, found)
    if arguments.result:
        lines = [f" {json.dumps(name)}: {json.dumps(figures)}" for name, figures in results.items()]
        arguments.result.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
