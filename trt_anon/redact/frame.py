"""Redaction of a frame: its regions are destroyed in its own planes, and nothing else is touched.

What a call to `Redactor.redact` does is defined apart from how: every region's replacement is computed from the
pixels as they were before the call, and where regions overlap, the one with the larger object wins (the later one of
equals), so that a weaker blur never lies over a stronger one. All regions can be computed in any order, or at once.

With soft edges (`soft.py`) a region wins over every rim, and of rims the one that weighs most there (of equals that of
the larger object); in a rim the replacement is mixed with the pixel as it was.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import available, require
from trt_anon.config import RedactConfig
from trt_anon.redact.gaussian import gaussian
from trt_anon.redact.gaussian_cpu import gaussian_cpu
from trt_anon.redact.paste import paste
from trt_anon.redact.paste_cpu import paste_cpu
from trt_anon.redact.pixelate import Edges, cell_edges, pixelate
from trt_anon.redact.pixelate_cpu import pixelate_cpu
from trt_anon.redact.region import Block, Rect, check_region, covered_rect, expand_mask, region_mask
from trt_anon.redact.soft import blend, rim_rect, soft_counts, soft_radius
from trt_anon.redact.solid import black_codes, solid
from trt_anon.types import Frame, PixelFormat, Plane, Region

_log = logging.getLogger(__name__)

MIN_SIGMA_PX = 2.0
"""The Gaussian's sigma is at least this many luma pixels, however small the object or the strength."""

MIN_CELL_PX = 4.0
"""A pixelation cell has at least this many luma pixels a side, however small the object or the strength."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Implementation:
    """One set of functions that compute replacements; all agree with the reference."""

    gaussian: Callable[[Plane, float, float], Plane]
    pixelate: Callable[[Plane, Edges, Edges], Plane]
    paste: Callable[[Plane, Plane, Mask], None]


_IMPLEMENTATIONS: Mapping[str, _Implementation] = {
    "reference": _Implementation(gaussian, pixelate, paste),
    "cpu": _Implementation(gaussian_cpu, pixelate_cpu, paste_cpu),
}


@dataclass(frozen=True, slots=True)
class _Crop:
    """The part of one plane that a region covers, as the methods see it.

    codes: (h, w) or (h, w, c), without `sample_shift`. black: one code per channel. object_px: in luma pixels.
    unit: luma pixels per sample of this plane, (across, down); block: luma pixels per block of the picture.
    """

    codes: Plane
    black: tuple[int, ...]
    object_px: float
    unit: Block
    block: Block


def _gaussian_of(crop: _Crop, strength: float, functions: _Implementation) -> Plane:
    sigma = max(strength * crop.object_px, MIN_SIGMA_PX)
    return functions.gaussian(crop.codes, sigma / crop.unit[0], sigma / crop.unit[1])


def _pixelate_of(crop: _Crop, strength: float, functions: _Implementation) -> Plane:
    # whole cells of this side number at most floor(1 / strength) over the object
    cell = max(crop.object_px / math.floor(1 / strength), MIN_CELL_PX)
    height, width = crop.codes.shape[:2]
    edges_x = _sample_edges(width, crop.block[0] // crop.unit[0], math.ceil(cell / crop.block[0]))
    edges_y = _sample_edges(height, crop.block[1] // crop.unit[1], math.ceil(cell / crop.block[1]))
    return functions.pixelate(crop.codes, edges_x, edges_y)


@lru_cache(maxsize=64)  # the two chroma planes of one region ask for the same
def _sample_edges(samples: int, per_block: int, cell_blocks: int) -> Edges:
    """The edges of cells of blocks, in samples of one plane: the cells of all planes correspond."""
    edges = np.minimum(cell_edges(-(-samples // per_block), cell_blocks) * per_block, samples)
    edges.flags.writeable = False
    return edges


def _solid_of(crop: _Crop, strength: float, functions: _Implementation) -> Plane:
    return solid(crop.codes, crop.black)


_METHODS: Mapping[str, Callable[[_Crop, float, _Implementation], Plane]] = {
    "gaussian": _gaussian_of,
    "pixelate": _pixelate_of,
    "solid": _solid_of,
}


@dataclass(frozen=True, slots=True)
class _Patch:
    """What replaces the samples of plane number `plane` at `rows` and `columns` where `mask` is set."""

    plane: int
    rows: slice
    columns: slice
    mask: Mask
    samples: Plane


def _units(pixel_format: PixelFormat) -> list[Block]:
    """Luma pixels per sample, (across, down), of each plane; the last is the size of a block."""
    chroma = (1 << pixel_format.log2_chroma_w, 1 << pixel_format.log2_chroma_h)
    return [(1, 1)] + [chroma] * {"planar_yuv": 2, "semiplanar_yuv": 1}.get(pixel_format.kind, 0)


class Redactor:
    """Destroys regions of frames as a configuration says; has no state, so one serves any number of threads.

    implementation: `reference` is the specification in NumPy, `cpu` the fast path with OpenCV; `auto` takes `cpu` where
    OpenCV is installed, else says so once and takes `reference`. Raises PackageMissing if `cpu` cannot be had.

    strength: sigma of the Gaussian is `strength * object_px`, at least `MIN_SIGMA_PX`; a cell of the pixelation is at
    least `object_px / floor(1 / strength)`, at least `MIN_CELL_PX`. Where a region does not say the size of its object,
    its own longer side is taken.
    """

    def __init__(self, config: RedactConfig, *, implementation: Literal["auto", "reference", "cpu"] = "auto") -> None:
        chosen: str = implementation
        if implementation == "auto":
            chosen = "cpu" if available("cv2") else "reference"
            if chosen == "reference" and config.method != "solid":
                _log.warning("OpenCV is not installed: redaction runs on NumPy, many times slower")
        if chosen not in _IMPLEMENTATIONS:
            raise ValueError(f"implementation {chosen!r} is none of auto, {', '.join(_IMPLEMENTATIONS)}")
        if chosen == "cpu":
            require("cv2", "fast redaction on a CPU")
        self.config = config
        self.implementation = chosen
        self._functions = _IMPLEMENTATIONS[chosen]
        self._method = _METHODS[config.method]

    def redact(self, frame: Frame, regions: Sequence[Region]) -> None:
        """Destroy the regions, given in stored pixels, in the frame's planes; pixels outside keep every bit.

        Regions may reach beyond the frame; those wholly outside do nothing. Alpha becomes opaque inside a region,
        whatever the method, because a silhouette identifies too. Raises ValueError, before anything is changed, where
        a region is not finite or has its corners in the wrong order.
        """
        for region in regions:
            check_region(region)
        block = _units(frame.pixel_format)[-1]
        placed = [
            (region, rect)
            for region in sorted(regions, key=_object_px)
            if (rect := covered_rect(region, frame.width_px, frame.height_px, block)) is not None
        ]
        if self.config.feather:
            self._redact_softly(frame, placed, block)
            return
        # All replacements wait for the first write, unless together they would outgrow a copy of the frame.
        crowded = sum(rect.width * rect.height for _, rect in placed) > frame.width_px * frame.height_px
        source = tuple(plane.copy() for plane in frame.planes) if crowded else frame.planes
        patches = (patch for region, rect in placed for patch in self._patches(frame, source, region, rect))
        for patch in patches if crowded else list(patches):
            target = frame.planes[patch.plane][patch.rows, patch.columns]
            self._functions.paste(target, patch.samples, patch.mask)

    def _redact_softly(self, frame: Frame, placed: Sequence[tuple[Region, Rect]], block: Block) -> None:
        shape = (-(-frame.height_px // block[1]), -(-frame.width_px // block[0]))
        owner, owner_of_rim = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
        most = np.full(shape, 1e-9)  # weights differ by more, or not at all
        rims = []
        for number, (region, rect) in enumerate(placed):
            radius = soft_radius(self.config.feather, _object_px(region), block)
            rim = rim_rect(rect, radius, frame.width_px, frame.height_px, block)
            whole, part = _in_blocks(rim, block), _in_blocks(rect, block)
            canvas = np.zeros(shape, np.bool_)
            canvas[part] = region_mask(region, rect, block)
            counts = soft_counts(canvas[whole], radius)
            weights = counts / (2 * radius + 1) ** 2
            owner_of_rim[whole][weights >= most[whole]] = number
            np.maximum(most[whole], weights, out=most[whole])
            owner[canvas] = number
            rims.append((region, rim, radius, counts))
        owner = np.where(owner < 0, owner_of_rim, owner)
        source = tuple(plane.copy() for plane in frame.planes)
        for number, (region, rim, radius, counts) in enumerate(rims):
            mask = owner[_in_blocks(rim, block)] == number
            if not mask.any():
                continue
            shift = frame.pixel_format.sample_shift
            for patch in self._patches(frame, source, region, rim, mask):
                old = source[patch.plane][patch.rows, patch.columns]
                # as `_patches`: chroma has a sample for each block, any other plane for each pixel
                of_samples = counts if len(frame.planes) > 1 and patch.plane else _of_pixels(counts, rim, block)
                mixed = blend(old, patch.samples, of_samples, radius, shift)
                paste(frame.planes[patch.plane][patch.rows, patch.columns], mixed, patch.mask)

    def redact_whole(self, frame: Frame) -> None:
        """Fill the whole frame with opaque black, whatever the configured method."""
        shift = frame.pixel_format.sample_shift
        for plane, codes in zip(frame.planes, black_codes(frame.pixel_format, frame.color), strict=True):
            plane[...] = [code << shift for code in codes] if plane.ndim == 3 else codes[0] << shift

    def _patches(
        self, frame: Frame, source: Sequence[Plane], region: Region, rect: Rect, mask: Mask | None = None
    ) -> Iterator[_Patch]:
        """What replaces the region in each plane, computed from `source`; mask: of blocks, where it is not its own."""
        form = frame.pixel_format
        units = _units(form)
        block = units[-1]
        blocks = region_mask(region, rect, block) if mask is None else mask
        pixels = expand_mask(blocks, rect, block)
        # a blur or cell wider than the crop has nothing more to destroy; unbounded, its padding would fill the memory
        object_px = min(_object_px(region), max(rect.width, rect.height) / self.config.detail_share)
        alpha = form.channels.find("a")
        for number, (unit, black) in enumerate(zip(units, black_codes(form, frame.color), strict=True)):
            across, down = unit
            rows = slice(rect.y0 // down, -(-rect.y1 // down))
            columns = slice(rect.x0 // across, -(-rect.x1 // across))
            codes = source[number][rows, columns]
            if form.sample_shift:
                codes = cast(Plane, codes >> form.sample_shift)
            samples = self._method(
                _Crop(codes, black, object_px, unit, block), self.config.detail_share, self._functions
            )
            if alpha >= 0:
                samples[..., alpha] = black[alpha]
            if form.sample_shift:
                np.left_shift(samples, form.sample_shift, out=samples)
            yield _Patch(number, rows, columns, pixels if unit == (1, 1) else blocks, samples)


def _in_blocks(rect: Rect, block: Block) -> tuple[slice, slice]:
    """The rows and columns of blocks of a rectangle that starts on one."""
    rows = slice(rect.y0 // block[1], -(-rect.y1 // block[1]))
    return rows, slice(rect.x0 // block[0], -(-rect.x1 // block[0]))


def _of_pixels(counts: NDArray[np.int64], rect: Rect, block: Block) -> NDArray[np.int64]:
    return counts.repeat(block[1], axis=0).repeat(block[0], axis=1)[: rect.height, : rect.width]


def _object_px(region: Region) -> float:
    """The size that strengths are relative to."""
    return region.object_px or max(region.x1_px - region.x0_px, region.y1_px - region.y0_px)
