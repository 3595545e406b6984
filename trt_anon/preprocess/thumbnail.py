"""The small grey picture of a frame that tracks are followed in."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.geometry import turn_upright
from trt_anon.types import Frame, PixelFormat, Plane

LONG_SIDE_PX = 512
"""No side of the small picture is longer."""


def grey_thumbnail(frame: Frame) -> NDArray[np.uint8]:
    """The upright picture in grey: (h, w) uint8, halved until no side is longer than LONG_SIDE_PX; a copy.

    Halves are means of 2x2 samples of luma (of the green channel where samples are packed colour), halves of a code
    rounded up each time; an odd last row or column is left out, and so are pixel aspect and range: positions are
    relative to the picture's size.
    """
    cv2 = require("cv2", "following objects through a video")
    samples = _grey_samples(frame.planes[0], frame.pixel_format)
    for _ in range(halvings(samples.shape[0], samples.shape[1])):
        height, width = samples.shape
        even = samples[: height // 2 * 2, : width // 2 * 2]
        samples = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    shift = frame.pixel_format.sample_shift + frame.pixel_format.bit_depth - 8
    small = samples >> shift if samples.dtype != np.uint8 else samples
    upright = turn_upright(small, frame.orientation)
    return np.array(upright, np.uint8, order="C")


def halvings(height_px: int, width_px: int) -> int:
    """How often a picture is halved; one whose shorter side is a single pixel no more."""
    count = 0
    while max(height_px, width_px) >> count > LONG_SIDE_PX and min(height_px, width_px) >> count >= 2:
        count += 1
    return count


def grey_place(form: PixelFormat) -> int:
    """Which sample of a pixel of the first plane is the grey one."""
    if form.kind != "packed":
        return 0
    return 0 if form.channels.startswith("y") else 1


def _grey_samples(plane: Plane, form: PixelFormat) -> Plane:
    if form.kind != "packed":
        return plane
    return cast(Plane, np.ascontiguousarray(plane[..., grey_place(form)]))
