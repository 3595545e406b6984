"""Outlines against the cells they are drawn around, filled again by another library."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from trt_anon.detect.contours import grown_by_a_cell, outline
from trt_anon.redact.polygon import polygon_mask

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.booleans())


def flooded(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled: all that the outside, walking up, down, left and right, does not reach."""
    height, width = mask.shape
    reached, waiting = set(), [(-1, -1)]
    while waiting:
        y, x = waiting.pop()
        inside = 0 <= y < height and 0 <= x < width
        if (y, x) in reached or not (-1 <= y <= height and -1 <= x <= width) or (inside and mask[y, x]):
            continue
        reached.add((y, x))
        waiting += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return np.array([[(y, x) not in reached for x in range(width)] for y in range(height)])


def filled(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells that the outline winds around, by the angles it turns about a point just off their middle."""
    y, x = np.mgrid[:height, :width] + np.array((0.5137, 0.4771))[:, None, None]
    arms = points.astype(float)[:, None, None] - np.stack((x, y), axis=-1)
    angles = np.arctan2(arms[..., 1], arms[..., 0])
    steps = np.diff(np.concatenate((angles, angles[:1])), axis=0)
    turns = ((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=0) / (2 * np.pi)
    return np.abs(turns) > 0.5


@settings(max_examples=150, deadline=None)
@given(masks)
def test_it_winds_around_the_mask_and_its_holes_only(mask):
    points = outline(mask)
    assert points.dtype == np.float32
    if not mask.any():
        assert points.shape == (0, 2)
        return
    np.testing.assert_array_equal(points, np.round(points))
    np.testing.assert_array_equal(filled(points, *mask.shape), flooded(mask))


@settings(max_examples=60, deadline=None)
@given(masks)
def test_its_polygon_redacts_every_cell(mask):
    if mask.any():
        assert polygon_mask(outline(mask), 0.0, (0, 0), mask.shape)[mask].all()


def test_corners_only_where_it_turns():
    mask = np.zeros((6, 8), np.bool_)
    mask[1:5, 2:7] = True
    assert outline(mask).tolist() == [[2, 1], [7, 1], [7, 5], [2, 5]]


def test_cells_that_touch_at_a_corner_are_one_loop():
    assert outline(np.eye(3, dtype=np.bool_)).shape == (12, 2)


def test_parts_are_joined_there_and_back():
    mask = np.array([[1, 0, 1, 0, 1]], np.bool_)
    points = outline(mask)
    assert len(points) == 4 + 2 * 6
    np.testing.assert_array_equal(filled(points, 1, 5), mask)


def test_agrees_with_opencv_about_the_area():
    cv2 = pytest.importorskip("cv2")
    y, x = np.mgrid[:120, :160]
    mask = np.hypot((x - 70) * 0.7, y - 60) < 40 + 12 * np.sin(np.arctan2(y - 60, x - 70) * 5)
    points = outline(mask)
    assert cv2.contourArea(points) == pytest.approx(mask.sum())


@given(masks)
def test_grown_by_a_cell_is_opencvs_dilation(mask):
    cv2 = pytest.importorskip("cv2")
    wanted = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    np.testing.assert_array_equal(grown_by_a_cell(mask), wanted.reshape(mask.shape) > 0)
