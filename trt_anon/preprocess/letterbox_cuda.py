"""The CUDA twin of `letterbox`: any number of pictures, tiles and scales, straight to detectors' tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting, address_of, side_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.preprocess.letterbox import LetterboxPlan, checked_out, full_range, yuv_to_rgb
from trt_anon.types import Frame, InputSpec, Orientation

TOLERANCE_CODES = 1
"""Largest difference to the specification on any 8-bit code: sums are float32 here, so halves may round otherwise."""

MAX_JOBS = 32
"""Pictures per launch; they travel with it as an argument, so nothing is copied to the device before."""

SOURCE = Path(__file__).with_name("letterbox.cu")
_TILE, _ROWS = 32, 8
_OUT_TYPES = {"float32": 0, "float16": 1, "uint8": 2, "int8": 3}

# struct Job and struct Output of letterbox.cu.
_JOB = np.dtype(
    [
        ("component", np.uint64, 3),
        ("out", np.uint64),
        ("matrix", np.float32, 9),
        ("offset", np.float32, 3),
        ("pitch_bytes", np.uint32, 3),
        ("plane_size", np.uint16, (2, 2)),
        ("content_size", np.uint16, 2),
        ("target_size", np.uint16, 2),
        ("components", np.uint8),
        ("step", np.uint8),
        ("wide", np.uint8),
        ("turn", np.uint8),
    ],
    align=True,
)
_JOBS = np.dtype([("job", _JOB, MAX_JOBS)], align=True)
_OUTPUT = np.dtype(
    [
        ("mean", np.float32, 3),
        ("scale", np.float32, 3),
        ("int8_scale", np.float32),
        ("pad_value", np.int32),
        ("type", np.int32),
        ("channels_last", np.int32),
    ],
    align=True,
)

_SWAP, _MIRROR_X, _MIRROR_Y, _HAS_CHROMA = 1, 2, 4, 8
_TURNS = {
    Orientation.NORMAL: 0,
    Orientation.FLIP_HORIZONTAL: _MIRROR_X,
    Orientation.ROTATE_180: _MIRROR_X | _MIRROR_Y,
    Orientation.FLIP_VERTICAL: _MIRROR_Y,
    Orientation.TRANSPOSE: _SWAP,
    Orientation.ROTATE_90_CLOCKWISE: _SWAP | _MIRROR_Y,
    Orientation.TRANSVERSE: _SWAP | _MIRROR_X | _MIRROR_Y,
    Orientation.ROTATE_90_COUNTERCLOCKWISE: _SWAP | _MIRROR_X,
}
_MAX_STORED_PX, _MAX_TARGET_PX = 0xFFFF, 0x7FFF  # the kernel multiplies places and sizes in 32 bits


class LetterboxCuda:
    """Launches the kernel of `letterbox.cu`; an instance serves any mixture of formats and sizes."""

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._kernel = Kernel(SOURCE, "letterbox", host=host, accounting=accounting)

    def __call__(
        self, frame: Frame, plan: LetterboxPlan, spec: InputSpec, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """`letterbox.letterbox` by the kernel, of one frame in host memory, within TOLERANCE_CODES."""
        picture = checked_out(frame, plan, out)
        work = picture if picture.flags.c_contiguous else np.empty(picture.shape, np.uint8)
        self.batch([frame], [plan], spec, [work], layout="nhwc")
        if work is not picture:
            picture[...] = work
        return picture

    def batch(
        self,
        frames: Sequence[Frame],
        plans: Sequence[LetterboxPlan],
        spec: InputSpec,
        outs: Sequence[Any],
        *,
        layout: Literal["nchw", "nhwc"] = "nchw",
        int8_scale: float = 1.0,
        stream: Any = None,
    ) -> None:
        """Make one tensor of each frame, MAX_JOBS to a launch, without waiting for it.

        All planes and outs are NumPy's or all CuPy's. A frame may appear several times, with plans of several scales;
        parts of frames are frames too (`crop`). outs: C-contiguous (3, H, W) arrays, or (H, W, 3) with `nhwc`, H and W
        those of the plan, all of one dtype: float32 and float16 are (code - spec.mean) * spec.scale; int8 is that
        divided by int8_scale, rounded to the nearest even, saturated; uint8 is the code itself, without mean and scale.
        Frames, and their planes, must live until the launch has run. Raises ValueError for shapes, dtypes and strides
        that do not fit, and what `Kernel.launch` raises.
        """
        if not len(frames) == len(plans) == len(outs):
            raise ValueError(f"{len(frames)} frames, {len(plans)} plans and {len(outs)} outs do not match")
        if not outs:
            return
        side_of([*outs, *(plane for frame in frames for plane in frame.planes)])
        dtypes = {str(out.dtype) for out in outs}
        if len(dtypes) != 1 or not dtypes <= _OUT_TYPES.keys():
            raise ValueError(f"outs must all be one of {', '.join(_OUT_TYPES)}, got {', '.join(sorted(dtypes))}")
        if not 0 < int8_scale < float("inf"):
            raise ValueError(f"int8_scale must be a positive number, not {int8_scale}")
        output = np.zeros(1, _OUTPUT)
        output["mean"], output["scale"], output["int8_scale"] = spec.mean, spec.scale, int8_scale
        output["pad_value"], output["type"] = spec.pad_value, _OUT_TYPES[dtypes.pop()]
        output["channels_last"] = layout == "nhwc"
        for start in range(0, len(outs), MAX_JOBS):
            chunk = slice(start, start + MAX_JOBS)
            self._launch(frames[chunk], plans[chunk], spec, outs[chunk], layout, output, stream)

    def _launch(
        self,
        frames: Sequence[Frame],
        plans: Sequence[LetterboxPlan],
        spec: InputSpec,
        outs: Sequence[Any],
        layout: str,
        output: NDArray[np.void],
        stream: Any,
    ) -> None:
        jobs = np.zeros(1, _JOBS)
        for job, frame, plan, out in zip(jobs["job"][0], frames, plans, outs, strict=False):
            _describe(job, frame, plan, spec, out, layout)
        widest = max(plan.target_hw_px[1] for plan in plans)
        highest = max(plan.target_hw_px[0] for plan in plans)
        planes = [plane for frame in frames for plane in frame.planes]
        self._kernel.launch(
            (-(-widest // _TILE), -(-highest // _TILE), len(outs)),
            (_TILE, _ROWS),
            (jobs, output),
            stream,
            reaches=[*planes, *outs],
            bytes_moved=sum(array.nbytes for array in (*planes, *outs)),
        )


def _describe(job: Any, frame: Frame, plan: LetterboxPlan, spec: InputSpec, out: Any, layout: str) -> None:
    """Fill one `struct Job`."""
    form = frame.pixel_format
    if plan.stored_size_px != (frame.width_px, frame.height_px) or plan.orientation != frame.orientation:
        raise ValueError(f"the plan is for {plan.stored_size_px} {plan.orientation.name}, which the frame is not")
    if max(frame.width_px, frame.height_px) > _MAX_STORED_PX or max(plan.target_hw_px) > _MAX_TARGET_PX:
        raise ValueError(f"sides of at most {_MAX_STORED_PX} pixels can be read, of {_MAX_TARGET_PX} be made")
    wanted = (3, *plan.target_hw_px) if layout == "nchw" else (*plan.target_hw_px, 3)
    if out.shape != wanted or not out.flags.c_contiguous:
        raise ValueError(f"out: expected a C-contiguous {layout} array of {wanted}, got {out.shape}")
    addresses, pitches = [], []
    for plane in frame.planes:
        sample = plane.dtype.itemsize
        dense = (plane.shape[2] * sample, sample) if plane.ndim == 3 else (sample,)
        pitch = plane.strides[0]
        if plane.strides[1:] != dense or not plane.shape[1] * dense[0] <= pitch < 1 << 32 or pitch % sample:
            raise ValueError(f"planes need contiguous rows of a positive stride, got strides {plane.strides}")
        addresses.append(address_of(plane))
        pitches.append(plane.strides[0])
    matrix, offset, places = _components(frame)
    order = slice(None, None, -1 if spec.channels == "bgr" else 1)
    size = form.dtype.itemsize
    chroma = frame.planes[-1].shape
    job["component"][: len(places)] = [addresses[plane] + place * size for plane, place in places]
    job["pitch_bytes"][: len(places)] = [pitches[plane] for plane, _ in places]
    job["out"] = address_of(out)
    job["matrix"], job["offset"] = matrix[order].ravel(), offset[order]
    job["plane_size"] = (frame.width_px, frame.height_px), (chroma[1], chroma[0])
    job["content_size"] = plan.stored_content_size_px
    job["target_size"] = plan.target_hw_px[::-1]
    job["components"] = len(places)
    job["step"] = frame.planes[-1].shape[2] if frame.planes[-1].ndim == 3 else 1
    job["wide"] = size == 2
    job["turn"] = _TURNS[frame.orientation] | (_HAS_CHROMA if len(frame.planes) > 1 else 0)


def _components(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], list[tuple[int, int]]]:
    """((3, 3), (3,)) from samples to (r, g, b) codes, and of each component its plane and its place in a pixel."""
    form = frame.pixel_format
    if form.kind == "packed":
        names = "yyy" if "y" in form.channels else "rgb"
        unit = 255.0 / ((1 << form.bit_depth) - 1)
        return np.eye(3) * unit, np.zeros(3), [(0, form.channels.index(name)) for name in names]
    matrix, offset = yuv_to_rgb(frame.color.matrix, full_range(frame), form.bit_depth)
    per_sample = matrix / (1 << form.sample_shift)
    if form.kind == "gray":
        black = 0 if full_range(frame) else 16 << (form.bit_depth - 8)
        luma_only = np.zeros((3, 3))
        luma_only[:, 0] = per_sample[0, 0]
        return luma_only, np.full(3, -black * matrix[0, 0]), [(0, 0)]
    if form.kind == "semiplanar_yuv":
        return per_sample, offset, [(0, 0), (1, 0), (1, 1)]
    return per_sample, offset, [(0, 0), (1, 0), (2, 0)]
