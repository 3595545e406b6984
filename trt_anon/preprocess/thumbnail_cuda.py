"""The CUDA twin of `thumbnail`: the small grey pictures of a batch of frames, where the frames are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting, address_of, side_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.geometry import turn_upright
from trt_anon.preprocess.thumbnail import grey_place, halvings
from trt_anon.types import Frame

MAX_JOBS = 32
"""Frames per launch; their addresses travel with it."""

SOURCE = Path(__file__).with_name("thumbnail.cu")
_THREADS, _MAX_SIDE_PX = 256, 0xFFFF

# struct Jobs and struct Form of thumbnail.cu.
_JOBS = np.dtype([("plane", np.uint64, MAX_JOBS), ("out", np.uint64, MAX_JOBS)], align=True)
_FORM = np.dtype(
    [
        ("pitch_bytes", np.uint32),
        ("width", np.int32),
        ("height", np.int32),
        ("step", np.int32),
        ("place", np.int32),
        ("halvings", np.int32),
        ("shift", np.int32),
        ("wide", np.int32),
    ],
    align=True,
)


def stored_hw_px(height_px: int, width_px: int) -> tuple[int, int]:
    """(h, w) of the small picture of stored frames of a size, before it is turned upright."""
    count = halvings(height_px, width_px)
    return height_px >> count, width_px >> count


class ThumbnailCuda:
    """Launches the kernel of `thumbnail.cu`."""

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._kernel = Kernel(SOURCE, "thumbnail", host=host, accounting=accounting)

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """`thumbnail.grey_thumbnail` by the kernel, of one frame in host memory, bit for bit."""
        small = np.empty(stored_hw_px(frame.height_px, frame.width_px), np.uint8)
        self.batch([frame], [small])
        return np.array(turn_upright(small, frame.orientation), np.uint8, order="C")

    def batch(self, frames: Sequence[Frame], outs: Sequence[Any], *, stream: Any = None) -> None:
        """Make the small picture of each frame, MAX_JOBS to a launch, without waiting for it.

        frames: of one format, size and stride. outs: C-contiguous uint8 arrays of `stored_hw_px`, as the picture is
        stored: `turn_upright` turns them. All planes and outs are NumPy's or all CuPy's, and must live until the launch
        has run. Raises ValueError for shapes, dtypes and strides that do not fit, and what `Kernel.launch` raises.
        """
        if len(frames) != len(outs):
            raise ValueError(f"{len(frames)} frames and {len(outs)} outs do not match")
        if not outs:
            return
        planes = [frame.planes[0] for frame in frames]
        side_of([*outs, *planes])
        form = _form(frames[0])
        first = planes[0]
        for frame, plane, out in zip(frames, planes, outs, strict=True):
            alike = (plane.shape, plane.strides, plane.dtype) == (first.shape, first.strides, first.dtype)
            if not alike or frame.pixel_format != frames[0].pixel_format:
                raise ValueError("the frames of a batch are of one format, size and stride")
            if (
                out.shape != (form["height"][0], form["width"][0])
                or out.dtype != np.uint8
                or not out.flags.c_contiguous
            ):
                raise ValueError(
                    f"out: expected C-contiguous uint8 {(int(form['height'][0]), int(form['width'][0]))}, "
                    f"got {out.dtype} {out.shape}"
                )
        for start in range(0, len(outs), MAX_JOBS):
            some, to = planes[start : start + MAX_JOBS], outs[start : start + MAX_JOBS]
            jobs = np.zeros(1, _JOBS)
            jobs["plane"][0, : len(to)] = [address_of(plane) for plane in some]
            jobs["out"][0, : len(to)] = [address_of(out) for out in to]
            self._kernel.launch(
                (-(-to[0].size // _THREADS), 1, len(to)),
                (_THREADS,),
                (jobs, form),
                stream,
                reaches=[*some, *to],
                bytes_moved=sum(array.nbytes for array in (*some, *to)),
            )


def _form(frame: Frame) -> NDArray[np.void]:
    """`struct Form`."""
    plane, pixel_format = frame.planes[0], frame.pixel_format
    height, width = frame.height_px, frame.width_px
    if max(height, width) > _MAX_SIDE_PX:
        raise ValueError(f"sides of at most {_MAX_SIDE_PX} pixels can be read, not {width}x{height}")
    sample = plane.dtype.itemsize
    step = plane.shape[2] if plane.ndim == 3 else 1
    dense = (step * sample, sample) if plane.ndim == 3 else (sample,)
    pitch = plane.strides[0]
    if plane.strides[1:] != dense or not width * dense[0] <= pitch < 1 << 32 or pitch % sample:
        raise ValueError(f"planes need contiguous rows of a positive stride, got strides {plane.strides}")
    form = np.zeros(1, _FORM)
    form["pitch_bytes"], form["step"], form["place"] = pitch, step, grey_place(pixel_format)
    form["height"], form["width"] = stored_hw_px(height, width)
    form["halvings"], form["wide"] = halvings(height, width), sample == 2
    form["shift"] = pixel_format.sample_shift + pixel_format.bit_depth - 8 if sample == 2 else 0
    return form
