"""The CUDA twin of `letterbox`: any number of pictures, tiles and scales, straight to detectors' tensors."""

from __future__ import annotations

import math
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
_THREADS, _WORD = 128, 16
_SHARED_BYTES = 32 * 1024  # for the sums of a tile
_TILES = (  # higher ones are no faster, and leave room for fewer blocks beside each other
    (64, 16),
    (64, 8),
    (32, 16),
    (32, 8),
    (64, 4),
    (32, 4),
    (16, 8),
    (16, 4),
    (8, 8),
    (8, 4),
    (8, 2),
    (8, 1),
)
_SLACK_BYTES = 128  # the kernel multiplies a few sums beyond the last one with 0
_TURNED_TILES = ((32, 32), (32, 16), (16, 32), (16, 16), (16, 8), (8, 16), (8, 8), (8, 4), (8, 2), (8, 1))
_SLOW, _SLOW_TILE = 255, (32, 32)  # where the columns of the least tile find no room
_OUT_TYPES = {"float32": 0, "float16": 1, "uint8": 2, "int8": 3}

# struct Job and struct Output of letterbox.cu.
_JOB = np.dtype(
    [
        ("plane", np.uint64, 3),
        ("out", np.uint64),
        ("matrix", np.float32, 9),
        ("offset", np.float32, 3),
        ("pitch_bytes", np.uint32, 3),
        ("plane_size", np.uint16, (2, 2)),
        ("content_size", np.uint16, 2),
        ("target_size", np.uint16, 2),
        ("divisor", np.uint16, (2, 2)),
        ("form", np.uint8),
        ("places", np.uint8),
        ("flags", np.uint8),
        ("log2_tile", np.uint8),
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
        ("plain", np.int32),
    ],
    align=True,
)

_SWAP, _MIRROR_X, _MIRROR_Y, _HAS_CHROMA, _WIDE, _WHOLE, _ALIGNED, _FEW = 1, 2, 4, 8, 16, 32, 64, 128
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
        self._general, self._quick = (
            Kernel(SOURCE, name, host=host, accounting=accounting, counted_as="letterbox")
            for name in ("letterbox", "letterbox_quick")
        )

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
        output["plain"] = not any(spec.mean) and all(scale == 1 for scale in spec.scale)
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
        blocks = shared_bytes = 0
        quick = True
        for job, frame, plan, out in zip(jobs["job"][0], frames, plans, outs, strict=False):
            _describe(job, frame, plan, spec, out, layout)
            _reckon_in_whole_numbers(job, frame, plan)
            quick &= _is_quick(job, frame, plan)
            tile, needed = _choose_tile(job, frame, plan)
            height, width = plan.target_hw_px
            blocks = max(blocks, -(-width // tile[0]) * -(-height // tile[1]))
            shared_bytes = max(shared_bytes, needed)
        planes = [plane for frame in frames for plane in frame.planes]
        kernel = self._quick if quick else self._general
        kernel.launch(
            (blocks, 1, len(outs)),
            (_THREADS,),
            (jobs, output),
            stream,
            shared_bytes,
            reaches=[*planes, *outs],
            bytes_moved=sum(array.nbytes for array in (*planes, *outs)),
        )


def _reckon_in_whole_numbers(job: Any, frame: Frame, plan: LetterboxPlan) -> None:
    """Let the kernel sum whole numbers where every axis shrinks or stays, and no sum can pass what holds it."""
    content = plan.stored_content_size_px
    most = (1 << 8 * frame.pixel_format.dtype.itemsize) - 1
    divisors, units = np.ones((2, 2), np.int64), np.ones(2)
    for kind, plane in ((0, frame.planes[0]), (1, frame.planes[-1])):
        have = plane.shape[1], plane.shape[0]
        if plan.scales:
            if have[0] < content[0] or have[1] < content[1]:
                return
            divisors[kind] = [math.gcd(have[axis], content[axis]) for axis in range(2)]
            down, both = have[1] // divisors[kind, 1], math.prod(have // divisors[kind])
            if both * most >= 1 << 32 or (most == 0xFF and down * most > 0xFFFF):
                return
            units[kind] = both
    job["divisor"] = divisors
    job["flags"] |= _WHOLE
    of_component = [0, 1, 1] if job["flags"] & _HAS_CHROMA else [0, 0, 0]
    job["matrix"] /= np.tile(units[of_component], 3)


def _is_quick(job: Any, frame: Frame, plan: LetterboxPlan) -> bool:
    """Whether `letterbox_quick` can make this one: what it must be, and that its pixels take few samples of a row."""
    form, wide = frame.pixel_format, job["flags"] & _WIDE
    if not job["flags"] & _WHOLE or frame.orientation.swaps_axes:
        return False
    if form.kind == "packed" and (wide or frame.planes[0].shape[2] != 3):
        return False
    want = plan.stored_content_size_px[0]
    taps = [-(-have // want) + (have % want > 0) for have in (plane.shape[1] for plane in frame.planes)]
    if taps[0] <= 4 and max(taps[1:], default=0) <= 2:
        job["flags"] |= _FEW
    return form.kind != "gray" and bool(max(taps) <= (4 if wide else 8))


def _choose_tile(job: Any, frame: Frame, plan: LetterboxPlan) -> tuple[tuple[int, int], int]:
    """Note the largest tile whose sums find room; its (width, height), and the bytes that they take."""
    swap = frame.orientation.swaps_axes
    whole = bool(job["flags"] & _WHOLE)
    for width, height in _TURNED_TILES if swap else _TILES:
        across, down = (height, width) if swap else (width, height)
        needed = down * _sum_bytes(frame, plan, across, whole) + _SLACK_BYTES
        if needed <= _SHARED_BYTES:
            job["log2_tile"] = width.bit_length() - 1 | height.bit_length() - 1 << 4
            return (width, height), needed
    if whole:  # the slow path knows floats only
        raise AssertionError("ratios of whole numbers are small, so a tile finds room")
    job["log2_tile"] = _SLOW
    return _SLOW_TILE, 0


def _sum_bytes(frame: Frame, plan: LetterboxPlan, across: int, whole: bool) -> int:
    """The most that a row of a tile's sums takes, for that many stored columns; they are made a word at a time."""
    total = 0
    for plane in frame.planes:
        samples, size = plane.shape[2] if plane.ndim == 3 else 1, plane.dtype.itemsize
        columns = min(across * plane.shape[1] // plan.stored_content_size_px[0] + 3, plane.shape[1])
        words = (columns * samples * size + 2 * _WORD - 2) // _WORD
        total += words * (_WORD // size) * (2 if whole and size == 1 else 4)
    return total


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
    chroma = frame.planes[-1].shape
    job["plane"][: len(addresses)], job["pitch_bytes"][: len(pitches)] = addresses, pitches
    job["out"] = address_of(out)
    job["matrix"], job["offset"] = matrix[order].ravel() / 255, offset[order] / 255
    job["plane_size"] = (frame.width_px, frame.height_px), (chroma[1], chroma[0])
    job["content_size"] = plan.stored_content_size_px
    job["target_size"] = plan.target_hw_px[::-1]
    step = chroma[2] if len(chroma) == 3 else 1
    job["form"] = len(frame.planes) | step << 2 | len(places) << 5
    job["places"] = sum(place << 2 * component for component, place in enumerate(places))
    flags = _TURNS[frame.orientation]
    for flag, holds in (
        (_WIDE, form.dtype.itemsize == 2),
        (_HAS_CHROMA, len(frame.planes) > 1),
        (_ALIGNED, not any(pitch % _WORD for pitch in pitches)),
    ):
        flags |= flag if holds else 0
    job["flags"] = flags


def _components(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """((3, 3), (3,)) from samples to (r, g, b) codes, and of each component its place in a pixel of its plane."""
    form = frame.pixel_format
    if form.kind == "packed":
        names = "yyy" if "y" in form.channels else "rgb"
        unit = 255.0 / ((1 << form.bit_depth) - 1)
        return np.eye(3) * unit, np.zeros(3), [form.channels.index(name) for name in names]
    matrix, offset = yuv_to_rgb(frame.color.matrix, full_range(frame), form.bit_depth)
    per_sample = matrix / (1 << form.sample_shift)
    if form.kind == "gray":
        black = 0 if full_range(frame) else 16 << (form.bit_depth - 8)
        luma_only = np.zeros((3, 3))
        luma_only[:, 0] = per_sample[0, 0]
        return luma_only, np.full(3, -black * matrix[0, 0]), [0]
    if form.kind == "semiplanar_yuv":
        return per_sample, offset, [0, 0, 1]
    return per_sample, offset, [0, 0, 0]
