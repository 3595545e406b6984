"""COCO's own numbers, computed by its own library, pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require

MAX_DETECTIONS = 100
"""Of each image and class COCO counts the best hundred detections."""

_FARTHEST = 1e5**2  # the upper end of COCO's range `all`
_OUTSIDE = 1e11  # an area beyond every range: ignored, without being a crowd


@dataclass(frozen=True, slots=True, eq=False)
class CocoImage:
    """One image's objects and detections. Boxes are (N, 4) xyxy; class_ids index the same names in both.

    ignore: objects that neither count nor make a detection wrong; a crowd takes any number of detections.
    object_sizes, sizes: what size ranges are held against, in pixels (N,).
    """

    objects_xyxy: NDArray[np.float64]
    object_class_ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    object_sizes: NDArray[np.float64]
    boxes_xyxy: NDArray[np.float64]
    scores: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    sizes: NDArray[np.float64]

    def __repr__(self) -> str:  # boxes are personal data
        return f"CocoImage({len(self.objects_xyxy)} objects, {len(self.scores)} boxes)"


def coco_numbers(
    images: Sequence[CocoImage], class_names: Sequence[str], size_ranges: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """`AP` (IoU 0.5:0.95), `AP50`, `AP75`, `AR100`, and for each class and size range its `AP` and `AP50`.

    size_ranges: names and bounds [low, high) in pixels of the sizes of `CocoImage`. None for what there is none of.
    Raises PackageMissing without pycocotools.
    """
    coco = require("pycocotools.coco", "COCO's numbers").COCO
    run = require("pycocotools.cocoeval", "COCO's numbers").COCOeval
    with contextlib.redirect_stdout(io.StringIO()):  # the library talks
        truth, found = coco(), coco()
        truth.dataset = _dataset(images, class_names, objects=True)
        found.dataset = _dataset(images, class_names, objects=False)
        truth.createIndex()
        found.createIndex()
        evaluation = run(truth, found, "bbox")
        evaluation.params.maxDets = [1, 10, MAX_DETECTIONS]
        # Areas are squares of the sizes. COCO's ranges hold both their ends: the upper one is moved below its value.
        ranges = [(low**2, np.nextafter(min(high**2, _FARTHEST), 0)) for low, high in size_ranges.values()]
        evaluation.params.areaRng = [[0, _FARTHEST], *map(list, ranges)]
        evaluation.params.areaRngLbl = ["all", *size_ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # IoU, recall, class, range, detections
    recall = evaluation.eval["recall"]  # IoU, class, range, detections
    return {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": _mean(precision[0, :, :, 0, -1]),
        "AP75": _mean(precision[5, :, :, 0, -1]),
        "AR100": _mean(recall[:, :, 0, -1]),
        "per_class": {
            name: {"AP": _mean(precision[:, :, k, 0, -1]), "AP50": _mean(precision[0, :, k, 0, -1])}
            for k, name in enumerate(class_names)
        },
        "per_size": {
            name: {"AP": _mean(precision[:, :, :, a, -1]), "AP50": _mean(precision[0, :, :, a, -1])}
            for a, name in enumerate(size_ranges, start=1)
        },
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[values > -1]  # -1 marks classes and ranges without objects
    return float(there.mean()) if there.size else None


def _dataset(images: Sequence[CocoImage], class_names: Sequence[str], *, objects: bool) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        boxes = image.objects_xyxy if objects else image.boxes_xyxy
        class_ids = image.object_class_ids if objects else image.class_ids
        areas = (image.object_sizes if objects else image.sizes) ** 2
        for place, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            entry = {
                "id": len(entries) + 1,
                "image_id": number,
                "category_id": int(class_ids[place]) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": float(areas[place]),
                "iscrowd": 0,
            }
            if objects:
                entry["iscrowd"] = int(image.crowd[place])
                if image.ignore[place] and not image.crowd[place]:
                    entry["area"] = _OUTSIDE
            else:
                entry["score"] = float(image.scores[place])
            entries.append(entry)
    return {
        "images": [{"id": number} for number in range(1, len(images) + 1)],
        "annotations": entries,
        "categories": [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)],
    }
