"""Boxes that several passes have of one object, averaged instead of chosen from: the specification.

Weighted boxes fusion (Solovyev, Wang, Gabruseva: "Weighted boxes fusion", 2021), within each class: boxes come best
first, of equal scores the earlier one; each joins, of the fused boxes that it overlaps by more than the threshold (IoU,
as `nms` defines it), the one that it overlaps most, of equal ones the first; where there is none it opens one of its
own. A fused box is the mean of its members, weighted by their scores, and follows each that joins; so do landmarks.

Otherwise than in the paper, a fused box keeps the best score of its members, and is not marked down where some passes
have not seen it: whoever is seen by one pass only must not be missed. Boxes of one pass that says that its objects are
distinct do not join each other. Outlines are not averaged: an object with one keeps its best member as it is.

Whatever the rule, a box that ends where the part of the frame ends that was looked at (`Pass.cut`) is of a piece of its
object: it neither suppresses nor shifts a box of the whole, and counts only where there is none that it overlaps by
more than the threshold, or that holds more than CUT_INSIDE of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import Fusion
from trt_anon.postprocess.nms import Gathered, Pass, best_first, gather, iou, merge
from trt_anon.types import Detections

CUT_INSIDE = 0.7
"""A box that is cut off is of the same object as a whole one that holds more than this of it."""


@dataclass(frozen=True, slots=True)
class MergeRule:
    """How the boxes of a class become one for each object: from which overlap (IoU) on, and how."""

    iou_threshold: float
    fusion: Fusion = "nms"


def combine(passes: Sequence[Pass], class_names: Sequence[str], rules: Sequence[MergeRule]) -> Detections:
    """All passes over a frame as its detections, each class by its own rule, best score first.

    Ties go to the class with the lower id, then as in `merge`. Raises ModelError where a box, score or outline is not
    finite.
    """
    if len(set(rules)) == 1:
        return _by_rule(passes, class_names, rules[0])
    parts = []
    for class_id, rule in enumerate(rules):
        parts.append(_by_rule([one.only(one.class_ids == class_id) for one in passes], class_names, rule))
    # Nothing is left to merge: in one pass of distinct objects nothing suppresses anything.
    return merge([_as_pass(part) for part in parts], class_names, 1.0)


def fuse(passes: Sequence[Pass], class_names: Sequence[str], iou_threshold: float) -> Detections:
    """All passes over a frame as its detections, those of one object averaged, best score first.

    Raises ModelError where a box, score or outline is not finite.
    """
    if not passes:
        return Detections.empty(class_names)
    every = gather(passes)
    order = best_first(every.scores)
    firsts, member_of = _clusters(every, order, iou_threshold)
    boxes = _weighted_mean(every.boxes_xyxy_px, every.scores, member_of, len(firsts))
    marks, outlines = every.landmarks_px, every.contours_px
    if outlines is not None:
        exact = np.array([len(outlines[first]) > 0 for first in firsts], np.bool_)
        boxes[exact] = every.boxes_xyxy_px[firsts[exact]]
    return Detections(
        boxes_xyxy_px=boxes,
        scores=every.scores[firsts],
        class_ids=every.class_ids[firsts],
        class_names=tuple(class_names),
        landmarks_px=None if marks is None else _weighted_mean(marks, every.scores, member_of, len(firsts)),
        contours_px=None if outlines is None else tuple(outlines[first] for first in firsts.tolist()),
    )


def _clusters(
    every: Gathered, order: NDArray[np.int64], iou_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best member (K,) of each fused box, and of each box (N,) the fused one that it joined."""
    count = len(order)
    boxes, weights = every.boxes_xyxy_px.astype(np.float64), every.scores.astype(np.float64)
    firsts: list[int] = []
    member_of = np.full(count, -1, np.int64)
    fused, sums, totals = np.zeros((count, 4)), np.zeros((count, 4)), np.zeros(count)
    distinct: list[set[int]] = []
    for place in order.tolist():
        known, group = len(firsts), int(every.groups[place])
        overlaps = iou(boxes[place : place + 1], fused[:known])[0]
        overlaps[every.class_ids[firsts] != every.class_ids[place]] = 0.0
        if group >= 0:
            overlaps[[group in groups for groups in distinct]] = 0.0
        at = int(overlaps.argmax()) if known else 0
        if not known or not overlaps[at] > iou_threshold:
            at = known
            firsts.append(place)
            distinct.append(set())
        member_of[place] = at
        distinct[at].add(group)
        sums[at] += boxes[place] * weights[place]
        totals[at] += weights[place]
        fused[at] = sums[at] / totals[at] if totals[at] > 0 else boxes[place]
    return np.array(firsts, np.int64), member_of


def _weighted_mean(
    values: NDArray[np.float32], weights: NDArray[np.float32], member_of: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """(count, ...) means of values (N, ...) over members, weighted; of the values that are no NaN, NaN of none."""
    shape = (count, *values.shape[1:])
    sums, totals = np.zeros(shape), np.zeros(shape)
    there = np.isfinite(values)
    # No score is zero, but what has one must not be lost.
    weight = np.maximum(weights.astype(np.float64), 1e-12).reshape(-1, *[1] * (values.ndim - 1)) * there
    np.add.at(totals, member_of, weight)
    np.add.at(sums, member_of, np.where(there, values, 0.0) * weight)
    with np.errstate(invalid="ignore"):
        return np.asarray(sums / totals, np.float32)


def _by_rule(passes: Sequence[Pass], class_names: Sequence[str], rule: MergeRule) -> Detections:
    one = merge if rule.fusion == "nms" else fuse
    cut = [p.only(p.cut) for p in passes if p.cut is not None and p.cut.any()]
    if not cut:
        return one(passes, class_names, rule.iou_threshold)
    whole = [p if p.cut is None else p.only(~p.cut) for p in passes]
    found, parts = (one(some, class_names, rule.iou_threshold) for some in (whole, cut))
    same = parts.class_ids[:, None] == found.class_ids[None]
    held = _share_inside(parts.boxes_xyxy_px, found.boxes_xyxy_px) > CUT_INSIDE
    held |= iou(parts.boxes_xyxy_px, found.boxes_xyxy_px) > rule.iou_threshold
    left = _as_pass(parts).only(~(same & held).any(axis=1))
    return merge([_as_pass(found), left], class_names, 1.0)


def _share_inside(boxes_xyxy: NDArray[np.float32], others_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M): how much of each box (N, 4) lies within each other (M, 4); 0 for a box without area."""
    a, b = boxes_xyxy.astype(np.float64)[:, None], others_xyxy.astype(np.float64)[None]
    shared = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(axis=-1)
    area = np.maximum(a[..., 2:] - a[..., :2], 0).prod(axis=-1)
    return np.asarray(np.divide(shared, area, out=np.zeros_like(shared), where=area > 0), np.float64)


def _as_pass(found: Detections) -> Pass:
    return Pass(
        found.boxes_xyxy_px, found.scores, found.class_ids, found.landmarks_px, found.contours_px, distinct=True
    )
