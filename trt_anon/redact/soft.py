"""Soft edges: outside of a region, a rim in which the replacement fades into the picture; the specification.

What lies in the region is destroyed as without a rim. Around it, a block's weight is the share of the blocks within
`radius` of it, along both axes, that lie within `radius` of the region: 1 in the region itself, falling to 0 where the
block is more than twice the radius away. It is a ratio of whole numbers, so every implementation gets the same.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trt_anon.redact.region import Block, Rect
from trt_anon.types import Plane

MAX_RADIUS = 15
"""A rim is at most twice as many blocks wide; a kernel holds a row of a block's neighbours in one word."""


def soft_radius(feather: float, object_px: float, block: Block) -> int:
    """The radius in blocks that makes a rim of about `feather` times the object's size; 0 without feather."""
    if not feather:
        return 0
    return min(max(math.ceil(min(feather * object_px, 1e6) / (2 * max(block))), 1), MAX_RADIUS)


def rim_rect(rect: Rect, radius: int, width_px: int, height_px: int, block: Block) -> Rect:
    """The part of the picture, in whole blocks, that a region's rectangle and its rim cover."""
    x, y = 2 * radius * block[0], 2 * radius * block[1]
    return Rect(max(rect.x0 - x, 0), max(rect.y0 - y, 0), min(rect.x1 + x, width_px), min(rect.y1 + y, height_px))


def soft_counts(mask: NDArray[np.bool_], radius: int) -> NDArray[np.int64]:
    """Weights of blocks, in units of 1 / (2 radius + 1)^2. mask: (rows, columns) of the region with its rim."""
    near = _sums(np.pad(mask, 2 * radius), radius) > 0
    counts = _sums(near, radius)
    inside = slice(2 * radius, -2 * radius or None)
    return counts[inside, inside]


def _sums(values: NDArray[np.bool_], radius: int) -> NDArray[np.int64]:
    """Of each place, the sum over its square of neighbours; beyond the edges there is nothing."""
    sums = np.pad(values.astype(np.int64), radius)
    for axis in range(2):
        ends = np.insert(np.cumsum(sums, axis=axis), 0, 0, axis=axis)
        high, low = (np.take(ends, np.arange(place, place + values.shape[axis]), axis) for place in (2 * radius + 1, 0))
        sums = high - low
    return sums


def blend(old: Plane, new: Plane, counts: NDArray[np.int64], radius: int, shift: int = 0) -> Plane:
    """Samples between two planes of one shape, their codes rounded half up; counts: (h, w), of the plane's samples.

    shift: of a code within its sample, as `PixelFormat.sample_shift`.
    """
    most = (2 * radius + 1) ** 2
    weight = counts if old.ndim == 2 else counts[..., np.newaxis]
    mixed = (2 * ((old >> shift) * (most - weight) + (new >> shift) * weight) + most) // (2 * most)
    return cast(Plane, (mixed << shift).astype(old.dtype))
