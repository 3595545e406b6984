"""What a transparent picture shows: its colours as they are stored, and as they are seen on white and on black."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from trt_anon.types import Frame, Plane


def as_seen(frame: Frame) -> list[Frame]:
    """The frames that have to be looked at: the frame itself, and where some of it is transparent, two more.

    Stored colours hold what no viewer shows and every program can read; what shines through a picture can be a picture
    too. Colour over a ground: (c * a + ground * (top - a)) / top, rounded; the new frames are opaque, and copies.
    """
    place = frame.pixel_format.channels.find("a")
    if place < 0:
        return [frame]
    (plane,) = frame.planes
    alpha = plane[..., place]
    top = (1 << frame.pixel_format.bit_depth) - 1
    if alpha.size and int(alpha.min()) == top:
        return [frame]
    return [frame, *(replace(frame, planes=(_over(plane, place, ground, top),), native=None) for ground in (top, 0))]


def _over(plane: Plane, place: int, ground: int, top: int) -> Plane:
    wide = plane.astype(np.uint64)
    alpha = wide[..., place : place + 1]
    seen = (wide * alpha + np.uint64(ground) * (np.uint64(top) - alpha) + np.uint64(top // 2)) // np.uint64(top)
    seen[..., place] = top
    return cast(Plane, seen.astype(plane.dtype))
