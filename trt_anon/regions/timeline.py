"""Where regions by hand are in one frame: the timeline is read, movements are interpolated, shapes become pixels."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trt_anon.regions.schema import Box, Corner, ManualRegion, Outline, RegionsConfig
from trt_anon.types import Region

Moment = tuple[float, float]
"""The time that a frame is shown: from, to; in the unit of the file."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A region by hand in one frame: its shapes in upright pixels, one by one."""

    region: ManualRegion
    shapes: tuple[Region, ...]


class Timeline:
    """The regions of one input, asked frame by frame; holds nothing of a frame, so any thread may ask."""

    def __init__(self, config: RegionsConfig, source: str | Path) -> None:
        """Take those regions whose patterns fit the input's path."""
        path = Path(source).as_posix()
        self._config = config
        self._regions = tuple(region for region in config.regions if _applies(region, path))
        self._times = {id(region): [key.at for key in region.keyframes] for region in self._regions}

    @property
    def count(self) -> int:
        """How many regions apply to the input at some time."""
        return len(self._regions)

    def __bool__(self) -> bool:
        return bool(self._regions)

    def at(
        self, index: int, seconds: float | None, shown_seconds: float, width_px: int, height_px: int
    ) -> tuple[Placed, ...]:
        """The regions of the frame with this number and time, which is shown for so long, of this upright size.

        A region that is there while the frame is shown is there from its first moment: a frame can be redacted as a
        whole only. An image, which has no time, is at 0.
        """
        if self._config.time_unit == "frames":
            moment = (float(index), float(index))
        else:
            since = seconds or 0.0
            moment = (since, since + max(shown_seconds, 0.0))
        scale = (1.0, 1.0) if self._config.coordinates == "pixels" else (float(width_px), float(height_px))
        placed = []
        for region in self._regions:
            outlines = [drawn for shape in self._shapes(region, moment) for drawn in to_pixels(shape, scale)]
            if outlines:
                placed.append(Placed(region, tuple(outlines)))
        return tuple(placed)

    def _shapes(self, region: ManualRegion, moment: Moment) -> list[Outline]:
        first, last = _span(region)
        if moment[1] < first or moment[0] > last:
            return []
        if not region.keyframes:
            return [region]
        # where it is when the frame appears and, should it come or go meanwhile, where it is then
        now = [min(max(time, first), last) for time in moment]
        shapes = [shape for time in dict.fromkeys(now) if (shape := self._shape(region, time)) is not None]
        times = self._times[id(region)]
        inner = range(bisect.bisect_right(times, now[0]), bisect.bisect_right(times, now[1]))
        shapes += [region.keyframes[n] for n in inner if not region.keyframes[n].outside]
        return list(dict.fromkeys(shapes))

    def _shape(self, region: ManualRegion, time: float) -> Outline | None:
        times = self._times[id(region)]
        place = bisect.bisect_right(times, time) - 1
        if place < 0:
            return None if region.keyframes[0].outside else region.keyframes[0]
        before = region.keyframes[place]
        if before.outside:
            return None
        if place + 1 == len(times):
            return before
        after = region.keyframes[place + 1]
        if before.hold or after.outside or time == before.at:
            return before
        return moved(before, after, (time - before.at) / (after.at - before.at))


def _applies(region: ManualRegion, path: str) -> bool:
    return not region.files or any(fnmatchcase(path, p) or fnmatchcase(path, f"*/{p}") for p in region.files)


def only_file(name: str) -> str:
    """A pattern that fits this name alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _span(region: ManualRegion) -> Moment:
    """When the region can be there at all."""
    keys = region.keyframes
    first, last = (keys[0].at, keys[-1].at) if len(keys) > 1 else (0.0, math.inf)
    if keys and region.start is None and len(keys) == 1:
        first = keys[0].at
    return (first if region.start is None else region.start), (last if region.end is None else region.end)


def moved(before: Outline, after: Outline, share: float) -> Outline:
    """The shape `share` (0 to 1) of the way from one to another of the same kind; each corner goes straight."""

    def between(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
        return tuple(a + (b - a) * share for a, b in zip(one, other, strict=True))

    if before.box and after.box:
        return Outline.model_construct(box=cast(Box, between(before.box, after.box)))
    if before.ellipse and after.ellipse:
        return Outline.model_construct(ellipse=cast(Box, between(before.ellipse, after.ellipse)))
    polygons = tuple(
        tuple(cast(Corner, between(a, b)) for a, b in zip(one, other, strict=True))
        for one, other in zip(before.outlines, after.outlines, strict=True)
    )
    return Outline.model_construct(polygons=polygons)


def to_pixels(outline: Outline, scale: tuple[float, float]) -> list[Region]:
    """The regions, in upright pixels, that an outline means; `scale`: pixels per unit, across and down.

    `object_px` is the longer side of the drawn shape: strengths are relative to it.
    """
    across, down = scale
    if corners := outline.box or outline.ellipse:
        x0, y0, x1, y1 = (v * s for v, s in zip(corners, (across, down, across, down), strict=True))
        return [Region(x0, y0, x1, y1, "box" if outline.box else "ellipse", max(x1 - x0, y1 - y0))]
    drawn = []
    for polygon in outline.outlines:
        points: NDArray[np.float64] = np.array(polygon, np.float64) * scale
        (x0, y0), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        drawn.append(Region(x0, y0, x1, y1, "polygon", max(x1 - x0, y1 - y0), tuple(map(tuple, points.tolist()))))
    return drawn
