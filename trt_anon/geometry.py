"""Boxes between the stored and the upright picture of a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import Orientation

# For each orientation: (upright x, upright y) of a stored point (x, y) in a picture of width w and height h, both of
# the *stored* picture, written as (swap, mirror x, mirror y): first mirror the stored axes, then swap them.
_TURNS: dict[Orientation, tuple[bool, bool, bool]] = {
    Orientation.NORMAL: (False, False, False),
    Orientation.FLIP_HORIZONTAL: (False, True, False),
    Orientation.ROTATE_180: (False, True, True),
    Orientation.FLIP_VERTICAL: (False, False, True),
    Orientation.TRANSPOSE: (True, False, False),
    Orientation.ROTATE_90_CLOCKWISE: (True, False, True),
    Orientation.TRANSVERSE: (True, True, True),
    Orientation.ROTATE_90_COUNTERCLOCKWISE: (True, True, False),
}


def upright_size(width_px: int, height_px: int, orientation: Orientation) -> tuple[int, int]:
    """(width, height) of the upright picture of a stored one of that size."""
    return (height_px, width_px) if orientation.swaps_axes else (width_px, height_px)


def turn_upright(picture: NDArray[np.generic], orientation: Orientation) -> NDArray[np.generic]:
    """The upright view of a stored (H, W, ...) picture; no copy."""
    swap, mirror_x, mirror_y = _TURNS[orientation]
    if mirror_x:
        picture = picture[:, ::-1]
    if mirror_y:
        picture = picture[::-1]
    return picture.swapaxes(0, 1) if swap else picture


def points_to_upright(
    points_px: NDArray[np.float32], width_px: int, height_px: int, orientation: Orientation
) -> NDArray[np.float32]:
    """Stored points (..., 2) to upright ones; `width_px` and `height_px` are those of the stored picture."""
    swap, mirror_x, mirror_y = _TURNS[orientation]
    x, y = points_px[..., 0], points_px[..., 1]
    x = width_px - x if mirror_x else x
    y = height_px - y if mirror_y else y
    return np.stack((y, x) if swap else (x, y), axis=-1).astype(np.float32)


def points_to_stored(
    points_px: NDArray[np.float32], width_px: int, height_px: int, orientation: Orientation
) -> NDArray[np.float32]:
    """Upright points (..., 2) to stored ones; `width_px` and `height_px` are those of the stored picture."""
    swap, mirror_x, mirror_y = _TURNS[orientation]
    x, y = points_px[..., 0], points_px[..., 1]
    if swap:
        x, y = y, x
    return np.stack((width_px - x if mirror_x else x, height_px - y if mirror_y else y), axis=-1).astype(np.float32)


def _boxes_by(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate((points.min(axis=-2), points.max(axis=-2)), axis=-1)


def boxes_to_upright(
    boxes_xyxy_px: NDArray[np.float32], width_px: int, height_px: int, orientation: Orientation
) -> NDArray[np.float32]:
    """Stored boxes (..., 4) to upright ones."""
    corners = boxes_xyxy_px.reshape(*boxes_xyxy_px.shape[:-1], 2, 2)
    return _boxes_by(points_to_upright(corners, width_px, height_px, orientation))


def boxes_to_stored(
    boxes_xyxy_px: NDArray[np.float32], width_px: int, height_px: int, orientation: Orientation
) -> NDArray[np.float32]:
    """Upright boxes (..., 4) to stored ones."""
    corners = boxes_xyxy_px.reshape(*boxes_xyxy_px.shape[:-1], 2, 2)
    return _boxes_by(points_to_stored(corners, width_px, height_px, orientation))
