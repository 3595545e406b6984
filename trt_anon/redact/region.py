"""From detections to regions, and from regions to pixels: what exactly is destroyed.

A picture is divided into *blocks*: the luma pixels that share one chroma sample (2x2 in 4:2:0, 2x1 in 4:2:2, single
pixels where nothing is subsampled). Redaction takes whole blocks, luma and chroma alike, so no pixel ever keeps clear
luma under destroyed chroma or the other way round. A block belongs to a region when any part of it, however small, lies
in the region's shape; blocks cut by the right or bottom edge of an odd picture count as if they were whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.geometry import boxes_to_stored, points_to_stored
from trt_anon.redact.polygon import polygon_mask
from trt_anon.types import Orientation, Region, Shape

MIN_REGION_PX = 8.0
"""No region is narrower or lower than this, however small the detection."""

ROUNDED_CORNER_SHARE = 0.25
"""Corner radius of the shape `rounded`, as a share of the region's shorter side."""

_FARTHEST_PX = 1e9  # far outside any frame, and float32 still holds it; keeps coordinates from overflowing

Block = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rect:
    """The luma pixels [x0, x1) x [y0, y1), never empty, starting on a block."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0


def grow_regions(
    boxes_xyxy_px: NDArray[np.float32],
    *,
    grow: float | Sequence[float],
    shape: Shape | Sequence[Shape],
    min_size_px: float = MIN_REGION_PX,
    contours_px: Sequence[NDArray[np.float32]] | None = None,
) -> list[Region]:
    """Regions that hide the objects of these boxes: each box grown about its centre, never dropped.

    boxes_xyxy_px: (N, 4) in upright pixels; corners in the wrong order are put right. grow: the region's size relative
    to the box, at least 1. grow and shape are of all regions, or one for each box. min_size_px: their least width and
    height.
    `object_px` is the longer side before growth.
    contours_px: outlines (K, 2) of N masks. One of at least three points becomes a polygon instead of a grown box, its
    margin on every side the larger of the two by which growth would widen the outline's own box, and at least what
    brings that box to the least size.
    Raises ValueError where a box or outline is not finite: a broken detector must not pass for an empty street.
    """
    boxes = np.asarray(boxes_xyxy_px, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes_xyxy_px: expected (N, 4), got {boxes.shape}")
    if not np.isfinite(boxes).all():
        raise ValueError("boxes_xyxy_px holds values that are not finite: the detector's output cannot be trusted")
    corners = boxes.clip(-_FARTHEST_PX, _FARTHEST_PX).reshape(-1, 2, 2)
    low, high = corners.min(axis=1), corners.max(axis=1)
    grows = np.full(len(boxes), grow, np.float64)
    size = high - low
    half = np.maximum(size * grows[:, None], min_size_px) / 2
    centre = (low + high) / 2
    # rounding must not leave a sliver of the box outside
    grown = np.concatenate((np.minimum(centre - half, low), np.maximum(centre + half, high)), axis=1).tolist()
    objects = size.max(axis=1).tolist()
    shapes: Sequence[Shape] = [shape] * len(boxes) if isinstance(shape, str) else shape
    regions = [
        Region(x0, y0, x1, y1, drawn, size)
        for (x0, y0, x1, y1), drawn, size in zip(grown, shapes, objects, strict=True)
    ]
    if contours_px is None:
        return regions
    if len(contours_px) != len(regions):
        raise ValueError(f"{len(regions)} boxes but {len(contours_px)} outlines")
    return [
        _grow_polygon(np.asarray(outline, np.float64), region.object_px, growth, min_size_px)
        if len(outline) >= 3
        else region
        for region, outline, growth in zip(regions, contours_px, grows.tolist(), strict=True)
    ]


def _grow_polygon(points: NDArray[np.float64], object_px: float, grow: float, min_size_px: float) -> Region:
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"contours_px: expected outlines (K, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("contours_px holds values that are not finite: the detector's output cannot be trusted")
    points = points.clip(-_FARTHEST_PX, _FARTHEST_PX)
    size = np.ptp(points, axis=0)
    margin = max(float(size.max()) * (grow - 1) / 2, (min_size_px - float(size.min())) / 2, 0.0)
    return _polygon(points, max(object_px, float(size.max())), margin)


def _polygon(points: NDArray[np.floating], object_px: float, margin: float) -> Region:
    (x0, y0), (x1, y1) = (points.min(axis=0) - margin).tolist(), (points.max(axis=0) + margin).tolist()
    corners = tuple(map(tuple, points.tolist()))
    return Region(x0, y0, x1, y1, "polygon", object_px, corners, margin)


def regions_to_stored(
    regions: Sequence[Region], width_px: int, height_px: int, orientation: Orientation
) -> list[Region]:
    """Upright regions in the pixels of the stored picture, whose size is given; shapes and object sizes are kept."""
    if orientation is Orientation.NORMAL or not regions:
        return list(regions)
    boxes = np.array([(r.x0_px, r.y0_px, r.x1_px, r.y1_px) for r in regions], np.float32)
    stored = boxes_to_stored(boxes, width_px, height_px, orientation).tolist()
    turned = []
    for (x0, y0, x1, y1), region in zip(stored, regions, strict=True):
        if region.points_px:
            points = points_to_stored(np.array(region.points_px, np.float32), width_px, height_px, orientation)
            turned.append(_polygon(points.astype(np.float64), region.object_px, region.margin_px))
        else:
            turned.append(Region(x0, y0, x1, y1, region.shape, region.object_px))
    return turned


def check_region(region: Region) -> None:
    """Raise ValueError where a region's numbers are not finite, its corners are in the wrong order, or its polygon is
    none, or reaches beyond its box.
    """
    extent = (region.x1_px - region.x0_px, region.y1_px - region.y0_px)  # overflows where the corners do not
    numbers = (region.x0_px, region.y0_px, region.x1_px, region.y1_px, *extent, region.object_px, region.margin_px)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a region holds values that are not finite")
    if region.x1_px < region.x0_px or region.y1_px < region.y0_px or region.object_px < 0:
        raise ValueError("a region has its corners in the wrong order, or an object of negative size")
    if (region.shape == "polygon") != (len(region.points_px) >= 3) or region.margin_px < 0:
        raise ValueError("a region is a polygon exactly where it has at least three points, and its margin is >= 0")
    if region.points_px:
        points, margin = np.array(region.points_px, np.float64), region.margin_px
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError("a region has a polygon whose points are not finite pairs")
        low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
        slack = 1e-6 * max(1.0, float(np.abs(points).max()))
        box = np.array([region.x0_px, region.y0_px, -region.x1_px, -region.y1_px])
        if (np.concatenate((low, -high)) < box - slack).any():
            raise ValueError("a region's polygon reaches beyond its box, where it would not be redacted")


def _covered(low: float, high: float, size: int, block: int) -> tuple[int, int]:
    first = math.floor(low)
    last = max(math.ceil(high), first + 1)  # a region without extent covers the pixel it lies in
    first, last = min(max(first, 0), size), min(max(last, 0), size)
    if last > first:
        first, last = first // block * block, min(-(-last // block) * block, size)
    return first, last


def covered_rect(region: Region, width_px: int, height_px: int, block: Block = (1, 1)) -> Rect | None:
    """The smallest rectangle of whole blocks that holds the region's part of the picture; None where it has none.

    Edges are rounded outward, clipped to [0, width_px] x [0, height_px] and moved outward to the blocks, given as
    (width, height); in a picture of odd size the last block is cut, so the last row and column are always reached.
    """
    x0, x1 = _covered(region.x0_px, region.x1_px, width_px, block[0])
    y0, y1 = _covered(region.y0_px, region.y1_px, height_px, block[1])
    return Rect(x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _reach(centre: float, core: float, radius: float, start: int, stop: int, block: int) -> NDArray[np.float64]:
    """Squared distance of each block from the shape's core along one axis, in radii; 0 where they overlap."""
    gap: NDArray[np.float64] = np.arange(start, stop, block, dtype=np.float64)
    gap += block / 2 - centre
    np.abs(gap, out=gap)
    gap -= block / 2 + core
    np.maximum(gap, 0.0, out=gap)
    gap *= 1 / radius
    gap *= gap
    return gap


def region_mask(region: Region, rect: Rect, block: Block = (1, 1)) -> NDArray[np.bool_]:
    """Which blocks of `rect` the region takes: (rows, columns) of blocks, True where any part lies in the shape.

    A `polygon` takes what `polygon_mask` says, a `box` the whole rectangle. The others are a core box with an elliptic
    rim: no core and the half axes as rim for `ellipse`, a rim of `ROUNDED_CORNER_SHARE` for `rounded`. Half axes are at
    least half a pixel.
    """
    shape = (-(-rect.height // block[1]), -(-rect.width // block[0]))
    if region.shape == "box":
        return np.ones(shape, np.bool_)
    if region.shape == "polygon":
        return polygon_mask(np.array(region.points_px), region.margin_px, (rect.x0, rect.y0), shape, block)
    half_x = max((region.x1_px - region.x0_px) / 2, 0.5)
    half_y = max((region.y1_px - region.y0_px) / 2, 0.5)
    rim_x, rim_y = half_x, half_y
    if region.shape == "rounded":
        rim_x = rim_y = 2 * min(half_x, half_y) * ROUNDED_CORNER_SHARE
    centre_x, centre_y = (region.x0_px + region.x1_px) / 2, (region.y0_px + region.y1_px) / 2
    across = _reach(centre_x, half_x - rim_x, rim_x, rect.x0, rect.x1, block[0])
    down = _reach(centre_y, half_y - rim_y, rim_y, rect.y0, rect.y1, block[1])
    mask: NDArray[np.bool_] = np.add.outer(down, across) <= 1.0
    return mask


def expand_mask(blocks: NDArray[np.bool_], rect: Rect, block: Block) -> NDArray[np.bool_]:
    """The mask of single luma pixels, (height, width) of `rect`, that a mask of its blocks means."""
    if block == (1, 1):
        return blocks
    wide = blocks.repeat(block[0], axis=1) if block[0] > 1 else blocks
    high = wide.repeat(block[1], axis=0) if block[1] > 1 else wide
    return high[: rect.height, : rect.width]
