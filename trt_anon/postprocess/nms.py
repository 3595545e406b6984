"""Greedy non-maximum suppression, and the merging of several passes into one frame's detections: the specification.

Boxes are continuous: area = (x1 - x0) * (y1 - y0), without the "+ 1" of pixel counting; a box turned inside out has no
area. IoU = intersection / union in float64, and 0 where the union is empty, so a box without area suppresses nothing
and is never suppressed. Order: higher score first, of equal scores the lower index. A box is dropped where its IoU with
a kept one is greater than the threshold; at exactly the threshold it stays. Boxes of one pass that says that its
objects are distinct do not suppress each other; they and the boxes of other passes do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import ModelError
from trt_anon.types import Detections

_CHUNK = 256  # pairs are looked at in squares of this side, which bounds the memory


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one detector found in one frame at one scale, before suppression.

    boxes_xyxy_px: (N, 4) float32 upright pixels. scores: (N,) float32. class_ids: (N,) int32, indices into the class
    names of the merged detections. landmarks_px: (N, K, 2) float32 upright pixels, or None. contours_px: N outlines
    (K, 2) float32 upright pixels, or None. distinct: its objects are different ones already. cut: (N,) bool, where the
    part of the frame that was looked at ends within the object, None where it was the whole frame.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    landmarks_px: NDArray[np.float32] | None = None
    contours_px: tuple[NDArray[np.float32], ...] | None = None
    distinct: bool = False
    cut: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:  # boxes are personal data
        return f"Pass({len(self.scores)} boxes)"

    def only(self, mine: NDArray[np.bool_]) -> Pass:
        """Some of its boxes, those where `mine` (N,) is true."""
        return replace(
            self,
            boxes_xyxy_px=self.boxes_xyxy_px[mine],
            scores=self.scores[mine],
            class_ids=self.class_ids[mine],
            landmarks_px=None if self.landmarks_px is None else self.landmarks_px[mine],
            contours_px=self.contours_px and tuple(c for c, keep in zip(self.contours_px, mine, strict=True) if keep),
            cut=None if self.cut is None else self.cut[mine],
        )


def iou(boxes_xyxy: NDArray[np.floating], others_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of (N, 4) boxes with (M, 4) others: (N, M) float64; 0 where the union is empty."""
    a, b = boxes_xyxy.astype(np.float64).T[:, :, None], others_xyxy.astype(np.float64).T[:, None]
    shared = _area(np.maximum(a[0], b[0]), np.maximum(a[1], b[1]), np.minimum(a[2], b[2]), np.minimum(a[3], b[3]))
    union = _area(*a) + _area(*b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(
    x0: NDArray[np.float64], y0: NDArray[np.float64], x1: NDArray[np.float64], y1: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.maximum(x1 - x0, 0.0) * np.maximum(y1 - y0, 0.0)


def nms(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    class_ids: NDArray[np.integer],
    iou_threshold: float,
    class_aware: bool = True,
    distinct_groups: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Indices (K,) int64 of the boxes that stay, best first.

    boxes_xyxy: (N, 4) in any unit; scores, class_ids: (N,). With `class_aware` boxes suppress their own class only.
    distinct_groups: (N,), boxes of one group do not suppress each other; a negative number is no group.
    Takes time N * K and memory N. Raises ModelError where a box or score is not finite, ValueError for wrong shapes.
    """
    count = len(scores)
    if boxes_xyxy.shape != (count, 4) or scores.shape != (count,) or class_ids.shape != (count,):
        raise ValueError(
            f"boxes, scores and class_ids must be (N, 4), (N,) and (N,), got {boxes_xyxy.shape}, {scores.shape} and "
            f"{class_ids.shape}"
        )
    _check_finite(boxes_xyxy, scores)
    if distinct_groups is not None and distinct_groups.shape != (count,):
        raise ValueError(f"distinct_groups must be (N,), got {distinct_groups.shape}")
    classes = class_ids if class_aware else np.zeros(count, np.int32)
    groups = np.full(count, -1, np.int32) if distinct_groups is None else distinct_groups
    order = best_first(scores)
    kept = order[:0]
    for start in range(0, count, _CHUNK):  # of the order: a chunk falls to what is kept already, then to itself
        chunk = order[start : start + _CHUNK]
        for first in range(0, len(kept), _CHUNK):
            rivals = kept[first : first + _CHUNK]
            chunk = chunk[~_suppresses(boxes_xyxy, classes, groups, rivals, chunk, iou_threshold).any(axis=0)]
        suppresses = _suppresses(boxes_xyxy, classes, groups, chunk, chunk, iou_threshold)
        stays = np.ones(len(chunk), np.bool_)
        for place in range(len(chunk)):
            if stays[place]:
                stays[place + 1 :] &= ~suppresses[place, place + 1 :]
        kept = np.concatenate((kept, chunk[stays]))
    return kept


def best_first(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """The order (N,) of scores (N,): higher first, of equal ones the lower index."""
    return np.argsort(-scores.astype(np.float64), kind="stable").astype(np.int64)


def _check_finite(boxes_xyxy: NDArray[np.floating], scores: NDArray[np.floating]) -> None:
    if not (np.isfinite(boxes_xyxy).all() and np.isfinite(scores).all()):
        raise ModelError("boxes or scores are not finite; do not trust this model or device")


def _suppresses(
    boxes: NDArray[np.floating],
    classes: NDArray[np.integer],
    groups: NDArray[np.integer],
    strong: NDArray[np.int64],
    weak: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """(len(strong), len(weak)): whether a strong box, if kept, drops the weak one."""
    too_close = iou(boxes[strong], boxes[weak]) > iou_threshold
    distinct = (groups[strong][:, None] == groups[weak]) & (groups[weak] >= 0)
    return np.asarray(too_close & (classes[strong][:, None] == classes[weak]) & ~distinct, np.bool_)


def merge(passes: Sequence[Pass], class_names: Sequence[str], iou_threshold: float) -> Detections:
    """All passes over a frame as its detections: suppressed within each class, best score first.

    Ties go to the earlier pass, then the lower index. Landmarks are padded with NaN to the largest number of points
    among the passes, outlines are empty where a pass has none; None where no pass has any. Raises ModelError where a
    box, score or outline is not finite.
    """
    if not passes:
        return Detections.empty(class_names)
    every = gather(passes)
    keep = nms(every.boxes_xyxy_px, every.scores, every.class_ids, iou_threshold, distinct_groups=every.groups)
    marks, outlines = every.landmarks_px, every.contours_px
    return Detections(
        boxes_xyxy_px=every.boxes_xyxy_px[keep],
        scores=every.scores[keep],
        class_ids=every.class_ids[keep],
        class_names=tuple(class_names),
        landmarks_px=None if marks is None else marks[keep],
        contours_px=None if outlines is None else tuple(outlines[i] for i in keep.tolist()),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All boxes of several passes, one pass after the other: as in `Pass`, all of (N,).

    groups: the number of the pass that says that its objects are distinct, else -1.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    groups: NDArray[np.int32]
    landmarks_px: NDArray[np.float32] | None
    contours_px: list[NDArray[np.float32]] | None

    def __repr__(self) -> str:  # boxes are personal data
        return f"Gathered({len(self.scores)} boxes)"


def gather(passes: Sequence[Pass]) -> Gathered:
    """At least one pass as one. Raises ModelError where a box, score or outline is not finite."""
    boxes = np.concatenate([p.boxes_xyxy_px for p in passes]).astype(np.float32)
    scores = np.concatenate([p.scores for p in passes]).astype(np.float32)
    _check_finite(boxes, scores)
    groups = [np.full(len(p.scores), i if p.distinct else -1, np.int32) for i, p in enumerate(passes)]
    return Gathered(
        boxes_xyxy_px=boxes,
        scores=scores,
        class_ids=np.concatenate([p.class_ids for p in passes]).astype(np.int32),
        groups=np.concatenate(groups),
        landmarks_px=_landmarks(passes),
        contours_px=_contours(passes),
    )


def _contours(passes: Sequence[Pass]) -> list[NDArray[np.float32]] | None:
    if all(one.contours_px is None for one in passes):
        return None
    none = np.zeros((0, 2), np.float32)
    found: list[NDArray[np.float32]] = []
    for one in passes:
        outlines = (none,) * len(one.scores) if one.contours_px is None else one.contours_px
        if len(outlines) != len(one.scores):
            raise ValueError(f"{len(one.scores)} boxes but {len(outlines)} outlines")
        if not all(np.isfinite(outline).all() for outline in outlines):
            raise ModelError("outlines are not finite; do not trust this model or device")
        found += [outline.astype(np.float32, copy=False) for outline in outlines]
    return found


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
