"""Pixelation of a crop: the reference, in NumPy.

The crop is divided into a grid of nearly equal cells, none smaller than asked for (a thin cell at the edge would keep
detail), and each cell takes its mean.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import Plane

Edges = NDArray[np.intp]


def cell_edges(blocks: int, cell_blocks: int) -> Edges:
    """Where the cells of one axis begin and end, in blocks: n + 1 numbers from 0 to `blocks`.

    n is the number of whole cells of `cell_blocks` that fit, at least one; edge i is floor(i * blocks / n), so no cell
    is smaller than `cell_blocks` unless the whole axis is.
    """
    count = max(blocks // cell_blocks, 1)
    return np.arange(count + 1) * blocks // count


def pixelate(crop: Plane, edges_x: Edges, edges_y: Edges) -> Plane:
    """The crop with each cell replaced by its mean, new: integer sums, rounded half up.

    crop: (h, w) or (h, w, c) codes of one plane, uint8 or uint16. edges_x, edges_y: increasing, in samples of that
    plane, from 0 to w and from 0 to h.
    """
    out = np.empty_like(crop)
    for y0, y1 in pairwise(edges_y):
        for x0, x1 in pairwise(edges_x):
            count = (y1 - y0) * (x1 - x0)
            total = crop[y0:y1, x0:x1].sum(axis=(0, 1), dtype=np.int64)
            out[y0:y1, x0:x1] = (2 * total + count) // (2 * count)
    return out
