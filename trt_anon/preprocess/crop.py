"""A part of a frame as a frame."""

from __future__ import annotations

import dataclasses

from trt_anon.errors import UsageError
from trt_anon.types import Frame


def crop(frame: Frame, x0_px: int, y0_px: int, width_px: int, height_px: int) -> Frame:
    """A part of a frame as a frame of its own, sharing its memory; stored pixels.

    Raises UsageError where it is empty, leaves the frame, or begins within pixels that share a chroma sample.
    """
    form = frame.pixel_format
    inside = 0 <= x0_px < x0_px + width_px <= frame.width_px and 0 <= y0_px < y0_px + height_px <= frame.height_px
    if not inside or x0_px % (1 << form.log2_chroma_w) or y0_px % (1 << form.log2_chroma_h):
        raise UsageError(
            f"{width_px}x{height_px} pixels at ({x0_px}, {y0_px}) are no part of a {form.name} frame of "
            f"{frame.width_px}x{frame.height_px}"
        )
    planes = []
    for index, (plane, shape) in enumerate(zip(frame.planes, form.plane_shapes(width_px, height_px), strict=True)):
        x, y = (x0_px, y0_px) if index == 0 else (x0_px >> form.log2_chroma_w, y0_px >> form.log2_chroma_h)
        planes.append(plane[y : y + shape[0], x : x + shape[1]])
    return dataclasses.replace(frame, planes=tuple(planes), width_px=width_px, height_px=height_px, native=None)
