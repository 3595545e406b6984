"""Detections in two ranks: those that count by themselves, and weaker ones that may only continue a track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trt_anon.postprocess.nms import Pass, iou
from trt_anon.postprocess.weighted import MergeRule, combine
from trt_anon.types import Detections

MOST_WEAK = 256
"""No more weak detections of a frame are kept, the best ones; those that count by themselves are never bounded."""


def combine_with_weak(
    passes: Sequence[tuple[Pass, float]], class_names: Sequence[str], rules: Sequence[MergeRule]
) -> tuple[Detections, Detections]:
    """All passes, each with its threshold, as detections and weak detections.

    The first are what `combine` gives of those that reach their pass's threshold: the weak ones take nothing from them.
    The second are merged among themselves, without those that overlap one of the first of their class by more than the
    threshold. Raises as `combine` does.
    """
    strong = [one.only(one.scores >= threshold) for one, threshold in passes]
    weak = [_best(one.only(~(one.scores >= threshold))) for one, threshold in passes]
    found = combine(strong, class_names, rules)
    rest = combine(weak, class_names, rules)
    limits = np.array([rule.iou_threshold for rule in rules])[rest.class_ids]
    near = iou(rest.boxes_xyxy_px, found.boxes_xyxy_px) > limits[:, None]
    near &= rest.class_ids[:, None] == found.class_ids[None]
    keep = np.nonzero(~near.any(axis=1))[0][:MOST_WEAK]
    return found, Detections(
        rest.boxes_xyxy_px[keep],
        rest.scores[keep],
        rest.class_ids[keep],
        rest.class_names,
        None if rest.landmarks_px is None else rest.landmarks_px[keep],
        rest.contours_px and tuple(rest.contours_px[i] for i in keep.tolist()),
    )


def _best(one: Pass) -> Pass:
    if len(one.scores) <= 4 * MOST_WEAK:
        return one
    mine = np.zeros(len(one.scores), np.bool_)
    mine[np.argsort(-one.scores, kind="stable")[: 4 * MOST_WEAK]] = True
    return one.only(mine)
