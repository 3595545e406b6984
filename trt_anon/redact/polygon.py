"""Which blocks of a picture a grown polygon takes.

The grown polygon is everything that the outline winds around (the nonzero rule), and everything within a margin of the
outline. A block belongs where its centre lies within margin plus half the block's diagonal of that, so every block of
which any part lies in the grown polygon belongs, and none whose centre is farther away than that.

Each edge, widened by the radius, is convex, so it meets a row of block centres in one interval. All intervals of all
edges and rows are found at once and added up as differences along the row: the cost grows with the length of the
outline times the radius, and with the area only in one pass of sums.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLACK_PX = 1e-6  # rounding of the arithmetic must not lose a block

_TURN_POINTS = 65536  # edge-row pairs looked at together, which bounds the memory


def polygon_mask(
    points_px: NDArray[np.floating],
    margin_px: float,
    origin_px: tuple[int, int],
    shape: tuple[int, int],
    block: tuple[int, int] = (1, 1),
) -> NDArray[np.bool_]:
    """The blocks, (rows, columns) as in `shape`, that a closed polygon (K, 2) with a margin takes.

    origin_px: (x, y) of the first block's corner; block: its (width, height) in pixels. Raises ValueError for fewer
    than three points.
    """
    points = np.asarray(points_px, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"a polygon has at least three points (x, y), got {points.shape}")
    # in blocks, centres at whole numbers
    unit = np.array(block, np.float64)
    start = (points - origin_px) / unit - 0.5
    stop = np.roll(start, -1, axis=0)
    radius_px = margin_px + math.hypot(*block) / 2 + SLACK_PX
    return _inside(start, stop, shape) | _beside(start, stop, radius_px, unit, shape)


def _inside(start: Floats, stop: Floats, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Block centres that the outline winds around."""
    rows, columns = shape
    down = stop[:, 1] > start[:, 1]
    low, high = np.where(down[:, None], start, stop), np.where(down[:, None], stop, start)
    # an edge crosses the rows of [low y, high y)
    first = np.clip(np.ceil(low[:, 1]), 0, rows).astype(np.intp)
    last = np.clip(np.ceil(high[:, 1]), 0, rows).astype(np.intp)
    edges, row = _spread(first, last)
    share = (row - low[edges, 1]) / (high[edges, 1] - low[edges, 1])
    x = low[edges, 0] + share * (high[edges, 0] - low[edges, 0])
    column = np.clip(np.ceil(x), 0, columns).astype(np.intp)
    turns = np.zeros((rows, columns + 1), np.int32)
    np.add.at(turns, (row, column), np.where(down[edges], 1, -1).astype(np.int32))
    return np.asarray(turns.cumsum(axis=1)[:, :-1] != 0, np.bool_)


def _beside(start: Floats, stop: Floats, radius_px: float, unit: Floats, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Block centres within the radius of an edge."""
    rows, columns = shape
    reach = radius_px / unit[1]
    first = np.clip(np.ceil(np.minimum(start[:, 1], stop[:, 1]) - reach), 0, rows).astype(np.intp)
    last = np.clip(np.floor(np.maximum(start[:, 1], stop[:, 1]) + reach) + 1, 0, rows).astype(np.intp)
    counts = np.zeros((rows, columns + 1), np.int32)
    edges, row = _spread(first, last)
    for begin in range(0, len(edges), _TURN_POINTS):
        part = slice(begin, begin + _TURN_POINTS)
        a, b, y = start[edges[part]] * unit, stop[edges[part]] * unit, row[part] * unit[1]
        left, right = _capsule(a, b, y, radius_px)
        low = np.clip(np.ceil(left / unit[0]), 0, columns)
        high = np.clip(np.floor(right / unit[0]) + 1, 0, columns)
        hit = high > low  # false where the row misses the edge: the interval is inside out
        np.add.at(counts, (row[part][hit], low[hit].astype(np.intp)), 1)
        np.add.at(counts, (row[part][hit], high[hit].astype(np.intp)), -1)
    return np.asarray(counts.cumsum(axis=1)[:, :-1] > 0, np.bool_)


def _capsule(a: Floats, b: Floats, y: Floats, radius: float) -> tuple[Floats, Floats]:
    """The interval of x in which points (x, y) are within the radius of the segment from a to b; one per element.

    It is that of the two discs at the ends and of the rectangle between them; inside out where there is none.
    """
    left, right = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for end in (a, b):
        height = np.abs(y - end[:, 1])
        half = np.sqrt(np.maximum(radius * radius - height * height, 0.0))
        left = np.where(height <= radius, np.minimum(left, end[:, 0] - half), left)
        right = np.where(height <= radius, np.maximum(right, end[:, 0] + half), right)
    along = b - a
    length = np.hypot(along[:, 0], along[:, 1])
    dy = y - a[:, 1]
    # 0 <= (p - a) . along <= length^2, and |(p - a) x along| <= radius * length: each bounds x - a.x
    bounds = (
        (along[:, 0], along[:, 1] * dy, np.zeros_like(dy), length * length),
        (along[:, 1], -along[:, 0] * dy, -radius * length, radius * length),
    )
    low, high = np.full(len(y), -np.inf), np.full(len(y), np.inf)
    for slope, offset, least, most in bounds:
        flat = slope == 0
        safe = np.where(flat, 1.0, slope)
        ends = (least - offset) / safe, (most - offset) / safe
        low = np.maximum(low, np.where(flat, -np.inf, np.minimum(*ends)))
        high = np.minimum(high, np.where(flat, np.inf, np.maximum(*ends)))
        outside = flat & ((offset < least) | (offset > most))
        low = np.where(outside, np.inf, low)
    meets = (low <= high) & (length > 0)
    left = np.where(meets, np.minimum(left, a[:, 0] + low), left)
    right = np.where(meets, np.maximum(right, a[:, 0] + high), right)
    return left, right


def _spread(first: NDArray[np.intp], last: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(edge, row) for every row of [first, last) of every edge."""
    counts = np.maximum(last - first, 0)
    edges = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts)
    return edges, np.repeat(first, counts) + within
