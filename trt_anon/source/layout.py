"""A decoded picture in a layout that the stages understand, its planes as writable arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import InputError
from trt_anon.types import PIXEL_FORMATS, PixelFormat, Plane

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FULL_RANGE, LIMITED_RANGE = 2, 1  # FFmpeg's AVCOL_RANGE_JPEG and AVCOL_RANGE_MPEG
BT709 = 1

# What video encoders take; other formats of PIXEL_FORMATS are those of images.
_VIDEO_KINDS = ("planar_yuv", "semiplanar_yuv", "gray")


def nearest_format(name: str) -> str:
    """The layout that frames of FFmpeg's format `name` are given in: itself where the stages know it.

    Otherwise the nearest planar one that loses least: palettes and RGB become full-range 4:4:4 (matrix BT.709), alpha
    is dropped, byte order and interleaving are undone, 4:1:1 becomes 4:2:2, 4:4:0 becomes 4:4:4, 4:1:0 becomes 4:2:0,
    odd bit depths are rounded up to 10 or 12, more than 12 bits are rounded to 12. Raises InputError for what is no
    picture in YUV, RGB or gray (XYZ, raw sensor data).
    """
    known = PIXEL_FORMATS.get(name)
    if known is not None and known.kind in _VIDEO_KINDS and name != "gray16le":
        return name
    if name.startswith(("xyz", "bayer")):
        raise InputError(f"pixel format {name} is not supported; convert the file to H.264 or HEVC first")
    fmt = require("av", "reading video").VideoFormat(name, 16, 16)
    bits = 8 if fmt.has_palette else max(c.bits for c in fmt.components)
    depth = "" if bits <= 8 else "10le" if bits <= 10 else "12le"
    if fmt.has_palette or fmt.is_rgb:
        return f"yuv444p{depth}"
    if len(fmt.components) < 3:
        return {"": "gray", "10le": "gray10le"}.get(depth, "yuv420p12le")
    chroma_w, chroma_h = 16 // fmt.chroma_width(), 16 // fmt.chroma_height()
    sampling = "444" if chroma_w == 1 else "422" if chroma_h == 1 else "420"
    return f"yuv{'j' if name.startswith('yuvj') else ''}{sampling}p{depth}"


def is_rgb(name: str) -> bool:
    """Whether FFmpeg's format `name` holds colours rather than luma and chroma."""
    fmt = require("av", "reading video").VideoFormat(name, 16, 16)
    return bool(fmt.is_rgb or fmt.has_palette)


def in_layout(frame: VideoFrame, target: str, full_range: bool) -> VideoFrame:
    """The picture in the layout `target`, its memory shared with nobody: the decoder may keep the original."""
    if frame.format.name != target:
        rng = FULL_RANGE if full_range else LIMITED_RANGE
        if is_rgb(frame.format.name):
            new = frame.reformat(
                format=target, src_color_range=FULL_RANGE, dst_color_range=FULL_RANGE, dst_colorspace="ITU709"
            )
        else:  # the same range on both sides: codes are rearranged, never rescaled
            new = frame.reformat(format=target, src_color_range=rng, dst_color_range=rng)
        new.pts, new.duration = frame.pts, frame.duration
        if frame.time_base is not None:
            new.time_base = frame.time_base
        frame = new
    if any(plane.line_size < 0 for plane in frame.planes):  # stored bottom up
        frame = _top_down(frame)
    frame.make_writable()
    return frame


def _top_down(frame: VideoFrame) -> VideoFrame:
    new = type(frame)(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, new.planes, strict=True):
        stride = abs(source.line_size)
        rows = np.ndarray((source.height, stride), np.uint8, buffer=memoryview(source))[::-1]
        out = np.ndarray((target.height, target.line_size), np.uint8, buffer=memoryview(target))
        used = min(stride, target.line_size)
        out[:, :used] = rows[:, :used]
    new.pts, new.duration = frame.pts, frame.duration
    if frame.time_base is not None:
        new.time_base = frame.time_base
    return new


def plane_views(frame: VideoFrame, pixel_format: PixelFormat) -> tuple[Plane, ...]:
    """Writable views of the picture's planes, shaped as `pixel_format` says; they keep its memory alive."""
    views: list[Plane] = []
    item = pixel_format.dtype.itemsize
    shapes = pixel_format.plane_shapes(frame.width, frame.height)
    for plane, shape in zip(frame.planes, shapes, strict=True):
        strides = (plane.line_size, item) if len(shape) == 2 else (plane.line_size, shape[2] * item, item)
        views.append(np.ndarray(shape, pixel_format.dtype, buffer=memoryview(plane), strides=strides))
    return tuple(views)
