"""From masks to outlines along the edges of their cells: exact, so that an outline covers every cell of its mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.outputs import Floats

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def outline(mask: NDArray[np.bool_]) -> Floats:
    """The closed outline (K, 2) of a mask (h, w), as points (x, y) at the corners of its cells.

    The cell in row r and column c covers [c, c + 1] x [r, r + 1].
    It winds around every cell of the mask, clockwise as one looks at it. Holes are filled: what a mask encloses is as
    good as in it. Cells that touch at a corner belong together. Several parts become one outline, in which a way of no
    width leads from each part to the first. (0, 2) for an empty mask.
    """
    height, width = mask.shape
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        inside & ~padded[:-2, 1:-1],  # above: an edge to the right starts at the cell's top left corner
        inside & ~padded[1:-1, 2:],
        inside & ~padded[2:, 1:-1],
        inside & ~padded[1:-1, :-2],
    )
    exits = np.zeros((height + 1, width + 1), np.uint8)  # of each corner, bit d: an edge leaves it in direction d
    for direction, (side, (down, right)) in enumerate(zip(sides, ((0, 0), (0, 1), (1, 1), (1, 0)), strict=True)):
        exits[down : down + height, right : right + width] |= (side << direction).astype(np.uint8)
    starts = np.argwhere(exits & 1).tolist()
    ways = exits.tolist()
    loops = [loop for y, x in starts if ways[y][x] & 1 and _turns_right(loop := _follow(ways, x, y))]
    if not loops:
        return np.zeros((0, 2), np.float32)
    points = list(loops[0])
    for loop in loops[1:]:
        points += [loops[0][0], *loop, loop[0]]
    return np.array(points, np.float32)


def _follow(ways: list[list[int]], x: int, y: int) -> list[tuple[int, int]]:
    """The corners of the loop whose edge leaves (x, y) to the right; its edges are taken out of `ways`."""
    direction, points = 0, [(x, y)]
    first = (x, y)
    while True:
        ways[y][x] &= ~(1 << direction)
        x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
        # left first, so that cells which touch at a corner stay together
        for turn in (3, 0, 1):
            if ways[y][x] >> (direction + turn & 3) & 1:
                break
        else:
            break  # nothing leaves: back at the start
        if turn:
            points.append((x, y))
            direction = direction + turn & 3
    if (x, y) != first:
        raise RuntimeError("an outline does not close")
    return points


def _turns_right(loop: list[tuple[int, int]]) -> bool:
    """Whether a loop runs around cells, and not around a hole: by the sign of its area."""
    points = np.array(loop, np.int64)
    x, y = points.T
    return bool((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0)


def grown_by_a_cell(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and all cells that touch it, corners included."""
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:], np.bool_)
