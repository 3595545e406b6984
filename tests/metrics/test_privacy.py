from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.metrics.privacy import cover, exposed_share, reach_of_cover, redacted_share

eighths = st.integers(-40, 160).map(lambda n: n / 8)


@given(eighths, eighths, eighths, eighths, st.integers(0, 1000))
def test_cover_is_that_of_a_mask_enlarged_to_the_boxes_fractions(xa, ya, xb, yb, seed):
    """Edges at eighths of a pixel become whole pixels of a mask eight times as large."""
    mask = np.random.default_rng(seed).random((12, 15)) < 0.5
    x0, x1, y0, y1 = min(xa, xb), max(xa, xb), min(ya, yb), max(ya, yb)
    large = mask.repeat(8, axis=0).repeat(8, axis=1)
    inside = large[max(int(y0 * 8), 0) : max(int(y1 * 8), 0), max(int(x0 * 8), 0) : max(int(x1 * 8), 0)]
    wanted = inside.mean() if inside.size else 1.0
    assert cover(np.array([[x0, y0, x1, y1]]), mask)[0] == pytest.approx(wanted, abs=1e-12)


def test_cover_by_hand():
    mask = np.zeros((10, 10), np.bool_)
    mask[:, :5] = True
    boxes = np.array([[0, 0, 5, 10], [4, 0, 6, 10], [5, 0, 10, 10], [4.5, 0, 6.5, 1], [-10, 0, 10, 10], [3, 3, 3, 3]])
    assert cover(boxes.astype(np.float32), mask) == pytest.approx([1, 0.5, 0, 0.25, 0.5, 1])
    assert exposed_share(boxes, mask) == pytest.approx(4 / 6)
    assert exposed_share(boxes, mask, needed=0.5) == pytest.approx(2 / 6)
    assert redacted_share(mask) == 0.5


def test_the_last_row_and_column_count():
    mask = np.ones((4, 6), np.bool_)
    mask[-1] = mask[:, -1] = False
    assert cover(np.array([[5, 0, 6, 4], [0, 3, 6, 4], [0, 0, 6, 4]]), mask) == pytest.approx([0, 0, 15 / 24])


def test_nothing():
    mask = np.zeros((0, 0), np.bool_)
    assert redacted_share(mask) == 0
    assert exposed_share(np.zeros((0, 4)), mask) == 0
    assert cover(np.zeros((0, 4)), mask).shape == (0,)


def test_wrong_arguments_are_refused():
    mask = np.zeros((4, 4), np.bool_)
    with pytest.raises(ValueError, match="boxes"):
        cover(np.zeros((2, 5)), mask)
    with pytest.raises(ValueError, match="boxes"):
        cover(np.array([[0, 0, np.nan, 1]]), mask)
    with pytest.raises(ValueError, match="boolean"):
        cover(np.zeros((1, 4)), mask.astype(np.uint8))


@given(st.integers(0, 2**32), st.sampled_from([0.25, 0.5, 0.75, 0.9, 0.99, 1.0]))
def test_the_reach_of_cover_is_where_cover_crosses_the_share(seed, needed):
    """At every level there is, and just above it: covered so far exactly where the reach says so."""
    rng = np.random.default_rng(seed)
    levels = rng.choice(np.array([-np.inf, 0.2, 0.4, 0.6, 0.8], np.float32), (12, 15))
    low = rng.integers(-16, 100, (6, 2)) / 8
    boxes = np.concatenate((low, low + rng.integers(0, 80, (6, 2)) / 8), axis=1)
    reach = reach_of_cover(boxes, levels, [needed])[:, 0]
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9):
        covered = cover(boxes, levels >= np.float32(threshold)) >= needed - 1e-9
        assert covered.tolist() == (reach >= np.float32(threshold)).tolist()


def test_wrong_levels_are_refused():
    box = np.array([[0, 0, 1, 1]], np.float64)
    with pytest.raises(ValueError, match="levels"):
        reach_of_cover(box, np.zeros((4, 4)), [0.5])
    with pytest.raises(ValueError, match="levels"):
        reach_of_cover(box, np.full((4, 4), np.nan, np.float32), [0.5])
    with pytest.raises(ValueError, match="shares"):
        reach_of_cover(box, np.zeros((4, 4), np.float32), [0.0])
    with pytest.raises(ValueError, match="boxes"):
        reach_of_cover(np.zeros((1, 3)), np.zeros((4, 4), np.float32), [0.5])
