"""Judge the folds' networks: each real picture by the one that has not seen it, and pictures without plates.

    python engines/plates/judge.py --data ../shared --out build/plates --result build/plates/judged.json

Prints recall at IoU 0.3, cover of the grown region (boxes, and quadrilaterals of the corners), by width of the plate, and false
positives per picture, for several thresholds and input sizes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from data import FOLDS, fold_of, load_cars, load_others
from network import PlateNet, decode, grid
from scenes import Photo

BUCKETS = ((8, 16), (16, 32), (32, 64), (64, 10000))
GROW = 1.2


@dataclass(frozen=True)
class Found:
    boxes: np.ndarray
    quads: np.ndarray
    scores: np.ndarray


def load_net(path: Path, device: torch.device) -> PlateNet:
    net = PlateNet()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.to(device).eval()


@torch.no_grad()
def detect(net: PlateNet, pixels: np.ndarray, long_side: int, device: torch.device, floor: float = 0.02) -> Found:
    height, width, _ = pixels.shape
    scale = long_side / max(height, width)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=method)
    padded = np.zeros((-(-small.shape[0] // 32) * 32, -(-small.shape[1] // 32) * 32, 3), np.uint8)
    padded[: small.shape[0], : small.shape[1]] = small[..., ::-1]
    made = net(torch.from_numpy(padded).to(device).permute(2, 0, 1)[None].float())
    places, strides = grid(padded.shape[0], padded.shape[1], device)
    score = (torch.cat(made[0:3], 1) * torch.cat(made[3:6], 1))[0, :, 0].sqrt()
    boxes, points = decode(torch.cat(made[6:9], 1), torch.cat(made[9:12], 1), places, strides)
    kept = torch.nonzero(score > floor)[:, 0]
    order = kept[score[kept].argsort(descending=True)][:500]
    b, q, s = boxes[0, order].cpu().numpy() / scale, points[0, order, :4].cpu().numpy() / scale, score[order].cpu().numpy()
    chosen = []
    for n in range(len(s)):
        if all(iou(b[n], b[m]) < 0.4 for m in chosen):
            chosen.append(n)
    return Found(b[chosen], q[chosen], s[chosen])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    inner = float(np.clip(high - low, 0, None).prod())
    return inner / (float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()) - inner + 1e-9)


def covered(box: np.ndarray, shapes: list[np.ndarray]) -> float:
    """The share of a box that polygons cover."""
    x0, y0, x1, y1 = box
    unit = 64 / max(x1 - x0, y1 - y0, 1e-3)
    size = (max(int((x1 - x0) * unit), 1), max(int((y1 - y0) * unit), 1))
    mask = np.zeros(size[::-1], np.uint8)
    for shape in shapes:
        cv2.fillPoly(mask, [np.round((shape - (x0, y0)) * unit).astype(np.int32)], 1)
    return float(mask.mean())


def _grown(points: np.ndarray) -> np.ndarray:
    centre = points.mean(axis=0)
    return (points - centre) * GROW + centre


def _box_points(box: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def judge(photos: list[Photo], found: list[Found], threshold: float) -> dict[str, object]:
    hits, covers, quad_covers, widths, wrong = [], [], [], [], 0
    for photo, result in zip(photos, found, strict=True):
        kept = result.scores >= threshold
        boxes, quads = result.boxes[kept], result.quads[kept]
        for truth in photo.boxes:
            hits.append(any(iou(truth, box) >= 0.3 for box in boxes))
            covers.append(covered(truth, [_grown(_box_points(box)) for box in boxes]))
            quad_covers.append(covered(truth, [_grown(quad) for quad in quads]))
            widths.append(truth[2] - truth[0])
        wrong += sum(all(iou(truth, box) < 0.3 for truth in photo.boxes) for box in boxes)
    hit, cover, quad, width = map(np.array, (hits, covers, quad_covers, widths))
    figures: dict[str, object] = {"pictures": len(photos), "plates": len(hits), "wrong_per_picture": wrong / len(photos)}
    if len(hits):
        figures |= {"recall_iou30": hit.mean(), "cover75": (cover >= 0.75).mean(), "cover90": (cover >= 0.9).mean()}
        figures |= {"quad_cover75": (quad >= 0.75).mean(), "quad_cover90": (quad >= 0.9).mean()}
        for low, high in BUCKETS:
            inside = (width >= low) & (width < high)
            if inside.any():
                figures[f"recall_{low}_{high}"] = [float(hit[inside].mean()), int(inside.sum())]
    return {k: float(v) if isinstance(v, np.floating) else v for k, v in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("build/plates"))
    parser.add_argument("--result", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[640, 1280])
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4, 0.5])
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cars = load_cars(arguments.data)
    nets = [load_net(arguments.out / f"fold{fold}" / "weights.pt", device) for fold in range(FOLDS)]
    sets = {name: [p for p in cars if p.name.startswith(name + "/")] for name in ("carplate433", "robertlucian107")}
    sets["robertlucian_train"] = [p for p in cars if p.name.startswith("robertlucian_train/")]
    results: dict[str, object] = {}
    for size in arguments.sizes:
        for name, photos in sets.items():
            found = [detect(nets[fold_of(photo.name)], photo.pixels, size, device) for photo in photos]
            for threshold in arguments.thresholds:
                results[f"{name} {size} {threshold}"] = judge(photos, found, threshold)
        photos = load_others(arguments.data)[1]
        found = [detect(nets[n % FOLDS], photo.pixels, size, device) for n, photo in enumerate(photos)]
        for threshold in arguments.thresholds:
            results[f"no_plates {size} {threshold}"] = judge(photos, found, threshold)
    for key, figures in results.items():
        print(key, json.dumps(figures), flush=True)
    if arguments.result:
        arguments.result.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
