"""Detections in two ranks: the weak ones take nothing from the others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.postprocess.nms import Pass, merge
from trt_anon.postprocess.weak import MOST_WEAK, combine_with_weak
from trt_anon.postprocess.weighted import MergeRule

RULES = [MergeRule(0.4)]


def one_pass(*found: tuple[float, float, int]) -> Pass:
    """Boxes of 10 px at (x, score, class)."""
    boxes = np.array([(x, 0, x + 10, 10) for x, _, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in found], np.float32)
    return Pass(boxes, scores, np.array([c for _, _, c in found], np.int32))


def test_ranks_are_by_each_passes_own_threshold() -> None:
    found, weak = combine_with_weak(
        [(one_pass((0, 0.3, 0), (50, 0.1, 0)), 0.2), (one_pass((1, 0.45, 0), (80, 0.45, 0)), 0.5)], ("face",), RULES
    )
    assert found.boxes_xyxy_px[:, 0].tolist() == [0]
    assert weak.boxes_xyxy_px[:, 0].tolist() == [80, 50], "not the one at 1, which is the one at 0"


def test_classes_do_not_hide_each_other() -> None:
    found, weak = combine_with_weak([(one_pass((0, 0.9, 0), (0, 0.1, 1)), 0.5)], ("face", "license_plate"), RULES * 2)
    assert (len(found), len(weak)) == (1, 1)


def test_weak_ones_are_bounded_and_the_others_never() -> None:
    many = one_pass(*[(20.0 * i, 0.1, 0) for i in range(6 * MOST_WEAK)])
    found, weak = combine_with_weak([(many, 0.05)], ("face",), RULES)
    assert (len(found), len(weak)) == (6 * MOST_WEAK, 0)
    found, weak = combine_with_weak([(many, 0.5)], ("face",), RULES)
    assert (len(found), len(weak)) == (0, MOST_WEAK)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1), st.integers(0, 1)), max_size=12), st.floats(0.1, 0.9))
def test_what_counts_is_what_it_would_be_without_the_weak_ones(
    found: list[tuple[float, float, int]], threshold: float
) -> None:
    names = ("face", "license_plate")
    alone = merge([one_pass(*[f for f in found if np.float32(f[1]) >= threshold])], names, 0.4)
    both, weak = combine_with_weak([(one_pass(*found), threshold)], names, RULES * 2)
    np.testing.assert_array_equal(both.boxes_xyxy_px, alone.boxes_xyxy_px)
    np.testing.assert_array_equal(both.class_ids, alone.class_ids)
    assert (weak.scores < threshold).all()
