"""Weighted boxes: against a plain loop, and the properties that privacy needs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trt_anon.config import Fusion
from trt_anon.errors import ModelError
from trt_anon.postprocess.nms import Pass, merge
from trt_anon.postprocess.weighted import MergeRule, combine, fuse


def one_pass(
    boxes: object, scores: object, classes: object = None, *, marks: object = None, distinct: bool = False
) -> Pass:
    box = np.array(boxes, np.float32).reshape(-1, 4)
    ids = np.zeros(len(box), np.int32) if classes is None else np.array(classes, np.int32)
    points = None if marks is None else np.array(marks, np.float32)
    return Pass(box, np.array(scores, np.float32), ids, points, distinct=distinct)


def overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = max(sides[0], 0) * max(sides[1], 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union > 0 else 0.0


def plain(boxes: NDArray[np.float32], scores: NDArray[np.float32], limit: float) -> list[NDArray[np.float64]]:
    """The paper's loop, as it says it, of one class."""
    clusters: list[list[int]] = []
    fused: list[NDArray[np.float64]] = []
    for place in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        best = max(range(len(fused)), key=lambda k: (overlap(boxes[place].astype(float), fused[k]), -k), default=None)
        if best is None or overlap(boxes[place].astype(float), fused[best]) <= limit:
            clusters.append([])
            fused.append(np.zeros(4))
            best = len(fused) - 1
        clusters[best].append(place)
        members = clusters[best]
        fused[best] = np.average(boxes[members].astype(float), axis=0, weights=scores[members].astype(float))
    return fused


@given(st.integers(0, 40), st.integers(0, 1 << 30), st.sampled_from([0.2, 0.4, 0.6]))
def test_it_is_what_the_loop_says(count: int, seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(5, 40, (count, 2))), axis=1).astype(np.float32)
    scores = rng.integers(1, 20, count).astype(np.float32) / 20  # with ties
    parts = [slice(None, count // 2), slice(count // 2, None)]
    found = fuse([one_pass(boxes[p], scores[p]) for p in parts], ["face"], limit)
    wanted = plain(boxes, scores, limit)
    np.testing.assert_allclose(found.boxes_xyxy_px, np.array(wanted).reshape(-1, 4), rtol=1e-5, atol=1e-4)
    assert (np.diff(found.scores) <= 0).all()
    assert len(found) <= count


def test_an_object_that_one_pass_sees_keeps_its_score() -> None:
    passes = [one_pass([[0, 0, 10, 10]], [0.4]), one_pass([], []), one_pass([[100, 0, 110, 10]], [0.9])]
    found = fuse(passes, ["face"], 0.4)
    np.testing.assert_allclose(found.scores, [0.9, 0.4])


def test_the_mean_is_weighted_by_score_and_has_the_best_score() -> None:
    found = fuse([one_pass([[0, 0, 10, 10]], [0.75]), one_pass([[4, 0, 14, 10]], [0.25])], ["face"], 0.3)
    np.testing.assert_allclose(found.boxes_xyxy_px, [[1, 0, 11, 10]])
    np.testing.assert_allclose(found.scores, [0.75])


def test_landmarks_are_averaged_over_the_passes_that_have_them() -> None:
    passes = [
        one_pass([[0, 0, 10, 10]], [0.5], marks=[[[2, 2], [8, 2]]]),
        one_pass([[0, 0, 10, 10]], [0.5], marks=[[[4, 2], [8, 4]]]),
        one_pass([[1, 0, 10, 10]], [0.9]),
        one_pass([[50, 0, 60, 10]], [0.8]),
    ]
    found = fuse(passes, ["face"], 0.4)
    assert found.landmarks_px is not None
    np.testing.assert_allclose(found.landmarks_px[0], [[3, 2], [8, 3]])
    assert np.isnan(found.landmarks_px[1]).all()


def test_classes_stay_apart_and_each_has_its_own_rule() -> None:
    passes = [one_pass([[0, 0, 10, 10], [0, 0, 10, 10]], [0.6, 0.5], [0, 1])]
    passes += [one_pass([[4, 0, 14, 10], [4, 0, 14, 10]], [0.2, 0.9], [0, 1])]
    found = combine(passes, ["face", "license_plate"], [MergeRule(0.3, "weighted"), MergeRule(0.3, "nms")])
    assert found.class_ids.tolist() == [1, 0]
    np.testing.assert_allclose(found.boxes_xyxy_px, [[4, 0, 14, 10], [1, 0, 11, 10]])
    apart = combine(passes, ["face", "license_plate"], [MergeRule(0.3, "weighted"), MergeRule(0.9, "nms")])
    assert apart.class_ids.tolist() == [1, 0, 1]


def test_one_rule_for_all_is_plain_suppression() -> None:
    passes = [one_pass([[0, 0, 10, 10], [2, 0, 12, 10]], [0.6, 0.5], [0, 1]), one_pass([[1, 0, 11, 10]], [0.7])]
    found, wanted = combine(passes, ["a", "b"], [MergeRule(0.3)] * 2), merge(passes, ["a", "b"], 0.3)
    assert np.array_equal(found.boxes_xyxy_px, wanted.boxes_xyxy_px)
    assert np.array_equal(found.class_ids, wanted.class_ids)


def test_distinct_objects_of_a_pass_do_not_become_one() -> None:
    twins = one_pass([[0, 0, 10, 10], [1, 0, 11, 10]], [0.9, 0.8], distinct=True)
    assert len(fuse([twins], ["face"], 0.3)) == 2
    assert len(fuse([twins, one_pass([[0, 0, 10, 10]], [0.5])], ["face"], 0.3)) == 2


def test_an_outline_stays_with_its_box() -> None:
    outline = np.array([[0, 0], [10, 0], [10, 10]], np.float32)
    drawn = Pass(
        np.array([[0, 0, 10, 10]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32), None, (outline,)
    )
    found = fuse([drawn, one_pass([[4, 0, 14, 10], [80, 0, 90, 10]], [0.5, 0.4])], ["face"], 0.3)
    assert found.contours_px is not None
    assert [len(c) for c in found.contours_px] == [3, 0]
    np.testing.assert_array_equal(found.boxes_xyxy_px[0], [0, 0, 10, 10])


def cut_pass(boxes: object, scores: object, cut: object) -> Pass:
    return dataclasses.replace(one_pass(boxes, scores), cut=np.array(cut, np.bool_))


@pytest.mark.parametrize("fusion", ["nms", "weighted"])
def test_a_piece_of_an_object_does_not_stand_for_the_whole(fusion: Fusion) -> None:
    whole = one_pass([[0, 0, 100, 100]], [0.6])
    piece = cut_pass([[0, 0, 60, 100], [40, 10, 60, 30], [300, 0, 340, 50]], [0.9, 0.8, 0.7], [True, True, True])
    found = combine([whole, piece], ["face"], [MergeRule(0.4, fusion)])
    assert found.boxes_xyxy_px.tolist() == [[300, 0, 340, 50], [0, 0, 100, 100]], "best first, and whole"
    # Where nobody sees the whole, the piece is what there is.
    alone = combine([one_pass([], []), piece], ["face"], [MergeRule(0.4, fusion)])
    assert [0, 0, 60, 100] in alone.boxes_xyxy_px.tolist()
    # One class does not stand for another.
    other = Pass(piece.boxes_xyxy_px[:1], piece.scores[:1], np.ones(1, np.int32), cut=np.ones(1, np.bool_))
    both = combine([whole, other], ["face", "license_plate"], [MergeRule(0.4, fusion)] * 2)
    assert both.class_ids.tolist() == [1, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_an_error(bad: float) -> None:
    with pytest.raises(ModelError, match="not finite"):
        fuse([one_pass([[0, 0, bad, 10]], [0.9])], ["face"], 0.4)


def test_nothing_gives_nothing() -> None:
    assert len(fuse([], ["face"], 0.4)) == 0
    assert len(fuse([one_pass([], [])], ["face"], 0.4)) == 0
    assert len(combine([], ["face", "license_plate"], [MergeRule(0.4), MergeRule(0.4, "weighted")])) == 0
