"""Suppression against a loop, against OpenCV's, and at its edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.errors import ModelError
from trt_anon.postprocess import nms as module
from trt_anon.postprocess.nms import Pass, iou, merge, nms


def loop_iou(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0.0) * max(h, 0.0)
    area_a = max(a[2] - a[0], 0.0) * max(a[3] - a[1], 0.0)
    area_b = max(b[2] - b[0], 0.0) * max(b[3] - b[1], 0.0)
    union = area_a + area_b - shared
    return shared / union if union > 0 else 0.0


def loop_nms(boxes, scores, class_ids, threshold, class_aware=True) -> list[int]:
    """Every pair, in plain Python."""
    boxes, scores = boxes.astype(float).tolist(), scores.tolist()
    alive = [True] * len(scores)
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if not alive[i]:
            continue
        kept.append(i)
        for j in range(len(scores)):
            rival = not class_aware or class_ids[i] == class_ids[j]
            if j != i and rival and loop_iou(boxes[i], boxes[j]) > threshold:
                alive[j] = False
    return kept


def crowd(count, seed, span=60, classes=2, score_steps=None):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(-10, span, (count, 2)), rng.uniform(0, 25, (count, 2))
    boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    scores = rng.random(count)
    if score_steps:
        scores = np.round(scores * score_steps) / score_steps
    return boxes, scores.astype(np.float32), rng.integers(0, classes, count).astype(np.int32)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 120),
    st.integers(0, 10_000),
    st.floats(0.01, 0.99),
    st.booleans(),
    st.sampled_from([None, 1, 4]),
    st.sampled_from([1, 7, 256]),
)
def test_is_the_loop(count, seed, threshold, class_aware, score_steps, chunk):
    boxes, scores, class_ids = crowd(count, seed, score_steps=score_steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        kept = nms(boxes, scores, class_ids, threshold, class_aware)
    assert kept.dtype == np.int64
    assert kept.tolist() == loop_nms(boxes, scores, class_ids, threshold, class_aware)


def test_more_boxes_than_a_chunk():
    boxes, scores, class_ids = crowd(900, 3, span=300)
    assert nms(boxes, scores, class_ids, 0.3).tolist() == loop_nms(boxes, scores, class_ids, 0.3)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_opencv(seed):
    """Whole numbers and distinct scores: OpenCV takes (x, y, w, h) and leaves ties open."""
    boxes, _, _ = crowd(200, seed)
    boxes = np.round(boxes)
    scores = np.random.default_rng(seed).permutation(200).astype(np.float32) / 200 + 0.001
    sizes = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
    boxes, sizes, scores = (a[sizes[:, 2:].min(axis=1) > 0] for a in (boxes, sizes, scores))
    theirs = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), 0.0, 0.4137)
    assert nms(boxes, scores, np.zeros(len(scores), np.int32), 0.4137).tolist() == list(theirs)


def test_ties_go_to_the_lower_index():
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (4, 1))
    scores = np.array([0.5, 0.7, 0.7, 0.5], np.float32)
    assert nms(boxes, scores, np.zeros(4, np.int32), 0.5).tolist() == [1]
    assert nms(boxes, scores, np.array([0, 1, 1, 0]), 0.5).tolist() == [1, 0]
    assert nms(boxes, scores, np.array([0, 1, 1, 0]), 0.5, class_aware=False).tolist() == [1]


def test_exactly_the_threshold_stays():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 5, 10]], np.float32)  # IoU 0.5
    scores = np.array([0.9, 0.8], np.float32)
    assert nms(boxes, scores, np.zeros(2, np.int32), 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, np.zeros(2, np.int32), 0.4999).tolist() == [0]


def test_boxes_without_area_neither_suppress_nor_are_suppressed():
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 10, 10], [9, 9, 1, 1]], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    assert nms(boxes, scores, np.zeros(4, np.int32), 0.1).tolist() == [0, 1, 2, 3]
    assert iou(boxes, boxes).tolist() == np.diag([0, 0, 1, 0]).tolist()


def test_huge_coordinates_do_not_overflow():
    boxes = np.array([[-1e30, -1e30, 1e30, 1e30], [-1e30, -1e30, 1e30, 0.9e30]], np.float32)
    assert nms(boxes, np.array([0.5, 0.6], np.float32), np.zeros(2, np.int32), 0.5).tolist() == [1]


def test_empty():
    kept = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == np.int64


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    boxes, scores, class_ids = crowd(5, 0)
    broken = scores.copy()
    broken[2] = bad
    with pytest.raises(ModelError, match="not finite"):
        nms(boxes, broken, class_ids, 0.5)
    boxes[1, 3] = bad
    with pytest.raises(ModelError, match="not finite"):
        nms(boxes, scores, class_ids, 0.5)


def test_wrong_shapes_are_refused():
    boxes, scores, class_ids = crowd(5, 0)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        nms(boxes[:4], scores, class_ids, 0.5)


def test_merge_joins_passes_and_pads_landmarks():
    five = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    faces = Pass(
        np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32),
        np.array([0.6, 0.9], np.float32),
        np.array([0, 0], np.int32),
        five,
    )
    again = Pass(np.array([[1, 0, 11, 10]], np.float32), np.array([0.8], np.float32), np.array([0], np.int32))
    four = np.ones((1, 4, 2), np.float32)
    plates = Pass(np.array([[0, 0, 10, 10]], np.float32), np.array([0.7], np.float32), np.array([1], np.int32), four)
    merged = merge([faces, again, plates], ["face", "license_plate"], 0.4)
    assert merged.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])  # the 0.6 face gives way to the better pass
    assert merged.class_ids.tolist() == [0, 0, 1]
    assert merged.class_names == ("face", "license_plate")
    assert merged.landmarks_px.shape == (3, 5, 2)
    assert np.array_equal(merged.landmarks_px[0], five[1])
    assert np.isnan(merged.landmarks_px[1]).all()
    assert (merged.landmarks_px[2, :4] == 1).all()
    assert np.isnan(merged.landmarks_px[2, 4]).all()


def test_merge_breaks_ties_by_the_order_of_the_passes():
    passes = [
        Pass(np.array([[x, 0, x + 10, 10]], np.float32), np.array([0.5], np.float32), np.zeros(1, np.int32))
        for x in (2, 0, 1)
    ]
    assert merge(passes, ["face"], 0.4).boxes_xyxy_px.tolist() == [[2, 0, 12, 10]]


def test_merge_of_nothing():
    nothing = Pass(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    for passes in ([], [nothing], [nothing, nothing]):
        merged = merge(passes, ["face"], 0.4)
        assert len(merged) == 0
        assert merged.landmarks_px is None
    assert "boxes" in repr(nothing)


def test_merge_refuses_what_is_not_finite():
    bad = Pass(np.array([[0, 0, np.nan, 1]], np.float32), np.array([0.5], np.float32), np.zeros(1, np.int32))
    with pytest.raises(ModelError):
        merge([bad], ["face"], 0.4)
