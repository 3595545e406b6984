"""From a frame in any pixel format to the detector's picture: the specification, in NumPy.

The rules, which every implementation keeps (`letterbox_cpu` within the tolerance it states):

1. *Scale first.* Where the content has the stored size, nothing is scaled: a chroma sample serves the block of pixels
   it covers. Otherwise every plane, chroma included, is scaled as a whole onto the content's size, each axis by itself:
   area average where it shrinks, bilinear where it grows. Pixel centres lie at half-integers, edges are repeated, and
   chroma is taken as centred on its block of luma (a siting at the left moves chroma by half a pixel: no matter here).
2. *Then convert* with the matrix of ITU-T H.273 for the frame's range and bit depth. Gray is luma of the frame's range;
   packed formats are full range; alpha is ignored, for what hides under transparency is stored too.
3. *Round half up* to uint8, once, after clipping to [0, 255]; nothing is rounded between the steps.
4. *Turn upright*, put the content at the top left, fill the rest with `pad_value`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import UsageError
from trt_anon.geometry import turn_upright, upright_size
from trt_anon.types import Frame, InputSpec, Orientation

MAX_SIDE_PX = 16384
"""No content is longer than this."""

MAX_CONTENT_PX = 1 << 25
"""No content has more pixels than this (8K UHD has fewer); larger ones are scaled down to it."""

LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}
"""(K_R, K_B) of each matrix, ITU-T H.273 table 4."""


@dataclass(frozen=True, slots=True)
class LetterboxPlan:
    """How pictures of one size become the detector's input, and how its boxes come back.

    The content lies at the top left of the target. All sizes are (width, height) in pixels, but for `target_hw_px`.
    """

    stored_size_px: tuple[int, int]
    orientation: Orientation
    upright_size_px: tuple[int, int]
    content_size_px: tuple[int, int]
    target_hw_px: tuple[int, int]

    @property
    def factors_xy(self) -> tuple[float, float]:
        """Content pixels per upright pixel, exactly what the rounding to whole pixels made of them."""
        (uw, uh), (cw, ch) = self.upright_size_px, self.content_size_px
        return cw / uw, ch / uh

    @property
    def stored_content_size_px(self) -> tuple[int, int]:
        """The content's size before it is turned upright."""
        return upright_size(*self.content_size_px, self.orientation)  # its own inverse

    @property
    def scales(self) -> bool:
        """Whether the content has another size than the stored picture."""
        return self.stored_content_size_px != self.stored_size_px

    def boxes_to_upright_px(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (..., 4) in pixels of the network's input to float32 upright pixels; may reach beyond the picture."""
        fx, fy = self.factors_xy
        return (boxes_xyxy.astype(np.float64) / (fx, fy, fx, fy)).astype(np.float32)

    def landmarks_to_upright_px(self, points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (..., 2) in pixels of the network's input to float32 upright pixels; NaN stays NaN."""
        return (points_xy.astype(np.float64) / self.factors_xy).astype(np.float32)

    def boxes_to_input_px(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upright boxes (..., 4) to float32 pixels of the network's input."""
        fx, fy = self.factors_xy
        return (boxes_xyxy_px.astype(np.float64) * (fx, fy, fx, fy)).astype(np.float32)


def square_size_px(
    width_px: int, height_px: int, orientation: Orientation, pixel_aspect: Fraction
) -> tuple[float, float]:
    """(width, height) of the upright picture once its pixels are square; the stored size is what is given.

    `pixel_aspect` is width over height of a stored pixel; the shorter side of a pixel is stretched, so nothing is lost.
    One that is not positive means that nothing is known: square.
    """
    width, height = upright_size(width_px, height_px, orientation)
    aspect = pixel_aspect if pixel_aspect > 0 else Fraction(1)
    if orientation.swaps_axes:
        aspect = 1 / aspect
    return (float(width * aspect), float(height)) if aspect >= 1 else (float(width), float(height / aspect))


def plan_letterbox(
    width_px: int,
    height_px: int,
    orientation: Orientation,
    pixel_aspect: Fraction,
    scale_factor: float | None,
    spec: InputSpec,
) -> LetterboxPlan:
    """Plan the way of a stored picture of that size into the detector's input.

    scale_factor: content pixels per pixel of the upright, square-pixelled picture (`square_size_px`). The content is at
    least one pixel, at most MAX_SIDE_PX long and MAX_CONTENT_PX large; the target is rounded up to `spec.stride_px`.
    Where `spec.size_px` is set the target is that, the content the largest that fits, and the factor is not looked at.
    With `spec.fit == "stretch"` the content fills the target. Raises UsageError for sizes or factors that are not > 0.
    """
    if width_px < 1 or height_px < 1:
        raise UsageError(f"a picture of {width_px}x{height_px} pixels cannot be prepared for a detector")
    width, height = square_size_px(width_px, height_px, orientation, pixel_aspect)
    if spec.size_px is not None:
        target_w, target_h = spec.size_px
        factor = min(target_w / width, target_h / height)
        content = min(target_w, _rounded(width * factor)), min(target_h, _rounded(height * factor))
    else:
        if scale_factor is None or not 0 < scale_factor < float("inf"):
            raise UsageError(f"the scale factor of a detector of free input size must be > 0, not {scale_factor}")
        factor = min(scale_factor, MAX_SIDE_PX / max(width, height))
        area = max(1.0, width * factor * height * factor)
        factor *= min(1.0, (MAX_CONTENT_PX / area) ** 0.5)
        content = _rounded(width * factor), _rounded(height * factor)
        target_w, target_h = (-(-side // spec.stride_px) * spec.stride_px for side in content)
    if spec.fit == "stretch":
        content = target_w, target_h
    return LetterboxPlan(
        stored_size_px=(width_px, height_px),
        orientation=orientation,
        upright_size_px=upright_size(width_px, height_px, orientation),
        content_size_px=content,
        target_hw_px=(target_h, target_w),
    )


def _rounded(side: float) -> int:
    return max(1, int(side + 0.5))


def letterbox(
    frame: Frame, plan: LetterboxPlan, spec: InputSpec, out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """The detector's picture of a frame: (H, W, 3) uint8 in the order of `spec.channels`, `plan.target_hw_px` in size.

    `spec.mean` and `spec.scale` are not applied here. `out`, if given, is filled and returned.
    Raises ValueError where plan, frame or out do not fit each other.
    """
    picture = checked_out(frame, plan, out)
    rgb = _to_rgb(frame, plan.stored_content_size_px)
    codes = np.floor(np.clip(rgb, 0.0, 255.0) + 0.5).astype(np.uint8)
    if spec.channels == "bgr":
        codes = codes[..., ::-1]
    width, height = plan.content_size_px
    picture[...] = spec.pad_value
    picture[:height, :width] = turn_upright(codes, frame.orientation)
    return picture


def checked_out(frame: Frame, plan: LetterboxPlan, out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """`out`, or a new array of the plan's target; ValueError where plan, frame or out do not fit each other."""
    if plan.stored_size_px != (frame.width_px, frame.height_px) or plan.orientation != frame.orientation:
        raise ValueError(
            f"the plan is for {plan.stored_size_px} {plan.orientation.name}, the frame is "
            f"{(frame.width_px, frame.height_px)} {frame.orientation.name}"
        )
    shape = (*plan.target_hw_px, 3)
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8:
        raise ValueError(f"out: expected uint8 {shape}, got {out.dtype} {out.shape}")
    return out


def _to_rgb(frame: Frame, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """(h, w, 3) in [0, 255] units, unclipped, not turned, of the given (width, height)."""
    form = frame.pixel_format
    code_unit = 1 << form.sample_shift
    planes = [_scaled(plane, frame, size_px) / code_unit for plane in frame.planes]
    if form.kind == "packed":
        channels = {name: planes[0][..., i] for i, name in enumerate(form.channels)}
        order = "yyy" if "y" in channels else "rgb"
        return np.stack([channels[name] for name in order], axis=-1) * (255.0 / ((1 << form.bit_depth) - 1))
    if form.kind == "semiplanar_yuv":
        planes = [planes[0], planes[1][..., 0], planes[1][..., 1]]
    matrix, offset = yuv_to_rgb(frame.color.matrix, full_range(frame), form.bit_depth)
    if form.kind == "gray":
        black = 0 if full_range(frame) else 16 << (form.bit_depth - 8)
        return np.repeat(((planes[0] - black) * matrix[0, 0])[..., None], 3, axis=-1)
    return np.stack(planes, axis=-1) @ matrix.T + offset


def full_range(frame: Frame) -> bool:
    """Whether luma spans all codes: said by the frame's colour, or by FFmpeg's yuvj formats themselves."""
    return frame.color.full_range or frame.pixel_format.name.startswith("yuvj")


def yuv_to_rgb(
    matrix_name: str, is_full_range: bool, bit_depth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """((3, 3), (3,)): `matrix @ (y, u, v) + offset` is (r, g, b) on the scale 0 to 255, for codes of that bit depth.

    ITU-T H.273: limited range has luma 16 to 235 and chroma 16 to 240, times 2 ** (bit_depth - 8); full range luma
    spans all codes, chroma is centred on half their number.
    """
    kr, kb = LUMA_WEIGHTS[matrix_name]
    kg = 1.0 - kr - kb
    from_ypbpr = np.array(
        [
            [1.0, 0.0, 2 * (1 - kr)],
            [1.0, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1.0, 2 * (1 - kb), 0.0],
        ]
    )
    unit = 1 << (bit_depth - 8)
    peak = (1 << bit_depth) - 1
    black, luma, chroma = (0, peak, peak) if is_full_range else (16 * unit, 219 * unit, 224 * unit)
    matrix = from_ypbpr * (255.0 / np.array([luma, chroma, chroma]))
    return matrix, -matrix @ np.array([black, 128.0 * unit, 128.0 * unit])


def _scaled(plane: NDArray[Any], frame: Frame, size_px: tuple[int, int]) -> NDArray[np.float64]:
    """A whole plane on the content's size, or its samples repeated where the content has the stored size."""
    width, height = size_px
    if (width, height) == (frame.width_px, frame.height_px):
        rows = np.arange(height) // -(-height // plane.shape[0])
        columns = np.arange(width) // -(-width // plane.shape[1])
        return np.asarray(plane[rows[:, None], columns], np.float64)
    rows_done = resample(plane.astype(np.float64), height)
    return resample(rows_done.swapaxes(0, 1), width).swapaxes(0, 1)


def resample(samples: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Bring the first axis to `count` samples: area average where it shrinks, bilinear where it grows."""
    have = len(samples)
    if count == have:
        return samples
    if count < have:
        sums = np.concatenate((np.zeros_like(samples[:1]), np.cumsum(samples, axis=0)))
        return np.diff(_at(sums, np.arange(count + 1, dtype=np.float64) * (have / count)), axis=0) * (count / have)
    centres = (np.arange(count, dtype=np.float64) + 0.5) * (have / count) - 0.5
    return _at(samples, np.clip(centres, 0, have - 1))


def _at(samples: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation between samples along the first axis."""
    low = np.minimum(positions.astype(np.intp), max(len(samples) - 2, 0))
    high = np.minimum(low + 1, len(samples) - 1)
    share = (positions - low).reshape(-1, *[1] * (samples.ndim - 1))
    return np.asarray(samples[low] * (1 - share) + samples[high] * share, np.float64)
