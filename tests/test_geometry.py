"""Boxes turn as the pictures do, for all eight orientations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.geometry import (
    boxes_to_stored,
    boxes_to_upright,
    points_to_stored,
    points_to_upright,
    turn_upright,
    upright_size,
)
from trt_anon.types import Orientation

orientations = pytest.mark.parametrize("orientation", Orientation)


def marked_box(picture: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@orientations
def test_pictures_turn_as_exif_says(orientation: Orientation) -> None:
    image_module = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    stored = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)
    image = image_module.fromarray(stored)
    image.getexif()[0x0112] = int(orientation)
    np.testing.assert_array_equal(turn_upright(stored, orientation), np.asarray(ops.exif_transpose(image)))


@orientations
def test_turning_makes_no_copy_and_keeps_channels(orientation: Orientation) -> None:
    stored = np.zeros((5, 7, 3), np.uint8)
    upright = turn_upright(stored, orientation)
    assert np.shares_memory(stored, upright)
    assert upright.shape == (*upright_size(7, 5, orientation)[::-1], 3)


@orientations
@given(data=st.data())
def test_boxes_turn_as_the_picture_does(orientation: Orientation, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    stored = np.zeros((height, width), np.bool_)
    stored[y0:y1, x0:x1] = True
    box = np.array([[x0, y0, x1, y1]], np.float32)
    upright = boxes_to_upright(box, width, height, orientation)
    assert upright.tolist() == [marked_box(turn_upright(stored, orientation))]
    assert boxes_to_stored(upright, width, height, orientation).tolist() == box.tolist()


coordinates = st.floats(-4096, 8192, width=16)


@orientations
@given(points=st.lists(st.tuples(coordinates, coordinates), max_size=5))
def test_points_come_back(orientation: Orientation, points: list[tuple[float, float]]) -> None:
    array = np.array(points, np.float32).reshape(-1, 2)
    there = points_to_upright(array, 1919, 1079, orientation)
    assert there.dtype == np.float32
    np.testing.assert_allclose(points_to_stored(there, 1919, 1079, orientation), array, atol=1e-2)


@orientations
def test_no_boxes_and_boxes_of_many_axes(orientation: Orientation) -> None:
    assert boxes_to_upright(np.zeros((0, 4), np.float32), 8, 6, orientation).shape == (0, 4)
    assert boxes_to_stored(np.zeros((2, 3, 4), np.float32), 8, 6, orientation).shape == (2, 3, 4)
