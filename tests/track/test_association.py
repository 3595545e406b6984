"""Who continues whom."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.track.association import assign, associate, overlaps

pytest.importorskip("lap")


def boxes(*corners: tuple[float, float, float]) -> np.ndarray:
    return np.array([(x, y, x + side, y + side) for x, y, side in corners], np.float64).reshape(-1, 4)


def ask(tracks: np.ndarray, found: np.ndarray, confident: list[bool], classes: list[int] | None = None) -> list[int]:
    zeros = np.zeros(len(tracks), np.int32)
    of_found = np.zeros(len(found), np.int32) if classes is None else np.array(classes, np.int32)
    owner = associate(tracks, zeros, np.zeros((len(tracks), 2)), found, of_found, np.array(confident, np.bool_))
    return [int(o) for o in owner]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_the_assignment_has_the_greatest_total_score_of_all(rows: int, columns: int, seed: int, least: float) -> None:
    score = np.random.default_rng(seed).uniform(0, 1, (rows, columns))
    picked = assign(score, least)
    assert len(set(picked[0].tolist())) == len(picked[0])
    assert len(set(picked[1].tolist())) == len(picked[1])
    assert (score[picked] >= least).all()
    # every pair is worth what it scores above the limit, as leaving both alone is worth nothing
    worth = np.maximum(score - least, 0)
    size = max(rows, columns)
    square = np.zeros((size, size))
    square[:rows, :columns] = worth
    best = max(sum(square[i, p[i]] for i in range(size)) for p in permutations(range(size)))
    assert worth[picked].sum() == pytest.approx(best, abs=1e-6)


def test_confident_detections_choose_first_and_weak_ones_continue_what_is_left() -> None:
    tracks = boxes((0, 0, 20), (100, 0, 20))
    found = boxes((2, 0, 20), (6, 0, 20), (101, 0, 20))
    assert ask(tracks, found, [False, True, False]) == [-1, 0, 1]


def test_classes_never_mix() -> None:
    assert ask(boxes((0, 0, 20)), boxes((0, 0, 20)), [True], [1]) == [-1]


def test_a_small_object_that_moved_by_its_own_size_is_still_met() -> None:
    assert ask(boxes((0, 0, 10)), boxes((10, 0, 10)), [True]) == [0]
    assert ask(boxes((0, 0, 10)), boxes((30, 0, 10)), [True]) == [-1]


def test_uncertainty_widens_what_is_met() -> None:
    tracks, found = boxes((0, 0, 10)), boxes((18, 0, 10))
    one = np.zeros(1, np.int32)
    narrow = associate(tracks, one, np.zeros((1, 2)), found, one, np.array([True]))
    wide = associate(tracks, one, np.full((1, 2), 12.0), found, one, np.array([True]))
    assert (narrow.tolist(), wide.tolist()) == ([-1], [0])


def test_nothing_meets_nothing() -> None:
    assert ask(boxes(), boxes((0, 0, 5)), [True]) == [-1]
    assert ask(boxes((0, 0, 5)), boxes(), []) == []
    empty = np.zeros((1, 4))
    assert overlaps(empty, empty, np.zeros((1, 2)))[0, 0] == 0
    assert overlaps(empty, empty, np.ones((1, 2)))[0, 0] == 1
