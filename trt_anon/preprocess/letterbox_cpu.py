"""The fast twin of `letterbox` on a CPU: libswscale and OpenCV, both of which release the interpreter's lock.

Parts, each chosen by measurement (cost on one core beside its rivals):
- a decoder's frame that is scaled: libswscale brings its planes to 4:4:4 at the content's size (area or bilinear per
  axis, as the specification says), OpenCV merges them and applies the matrix, straight into the output;
- unless it shrinks by whole numbers, where OpenCV's area average is several times faster than libswscale;
- a decoder's 8-bit 4:2:0 or 4:2:2 frame that keeps its size: libswscale's direct converter, which repeats chroma;
- everything else, images above all: OpenCV.

Tolerance to the specification, on white noise, the worst there is: TOLERANCE_CODES for any sample of pictures up to
4096 pixels long, MEAN_TOLERANCE_CODES on average. Planes are rounded once before they are converted, the direct
converter truncates, and libswscale's positions are multiples of 1/65536. A decoder's chroma siting, which the
specification takes as centred, is honoured where libswscale scales.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import PipelineError
from trt_anon.preprocess.letterbox import LetterboxPlan, checked_out, full_range, yuv_to_rgb
from trt_anon.types import Frame, InputSpec, Orientation

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

TOLERANCE_CODES = 10
"""Largest difference to the specification on any 8-bit sample of white noise."""

MEAN_TOLERANCE_CODES = 1.25
"""Largest mean difference to the specification."""

_PURPOSE = "preparing pictures for a detector on the CPU"
_DIRECT_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
_SWS_MATRIX = {"bt601": 5, "bt709": 1, "bt2020": 9}  # SWS_CS_*
_MIN_SWSCALE_PX = 64  # it is inexact where chroma has a few samples only
_MPEG_RANGE, _JPEG_RANGE = 1, 2  # AVCOL_RANGE_*


class Scalers:
    """libswscale's contexts, kept from frame to frame since making one costs as much as using it.

    For one thread at a time. Holds the contexts of the last `capacity` plans.
    """

    def __init__(self, capacity: int = 8) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[Any, ...], VideoReformatter] = OrderedDict()

    def get(self, *key: Any) -> VideoReformatter:
        """The context that served this key before, or a new one."""
        scaler = self._kept.pop(key, None)
        if scaler is None:
            scaler = require("av.video.reformatter", _PURPOSE).VideoReformatter()
        self._kept[key] = scaler
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return scaler


def letterbox_cpu(
    frame: Frame,
    plan: LetterboxPlan,
    spec: InputSpec,
    out: NDArray[np.uint8] | None = None,
    *,
    scalers: Scalers | None = None,
) -> NDArray[np.uint8]:
    """The detector's picture of a frame: (H, W, 3) uint8 in the order of `spec.channels`, `plan.target_hw_px` in size.

    `spec.mean` and `spec.scale` are not applied here. `out`, if given, is filled and returned. Pass the thread's own
    `scalers` where many frames of one size follow each other.
    Raises ValueError where plan, frame or out do not fit each other, PackageMissing without OpenCV, PipelineError
    where libswscale fails.
    """
    picture = checked_out(frame, plan, out)
    width, height = plan.content_size_px
    content = picture[:height, :width]
    picture[height:] = spec.pad_value
    picture[:height, width:] = spec.pad_value
    if frame.orientation == Orientation.NORMAL:
        _convert(frame, plan, spec.channels, content, scalers or Scalers())
    else:
        stored_w, stored_h = plan.stored_content_size_px
        stored = np.empty((stored_h, stored_w, 3), np.uint8)
        _convert(frame, plan, spec.channels, stored, scalers or Scalers())
        _turn(stored, frame.orientation, content)
    return picture


def _turn(stored: NDArray[np.uint8], orientation: Orientation, dst: NDArray[np.uint8]) -> None:
    """`geometry.turn_upright` into dst, several times faster than NumPy copies the turned view."""
    cv2 = require("cv2", _PURPOSE)
    if orientation == Orientation.TRANSPOSE:
        _keep(cv2.transpose(stored, dst=dst), dst)
    elif orientation == Orientation.TRANSVERSE:
        _keep(cv2.flip(cv2.transpose(stored), -1, dst=dst), dst)
    elif orientation in (Orientation.FLIP_HORIZONTAL, Orientation.FLIP_VERTICAL):
        _keep(cv2.flip(stored, int(orientation == Orientation.FLIP_HORIZONTAL), dst=dst), dst)
    else:
        code = {
            Orientation.ROTATE_180: cv2.ROTATE_180,
            Orientation.ROTATE_90_CLOCKWISE: cv2.ROTATE_90_CLOCKWISE,
            Orientation.ROTATE_90_COUNTERCLOCKWISE: cv2.ROTATE_90_COUNTERCLOCKWISE,
        }[orientation]
        _keep(cv2.rotate(stored, code, dst=dst), dst)


def _convert(frame: Frame, plan: LetterboxPlan, channels: str, dst: NDArray[np.uint8], scalers: Scalers) -> None:
    """Fill dst (h, w, 3), the stored content."""
    kind = frame.pixel_format.kind
    if kind == "packed":
        _convert_packed(frame, plan, channels, dst)
        return
    if kind != "gray" and _is_decoders(frame):
        if not plan.scales and frame.pixel_format.name in _DIRECT_FORMATS and frame.height_px % 2 == 0:
            rgb = _swscale(frame, plan, f"{channels}24", scalers)
            dst[...] = _plane_of(rgb, 0, 3)
            return
        if plan.scales and not _shrinks_by_whole_numbers(plan):
            yuv = _swscale(frame, plan, "yuv444p", scalers)
            _apply_matrix([_plane_of(yuv, i, 1) for i in range(3)], frame, channels, dst)
            return
    if plan.scales:
        planes = [_to_8_bit(_resized(plane, plan), frame) for plane in frame.planes]
    else:  # repeating samples commutes with rounding them, and costs less on bytes
        planes = [_resized(_to_8_bit(plane, frame), plan) for plane in frame.planes]
    _apply_matrix(planes, frame, channels, dst)


def _is_decoders(frame: Frame) -> bool:
    """Whether libswscale can take the frame as it is."""
    if frame.native is None or min(frame.width_px, frame.height_px) < _MIN_SWSCALE_PX:
        return False
    return isinstance(frame.native, require("av", _PURPOSE).VideoFrame)


def _shrinks_by_whole_numbers(plan: LetterboxPlan) -> bool:
    (have_w, have_h), (want_w, want_h) = plan.stored_size_px, plan.stored_content_size_px
    # Only where chroma shrinks, or stays, by whole numbers too: both sides even.
    return have_w % (2 * want_w) == 0 and have_h % (2 * want_h) == 0


def _swscale(frame: Frame, plan: LetterboxPlan, to_format: str, scalers: Scalers) -> Any:
    """The decoder's frame in that format and the content's size; codes keep their range and matrix, but for RGB."""
    reformatter = require("av.video.reformatter", _PURPOSE)
    width, height = plan.stored_content_size_px
    matrix = _SWS_MATRIX[frame.color.matrix]
    source_range = _JPEG_RANGE if full_range(frame) else _MPEG_RANGE
    scaler = scalers.get(plan, frame.pixel_format.name, to_format, matrix, source_range)
    try:
        return scaler.reformat(
            frame.native,
            width,
            height,
            to_format,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            interpolation=reformatter.Interpolation.AREA,
            src_color_range=source_range,
            dst_color_range=source_range if to_format == "yuv444p" else _JPEG_RANGE,
            threads=1,  # frames run side by side already
        )
    except require("av.error", _PURPOSE).FFmpegError as error:
        raise PipelineError(f"libswscale cannot prepare a picture for the detector: {error}") from error


def _plane_of(native: Any, index: int, samples: int) -> NDArray[np.uint8]:
    """A plane of an 8-bit av.VideoFrame of full resolution, without its row padding, not copied."""
    plane = native.planes[index]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: native.height, : native.width * samples]
    return rows if samples == 1 else rows.reshape(native.height, native.width, samples)


def _resized(plane: NDArray[Any], plan: LetterboxPlan) -> NDArray[Any]:
    """A whole plane on the content's size, in its own sample type."""
    cv2 = require("cv2", _PURPOSE)
    have_h, have_w = plane.shape[:2]
    want_w, want_h = plan.stored_content_size_px
    if (have_w, have_h) == (want_w, want_h):
        return plane
    if not plan.scales:  # chroma of a picture that keeps its size: repeated, an odd last row or column cut
        step_x, step_y = -(-want_w // have_w), -(-want_h // have_h)
        repeated = cv2.resize(plane, (have_w * step_x, have_h * step_y), interpolation=cv2.INTER_NEAREST)
        return np.asarray(repeated)[:want_h, :want_w]
    mixed = (want_w <= have_w) != (want_h <= have_h)  # OpenCV has no area average for one axis alone
    for width, height in ((want_w, have_h), (want_w, want_h)) if mixed else ((want_w, want_h),):
        shrinks = width < plane.shape[1] or height < plane.shape[0]
        plane = cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return plane


def _to_8_bit(plane: NDArray[Any], frame: Frame) -> NDArray[np.uint8]:
    """YUV or gray codes of any depth as 8-bit codes of the same range."""
    form = frame.pixel_format
    if plane.dtype == np.uint8:
        return plane
    codes = float((1 << form.bit_depth) - 1) / 255 if full_range(frame) else float(1 << (form.bit_depth - 8))
    scaled = require("cv2", _PURPOSE).convertScaleAbs(plane, alpha=1 / (codes * (1 << form.sample_shift)))
    return np.asarray(scaled, np.uint8)


def _apply_matrix(planes: list[NDArray[np.uint8]], frame: Frame, channels: str, dst: NDArray[np.uint8]) -> None:
    """Merge 8-bit planes of the content's size and convert them into dst."""
    cv2 = require("cv2", _PURPOSE)
    matrix, offset = yuv_to_rgb(frame.color.matrix, full_range(frame), 8)
    if len(planes) == 1:
        gain = matrix[0, 0]
        affine = np.array([[gain, 0.0 if full_range(frame) else -16 * gain]] * 3)
    else:
        affine = np.column_stack((matrix, offset))
        affine = affine[::-1] if channels == "bgr" else affine
    merged = planes[0] if len(planes) == 1 else cv2.merge(planes)
    _keep(cv2.transform(merged, np.ascontiguousarray(affine), dst=dst), dst)


def _convert_packed(frame: Frame, plan: LetterboxPlan, channels: str, dst: NDArray[np.uint8]) -> None:
    cv2 = require("cv2", _PURPOSE)
    scaled = _resized(frame.planes[0], plan)
    if scaled.dtype == np.uint16:
        scaled = cv2.convertScaleAbs(scaled, alpha=1 / 257)
    order = frame.pixel_format.channels
    if "y" in order:
        _keep(cv2.cvtColor(np.ascontiguousarray(scaled[..., order.index("y")]), cv2.COLOR_GRAY2RGB, dst=dst), dst)
    elif order == channels:
        dst[...] = scaled
    elif len(order) == 3:
        _keep(cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR, dst=dst), dst)
    else:
        _keep(cv2.cvtColor(scaled, cv2.COLOR_RGBA2RGB if channels == "rgb" else cv2.COLOR_RGBA2BGR, dst=dst), dst)


def _keep(result: Any, dst: NDArray[np.uint8]) -> None:
    """OpenCV writes into dst where it can; where it could not, copy."""
    if result is not dst:
        dst[...] = result
