"""The regions of a batch as the kernels of `frame.cu` read them: rectangles of blocks, shapes and outlines.

Everything that `region.py` and `polygon.py` derive from a region before they look at its blocks is derived here, for
all regions at once, by the same steps in float64, so that the masks are the same to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import address_of
from trt_anon.redact.bitmap import WORD, Bitmap
from trt_anon.redact.polygon import SLACK_PX
from trt_anon.redact.region import ROUNDED_CORNER_SHARE, check_region
from trt_anon.redact.soft import MAX_RADIUS
from trt_anon.types import Frame, Region

MASK_WORDS, MASK_ROWS = 4, 128  # of a tile of masks, as in frame.cu
TILE, ROWS = 32, 4  # of a block's threads
THREADS = TILE * ROWS  # of a block; as many rows of a round shape's mask, or words of a dilated one, make a tile
_MOST_PAIRS = 1 << 20  # of regions that are held against each other at once

# struct Region and struct Point of frame.cu.
REGION = np.dtype(
    [
        ("offset", np.float64, 2),
        ("inset", np.float64, 2),
        ("per_radius", np.float64, 2),
        ("radius", np.float64),
        ("bitmap", np.uint64),
        ("bitmap_at", np.int32, 2),
        ("bitmap_size", np.int32, 2),
        ("at", np.int32, 2),
        ("size", np.int32, 2),
        ("block", np.int32, 2),
        ("mask", np.uint32),
        ("first_point", np.uint32),
        ("points", np.uint32),
        ("begin", np.uint32),
        ("end", np.uint32),
        ("shape", np.int32),
        ("soft", np.int32),
        ("rim_at", np.int32, 2),
        ("derived", np.uint32),
        ("rivals", np.uint32),
    ],
    align=True,
)
POINT = np.dtype([("x", np.float64), ("y", np.float64), ("length", np.float64)], align=True)

_ROUND, BOX, _POLYGON, _BITMAP = range(4)  # of `shape`; a box has no mask
_SHAPES = {"ellipse": _ROUND, "rounded": _ROUND, "box": BOX, "polygon": _POLYGON}


@dataclass(frozen=True, slots=True, eq=False)
class RegionTable:
    """The regions of a batch that reach into their frames, frame by frame, the stronger behind the weaker.

    rows: (R,) REGION. points: POINT of all polygons. frame: (R,) index of each one's frame. object_px: (R,) float64, as
    strengths are relative to it. rects_px: (R, 4) int64, the covered (x0, y0, x1, y1), with the rim. rivals: uint32, of
    regions that meet stronger ones how many, and which; a 0 for all others comes first. mask_words: of all masks, plain
    (plain_words) and, where edges are soft, dilated by the rim.
    """

    rows: NDArray[np.void]
    points: NDArray[np.void]
    frame: NDArray[np.int64]
    object_px: NDArray[np.float64]
    rects_px: NDArray[np.int64]
    rivals: NDArray[np.uint32]
    mask_tiles: NDArray[np.int64]
    derived_tiles: NDArray[np.int64]
    mask_words: int
    plain_words: int
    bitmaps: tuple[Bitmap, ...]


def blocks_of(frames: Sequence[Frame]) -> NDArray[np.int64]:
    """(F, 2): the base-2 logarithms of the blocks' (width, height)."""
    return np.array(
        [(frame.pixel_format.log2_chroma_w, frame.pixel_format.log2_chroma_h) for frame in frames], np.int64
    ).reshape(-1, 2)


def region_table(
    frames: Sequence[Frame],
    regions_per_frame: Sequence[Sequence[Region]],
    bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None,
    strength: float,
    feather: float = 0.0,
) -> RegionTable:
    """The table of all regions of a batch; ValueError for what `check_region` refuses, or bitmaps that do not fit."""
    regions = [region for of_frame in regions_per_frame for region in of_frame]
    frame = np.repeat(np.arange(len(frames)), [len(of_frame) for of_frame in regions_per_frame])
    bitmaps = _bitmaps(regions, regions_per_frame, bitmaps_per_frame)
    numbers = np.array([(r.x0_px, r.y0_px, r.x1_px, r.y1_px, r.object_px, r.margin_px) for r in regions], np.float64)
    numbers = numbers.reshape(-1, 6)
    low, high = numbers[:, :2], numbers[:, 2:4]
    good = np.logical_and.reduce(np.isfinite(numbers), axis=1) & np.logical_and.reduce(numbers[:, 4:] >= 0, axis=1)
    good &= np.logical_and.reduce(high >= low, axis=1)
    for region, is_good in zip(regions, good.tolist(), strict=True):
        if not is_good or region.points_px or region.shape == "polygon":
            check_region(region)

    block = 1 << blocks_of(frames)[frame]
    extent = np.array([(f.width_px, f.height_px) for f in frames], np.int64).reshape(-1, 2)[frame]
    with np.errstate(over="ignore"):
        longer = (high - low).max(axis=1, initial=0.0)
    object_px = np.where(numbers[:, 4] != 0, numbers[:, 4], longer)
    # region.py, `covered_rect`
    edges = np.floor(low), np.maximum(np.ceil(high), np.floor(low) + 1)
    first, last = (np.clip(edge, 0, extent).astype(np.int64) for edge in edges)
    inside = np.logical_and.reduce(last > first, axis=1)
    first, last = first // block * block, np.minimum(-(-last // block) * block, extent)
    order = np.lexsort((object_px, frame))  # stable
    order = order[inside[order]]

    rows = np.zeros(len(order), REGION)
    frame, block, first, last = (array[order] for array in (frame, block, first, last))
    rows["at"], rows["size"], rows["block"] = first // block, -(-(last - first) // block), block
    rows["begin"], rows["end"] = (np.searchsorted(frame, frame, side=side) for side in ("left", "right"))
    radius = np.zeros(len(order), np.int64)
    if feather:  # soft.py, `soft_radius`
        wanted = np.ceil(np.minimum(feather * object_px[order], 1e6) / (2 * block.max(axis=1, initial=1)))
        radius = np.clip(wanted, 1, MAX_RADIUS).astype(np.int64)
    rim = 2 * radius[:, None] * block
    rim_first, rim_last = np.maximum(first - rim, 0), np.minimum(last + rim, extent[order])
    rows["soft"], rows["rim_at"] = radius, rim_first // block
    rows["shape"] = [_BITMAP if bitmaps[i] is not None else _SHAPES[regions[i].shape] for i in order.tolist()]
    _round_shapes(
        rows,
        low[order],
        high[order],
        block,
        np.array([regions[i].shape == "rounded" for i in order.tolist()], np.bool_),
    )
    points = _outlines(rows, [regions[i] for i in order.tolist()], first)
    used = []
    for row, i in zip(rows, order.tolist(), strict=True) if any(bitmaps) else ():
        bitmap = bitmaps[i]
        if bitmap is not None:
            row["bitmap"], row["bitmap_size"] = address_of(bitmap.words), (bitmap.width_px, bitmap.height_px)
            row["bitmap_at"] = (bitmap.x0_px, bitmap.y0_px) - row["at"] * row["block"]
            used.append(bitmap)
    words = -(-rows["size"][:, 0].astype(np.int64) // WORD)
    height = rows["size"][:, 1].astype(np.int64)
    drawn = rows["shape"] != BOX
    sizes = np.where(drawn, words * height, 0)
    rows["mask"] = np.cumsum(sizes) - sizes
    derived_words = -(-(rows["size"][:, 0] + 2 * radius) // WORD) * (height + 2 * radius) * (radius > 0)
    rows["derived"] = sizes.sum() + np.cumsum(derived_words) - derived_words
    rivals = np.zeros(1, np.uint32) if feather else _rivals(rows)
    tiles = np.where(rows["shape"] == _ROUND, -(-height // THREADS), -(-words // MASK_WORDS) * -(-height // MASK_ROWS))
    return RegionTable(
        rows=rows,
        points=points,
        frame=frame,
        object_px=np.minimum(object_px[order], (rim_last - rim_first).max(axis=1, initial=0) / strength),
        rects_px=np.concatenate((rim_first, rim_last), axis=1),
        rivals=rivals,
        mask_tiles=np.where(drawn, tiles, 0),
        derived_tiles=-(-derived_words // THREADS),
        mask_words=int(sizes.sum() + derived_words.sum()),
        plain_words=int(sizes.sum()),
        bitmaps=tuple(used),
    )


def _bitmaps(
    regions: Sequence[Region],
    regions_per_frame: Sequence[Sequence[Region]],
    bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None,
) -> list[Bitmap | None]:
    """A bitmap or None for each region, checked."""
    if bitmaps_per_frame is None:
        return [None] * len(regions)
    if [len(b) for b in bitmaps_per_frame] != [len(r) for r in regions_per_frame]:
        raise ValueError("bitmaps: expected one, or None, for each region of each frame")
    bitmaps = [bitmap for of_frame in bitmaps_per_frame for bitmap in of_frame]
    for region, bitmap in zip(regions, bitmaps, strict=True):
        if bitmap is None:
            continue
        if region.shape != "box":
            raise ValueError("a bitmap stands for the shape of a region, so its region is a box")
        check_region(region)
        x, y = math.floor(region.x0_px), math.floor(region.y0_px)
        x_end, y_end = max(math.ceil(region.x1_px), x + 1), max(math.ceil(region.y1_px), y + 1)
        fits = x <= bitmap.x0_px and bitmap.x0_px + bitmap.width_px <= x_end
        if not (fits and y <= bitmap.y0_px and bitmap.y0_px + bitmap.height_px <= y_end):
            raise ValueError("a bitmap reaches beyond the box of its region, where it would not be redacted")
        if max(map(abs, (bitmap.x0_px, bitmap.y0_px, bitmap.width_px, bitmap.height_px))) >= 1 << 28:
            raise ValueError("a bitmap lies farther away than the kernel can count")
    return bitmaps


def _round_shapes(
    rows: NDArray[np.void],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    block: NDArray[np.int64],
    rounded: NDArray[np.bool_],
) -> None:
    """What `region_mask` does before it looks at a block."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.maximum((high - low) / 2, 0.5)
        corner = 2 * half.min(axis=1, initial=np.inf) * ROUNDED_CORNER_SHARE
        rim = np.where(rounded[:, None], corner[:, None], half)
        rows["offset"] = block / 2 - (low + high) / 2
        rows["inset"] = block / 2 + (half - rim)
        rows["per_radius"] = 1 / rim


def _outlines(rows: NDArray[np.void], regions: Sequence[Region], first: NDArray[np.int64]) -> NDArray[np.void]:
    """What `polygon_mask` does before it looks at a row of blocks."""
    outlines = []
    count = 0
    for number in np.flatnonzero(rows["shape"] == _POLYGON).tolist():
        row, region, origin = rows[number], regions[number], first[number]
        unit = row["block"].astype(np.float64)
        start = (np.array(region.points_px, np.float64) - origin) / unit - 0.5
        along = np.roll(start, -1, axis=0) * unit - start * unit
        outline = np.zeros(len(start), POINT)
        outline["x"], outline["y"] = start.T
        outline["length"] = np.hypot(along[:, 0], along[:, 1])
        row["radius"] = region.margin_px + math.hypot(*row["block"].tolist()) / 2 + SLACK_PX
        row["first_point"], row["points"] = count, len(start)
        count += len(start)
        outlines.append(outline)
    return np.concatenate(outlines) if outlines else np.zeros(0, POINT)


def _rivals(rows: NDArray[np.void]) -> NDArray[np.uint32]:
    """The lists of stronger regions that each region meets; `rivals` of the rows becomes where its own begins."""
    begin, end = rows["begin"].astype(np.int64), rows["end"].astype(np.int64)
    low = rows["at"].astype(np.int64)
    high = low + rows["size"]
    weaker, stronger = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    most = int((end - begin).max(initial=1))
    for first in range(0, len(rows), max(_MOST_PAIRS // most, 1)):
        one = np.arange(first, min(first + max(_MOST_PAIRS // most, 1), len(rows)))[:, None]
        other = one + np.arange(1, most)  # of one frame they lie beside each other
        there = other < end[one]
        other = np.minimum(other, len(rows) - 1)
        for axis in range(2):
            there &= (low[other, axis] < high[one, axis]) & (high[other, axis] > low[one, axis])
        place, step = np.nonzero(there)
        weaker.append(place + first)
        stronger.append(other[place, step])
    of, which = np.concatenate(weaker), np.concatenate(stronger)
    owners, counts = np.unique(of, return_counts=True)
    lists = np.zeros(1 + len(owners) + len(which), np.uint32)
    starts = 1 + np.arange(len(owners)) + np.cumsum(counts) - counts
    lists[starts] = counts
    lists[np.arange(len(which)) + 2 + np.repeat(np.arange(len(owners)), counts)] = which
    rows["rivals"][owners] = starts
    return lists
