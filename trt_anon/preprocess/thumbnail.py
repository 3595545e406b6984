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

    Halves are means of 2x2 samples of luma (of the green channel where samples are packed colour); an odd last row or
    column is left out, and so are pixel aspect and range: positions are relative to the picture's size.
    """
    cv2 = require("cv2", "following objects through a video")
    samples = _grey_samples(frame.planes[0], frame.pixel_format)
    while max(samples.shape) > LONG_SIDE_PX and min(samples.shape) >= 2:
        height, width = samples.shape
        even = samples[: height // 2 * 2, : width // 2 * 2]
        samples = cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    shift = frame.pixel_format.sample_shift + frame.pixel_format.bit_depth - 8
    small = samples >> shift if samples.dtype != np.uint8 else samples
    upright = turn_upright(small, frame.orientation)
    return np.array(upright, np.uint8, order="C")


def _grey_samples(plane: Plane, form: PixelFormat) -> Plane:
    if form.kind != "packed":
        return plane
    return cast(Plane, np.ascontiguousarray(plane[..., 0 if form.channels.startswith("y") else 1]))
