"""A frame as FFmpeg's encoders take it: its own native frame where that is safe, or else a copy of its planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.types import Frame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def picture_of(frame: Frame, target: str) -> VideoFrame:
    """The frame's samples in FFmpeg's format `target`, which holds exactly the same ones (`encoders.accepted_format`).

    The planes are the truth. The native frame is passed on, without a copy, only where they are its own memory: were
    they replaced, for instance by redacted copies, the native frame would still show the picture in clear.
    """
    native: VideoFrame | None = frame.native
    if native is not None and native.format.name == target:
        own = [(plane.buffer_ptr, plane.line_size) for plane in native.planes]
        if own == [(plane.ctypes.data, plane.strides[0]) for plane in frame.planes]:
            native.pict_type = 0  # else the encoder repeats the input's choice of frame types
            return native
    return _copy(frame, target)


def _copy(frame: Frame, target: str) -> VideoFrame:
    av = require("av", "writing video")
    picture: VideoFrame = av.VideoFrame(frame.width_px, frame.height_px, target)
    planes = list(frame.planes)
    if frame.pixel_format.kind == "semiplanar_yuv" and target not in ("nv12", "p010le"):
        planes = [planes[0], planes[1][..., 0], planes[1][..., 1]]
    shift = frame.pixel_format.sample_shift
    for index, plane in enumerate(picture.planes):
        rows = np.ndarray((plane.height, plane.line_size), np.uint8, buffer=memoryview(plane))
        out = rows.view(frame.pixel_format.dtype)
        if index >= len(planes):  # gray in a format that has chroma
            out[...] = 1 << (frame.pixel_format.bit_depth - 1)
            continue
        source = planes[index].reshape(planes[index].shape[0], -1)
        out[:, : source.shape[1]] = source >> shift if shift else source
    return picture
