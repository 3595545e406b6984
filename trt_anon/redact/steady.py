"""Pixelation that moves with what it hides: in a video the same cell covers the same part of an object in every frame.

Cells that lie otherwise over an object in every frame are so many different averages of it: put together again, they
show more than one frame does. So a region is given an odd number of whole cells about the object's middle: whatever the
region's size, the cells then lie alike about the middle, to within a block, as long as the cells keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from trt_anon.redact.frame import MIN_CELL_PX
from trt_anon.types import Region

Block = tuple[int, int]


def steady_cells(regions: Sequence[Region], strength: float, block: Block) -> list[Region]:
    """Regions to pixelate, each as large as it was or larger, of whole cells about its middle.

    regions: in stored pixels. block: luma pixels per block, (across, down). A polygon stays as it is. Where the frame's
    edge cuts a region, the cells of what is left are divided anew.
    """
    return [region if region.shape == "polygon" else _steady(region, strength, block) for region in regions]


def _steady(region: Region, strength: float, block: Block) -> Region:
    over_object = math.floor(1 / strength)
    unit = max(block)
    size = region.object_px or max(region.x1_px - region.x0_px, region.y1_px - region.y0_px)
    cell = math.ceil(max(size / over_object, MIN_CELL_PX) / unit) * unit
    x0, x1 = _axis(region.x0_px, region.x1_px, cell, block[0])
    y0, y1 = _axis(region.y0_px, region.y1_px, cell, block[1])
    return replace(region, x0_px=x0, y0_px=y0, x1_px=x1, y1_px=y1, object_px=float(cell * over_object))


def _axis(low: float, high: float, cell: int, block: int) -> tuple[float, float]:
    """Where an odd number of cells begins and ends, on blocks, about the middle and beyond both ends."""
    middle = math.floor((low + high) / 2 / block + 0.5) * block
    # the middle cell begins on a block, half a cell before the middle
    start = middle - cell // (2 * block) * block
    before = max(0, -((math.floor(low) - start) // cell))
    after = max(0, -(-(math.ceil(high) - start - cell) // cell))
    each = max(before, after)
    return float(start - each * cell), float(start + (each + 1) * cell)
