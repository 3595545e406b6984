"""Outlines and distinct objects on their way through suppression."""

from __future__ import annotations

import numpy as np
import pytest

from trt_anon.errors import ModelError
from trt_anon.postprocess.nms import Pass, merge, nms
from trt_anon.types import Detections

BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]], np.float32)
SCORES = np.array([0.7, 0.9, 0.8], np.float32)
CLASSES = np.zeros(3, np.int32)
OUTLINES = tuple(np.full((3 + i, 2), i, np.float32) for i in range(3))


def test_outlines_stay_with_their_boxes():
    merged = merge([Pass(BOXES, SCORES, CLASSES, contours_px=OUTLINES)], ["face"], 0.4)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8])
    assert [len(c) for c in merged.contours_px] == [4, 5]


def test_a_pass_without_outlines_gets_empty_ones():
    plain = Pass(BOXES[2:] + 100, SCORES[2:] + np.float32(0.15), CLASSES[2:])
    merged = merge([Pass(BOXES, SCORES, CLASSES, contours_px=OUTLINES), plain], ["face"], 0.4)
    assert [len(c) for c in merged.contours_px] == [0, 4, 5]
    assert merge([plain], ["face"], 0.4).contours_px is None


def test_distinct_objects_of_a_pass_leave_each_other():
    merged = merge([Pass(BOXES, SCORES, CLASSES, distinct=True)], ["face"], 0.4)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_distinct_objects_of_different_passes_suppress():
    better = Pass(BOXES[:1], np.array([0.95], np.float32), CLASSES[:1], distinct=True)
    merged = merge([Pass(BOXES, SCORES, CLASSES, distinct=True), better], ["face"], 0.4)
    assert merged.scores.tolist() == pytest.approx([0.95, 0.8])
    assert merged.boxes_xyxy_px.tolist() == BOXES[[0, 2]].tolist()


def test_groups_by_number():
    same = np.tile(BOXES[:1], (4, 1))
    scores, classes = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.zeros(4, np.int32)
    assert nms(same, scores, classes, 0.5, distinct_groups=np.array([1, 1, 1, 1])).tolist() == [0, 1, 2, 3]
    assert nms(same, scores, classes, 0.5, distinct_groups=np.array([1, 1, 2, -1])).tolist() == [0, 1]
    assert nms(same, scores, classes, 0.5, distinct_groups=np.array([-1, -1, -1, -1])).tolist() == [0]
    with pytest.raises(ValueError, match="distinct_groups"):
        nms(same, scores, classes, 0.5, distinct_groups=np.zeros(3, np.int32))


def test_broken_outlines_are_refused():
    bad = (*OUTLINES[:2], np.full((3, 2), np.nan, np.float32))
    with pytest.raises(ModelError, match="outlines"):
        merge([Pass(BOXES, SCORES, CLASSES, contours_px=bad)], ["face"], 0.4)
    with pytest.raises(ValueError, match="2 outlines"):
        merge([Pass(BOXES, SCORES, CLASSES, contours_px=OUTLINES[:2])], ["face"], 0.4)


@pytest.mark.parametrize(
    "outlines", [OUTLINES[:2], (*OUTLINES[:2], np.zeros((3, 3), np.float32)), (*OUTLINES[:2], np.zeros((3, 2)))]
)
def test_detections_refuse_outlines_that_do_not_fit(outlines):
    with pytest.raises(ValueError, match="contours_px"):
        Detections(BOXES, SCORES, CLASSES, ("face",), contours_px=outlines)
