"""Greedy non-maximum suppression, and the merging of several passes into one frame's detections: the specification.

Boxes are continuous: area = (x1 - x0) * (y1 - y0), without the "+ 1" of pixel counting; a box turned inside out has no
area. IoU = intersection / union in float64, and 0 where the union is empty, so a box without area suppresses nothing
and is never suppressed. Order: higher score first, of equal scores the lower index. A box is dropped where its IoU with
a kept one is greater than the threshold; at exactly the threshold it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import ModelError
from trt_anon.types import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one detector found in one frame at one scale, before suppression.

    boxes_xyxy_px: (N, 4) float32 upright pixels. scores: (N,) float32. class_ids: (N,) int32, indices into the class
    names of the merged detections. landmarks_px: (N, K, 2) float32 upright pixels, or None.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    landmarks_px: NDArray[np.float32] | None = None

    def __repr__(self) -> str:  # boxes are personal data
        return f"Pass({len(self.scores)} boxes)"


def iou(box_xyxy: NDArray[np.floating], boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of one box (4,) with each of boxes (N, 4): (N,) float64; 0 where the union is empty."""
    box, boxes = box_xyxy.astype(np.float64), boxes_xyxy.astype(np.float64)
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0.0, None).prod(axis=1)
    union = _areas(box[None])[0] + _areas(boxes) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros(len(boxes)), where=union > 0), np.float64)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1), np.float64)


def nms(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    class_ids: NDArray[np.integer],
    iou_threshold: float,
    class_aware: bool = True,
) -> NDArray[np.int64]:
    """Indices (K,) int64 of the boxes that stay, best first.

    boxes_xyxy: (N, 4) in any unit; scores, class_ids: (N,). With `class_aware` boxes suppress their own class only.
    Takes time N * K and memory N. Raises ModelError where a box or score is not finite, ValueError for wrong shapes.
    """
    count = len(scores)
    if boxes_xyxy.shape != (count, 4) or scores.shape != (count,) or class_ids.shape != (count,):
        raise ValueError(
            f"boxes, scores and class_ids must be (N, 4), (N,) and (N,), got {boxes_xyxy.shape}, {scores.shape} and "
            f"{class_ids.shape}"
        )
    if not (np.isfinite(boxes_xyxy).all() and np.isfinite(scores).all()):
        raise ModelError("boxes or scores are not finite; do not trust this model or device")
    left = np.argsort(-scores.astype(np.float64), kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        stays = iou(boxes_xyxy[best], boxes_xyxy[left]) <= iou_threshold
        if class_aware:
            stays |= class_ids[left] != class_ids[best]
        left = left[stays]
    return np.array(kept, np.int64)


def merge(passes: Sequence[Pass], class_names: Sequence[str], iou_threshold: float) -> Detections:
    """All passes over a frame as its detections: suppressed within each class, best score first.

    Ties go to the earlier pass, then the lower index. Landmarks are padded with NaN to the largest number of points
    among the passes; None where no pass has any. Raises ModelError where a box or score is not finite.
    """
    if not passes:
        return Detections.empty(class_names)
    boxes = np.concatenate([p.boxes_xyxy_px for p in passes]).astype(np.float32)
    scores = np.concatenate([p.scores for p in passes]).astype(np.float32)
    class_ids = np.concatenate([p.class_ids for p in passes]).astype(np.int32)
    keep = nms(boxes, scores, class_ids, iou_threshold)
    landmarks = _landmarks(passes)
    return Detections(
        boxes_xyxy_px=boxes[keep],
        scores=scores[keep],
        class_ids=class_ids[keep],
        class_names=tuple(class_names),
        landmarks_px=None if landmarks is None else landmarks[keep],
    )


def _landmarks(passes: Sequence[Pass]) -> NDArray[np.float32] | None:
    points = [p.landmarks_px.shape[1] for p in passes if p.landmarks_px is not None]
    if not points:
        return None
    padded = np.full((sum(len(p.scores) for p in passes), max(points), 2), np.nan, np.float32)
    start = 0
    for one in passes:
        stop = start + len(one.scores)
        if one.landmarks_px is not None:
            padded[start:stop, : one.landmarks_px.shape[1]] = one.landmarks_px
        start = stop
    return padded
