"""What can be done with the masks of whole pictures: the reference, in NumPy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def disc_px(radius_px: float) -> tuple[int, int]:
    """The rows that a disc reaches up and down from its centre, and the square that no distance in it exceeds.

    Distances between pixels' centres are roots of whole numbers, so `dx * dx + dy * dy <= square` is the disc exactly.
    Raises ValueError for a radius that is negative or more than 4096.
    """
    if not 0 <= radius_px <= 4096:
        raise ValueError(f"the radius must be in [0, 4096], not {radius_px}")
    square = math.floor(radius_px * radius_px)
    return math.isqrt(square), square


def dilate(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """The pixels whose centre lies within the radius of a set pixel's: (H, W) bool, new. Outside nothing is set."""
    rows, square = disc_px(radius_px)
    height, width = mask.shape
    out = np.zeros_like(mask)
    before = np.zeros((height, width + 1), np.int64)  # how many are set to the left of each column
    before[:, 1:] = mask.cumsum(axis=1)
    columns = np.arange(width)
    for dy in range(-min(rows, height), min(rows, height) + 1):
        half = math.isqrt(square - dy * dy)
        near = before[:, np.minimum(columns + half + 1, width)] > before[:, np.maximum(columns - half, 0)]
        out[max(dy, 0) : height + min(dy, 0)] |= near[max(-dy, 0) : height - max(dy, 0)]
    return out


def covered_px(mask: NDArray[np.bool_], boxes_xyxy_px: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many pixels of each box (N, 4) are set in the mask (H, W); what of a box lies outside counts for nothing.

    A box holds the pixels [x0, x1) x [y0, y1); none where it is empty or its corners are in the wrong order.
    """
    height, width = mask.shape
    boxes = np.clip(boxes_xyxy_px, 0, (width, height, width, height))
    return np.array([np.count_nonzero(mask[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes.tolist()], np.int64)
