"""The values that travel between stages: frames, detections, regions, and what describes them.

Coordinates are continuous pixels: the pixel in column x covers [x, x + 1), so a frame covers [0, width] x [0, height]
and a box (x0, y0, x1, y1) that covers the last column has x1 == width. There are two pictures of a frame: the *stored*
one, as its planes lie in memory, and the *upright* one, as a viewer shows it after its rotation flag. Detections are in
upright pixels; regions reach the redaction in stored pixels; `trt_anon.geometry` converts.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.uint16]


class Orientation(enum.IntEnum):
    """How a stored picture is turned to stand upright; values and meaning are those of the EXIF Orientation tag.

    The name says what has to be done to the stored picture to show it.
    """

    NORMAL = 1
    FLIP_HORIZONTAL = 2
    ROTATE_180 = 3
    FLIP_VERTICAL = 4
    TRANSPOSE = 5
    ROTATE_90_CLOCKWISE = 6
    TRANSVERSE = 7
    ROTATE_90_COUNTERCLOCKWISE = 8

    @property
    def swaps_axes(self) -> bool:
        """Whether the upright picture is as wide as the stored one is high."""
        return self >= Orientation.TRANSPOSE


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """The memory layout of a frame's planes.

    `planar_yuv`: (Y, U, V), each (h, w). `semiplanar_yuv`: (Y (h, w), UV (h, w, 2)). `gray`: one (h, w).
    `packed`: one (h, w, channels) in the order of `channels`.
    Samples are uint8, or uint16 whose value is `code << sample_shift` with `bit_depth` bits of code.
    """

    name: str
    kind: Literal["planar_yuv", "semiplanar_yuv", "gray", "packed"]
    bit_depth: int = 8
    log2_chroma_w: int = 0
    log2_chroma_h: int = 0
    sample_shift: int = 0
    channels: str = ""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 up to 8 bits, else uint16."""
        return np.dtype(np.uint8 if self.bit_depth <= 8 else np.uint16)

    def plane_shapes(self, width_px: int, height_px: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the planes of a picture of that size; odd sizes round chroma up."""
        if self.kind == "gray":
            return ((height_px, width_px),)
        if self.kind == "packed":
            return ((height_px, width_px, len(self.channels)),)
        chroma = (-(-height_px >> self.log2_chroma_h), -(-width_px >> self.log2_chroma_w))
        if self.kind == "semiplanar_yuv":
            return (height_px, width_px), (*chroma, 2)
        return (height_px, width_px), chroma, chroma


def _pixel_formats() -> dict[str, PixelFormat]:
    formats = [
        PixelFormat("gray", "gray"),
        PixelFormat("gray10le", "gray", 10),
        PixelFormat("gray16le", "gray", 16),
        PixelFormat("nv12", "semiplanar_yuv", 8, 1, 1),
        PixelFormat("p010le", "semiplanar_yuv", 10, 1, 1, sample_shift=6),
        PixelFormat("rgb24", "packed", channels="rgb"),
        PixelFormat("bgr24", "packed", channels="bgr"),
        PixelFormat("rgba", "packed", channels="rgba"),
        PixelFormat("rgb48le", "packed", 16, channels="rgb"),
        PixelFormat("rgba64le", "packed", 16, channels="rgba"),
        PixelFormat("ya8", "packed", channels="ya"),
    ]
    for name, w, h in (("420", 1, 1), ("422", 1, 0), ("444", 0, 0)):
        formats += [
            PixelFormat(f"yuv{name}p", "planar_yuv", 8, w, h),
            PixelFormat(f"yuvj{name}p", "planar_yuv", 8, w, h),
            PixelFormat(f"yuv{name}p10le", "planar_yuv", 10, w, h),
            PixelFormat(f"yuv{name}p12le", "planar_yuv", 12, w, h),
        ]
    return {f.name: f for f in formats}


PIXEL_FORMATS = _pixel_formats()
"""Every layout that the stages understand, by its FFmpeg name."""


@dataclass(frozen=True, slots=True)
class Color:
    """How YUV codes become RGB: the matrix (as in ITU-T H.273) and the range of the codes."""

    matrix: Literal["bt601", "bt709", "bt2020"] = "bt601"
    full_range: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture in its native pixel format.

    planes: writable arrays, shaped and typed as `pixel_format` says for (`width_px`, `height_px`), the stored size;
    rows may be padded (any positive row stride), samples within a row are contiguous.
    pts: presentation time in units of `time_base`, None for an image.
    native: the object that owns the planes' memory (an `av.VideoFrame`), None if NumPy does.
    concealed: the decoder had to guess some of it, or gave nothing: whoever shows it redacts it whole.
    duration: how long it is shown, in units of `time_base`; None where only the native frame, or nobody, knows.
    hidden_margins_px: what no player shows of it (left, top, right, bottom), to be redacted always.
    interlaced: even and odd rows are two pictures, of two moments.
    """

    planes: tuple[Plane, ...]
    pixel_format: PixelFormat
    width_px: int
    height_px: int
    index: int = 0
    pts: int | None = None
    time_base: Fraction = Fraction(1)
    color: Color = field(default_factory=Color)
    orientation: Orientation = Orientation.NORMAL
    pixel_aspect: Fraction = Fraction(1)
    native: Any = None
    concealed: bool = False
    duration: int | None = None
    hidden_margins_px: tuple[int, int, int, int] | None = None
    interlaced: bool = False

    def __post_init__(self) -> None:
        expected = self.pixel_format.plane_shapes(self.width_px, self.height_px)
        found = tuple(p.shape for p in self.planes)
        if found != expected:
            raise ValueError(
                f"{self.pixel_format.name} of {self.width_px}x{self.height_px} has planes {expected}, got {found}"
            )
        for plane in self.planes:
            if plane.dtype != self.pixel_format.dtype:
                raise ValueError(f"{self.pixel_format.name} samples are {self.pixel_format.dtype}, got {plane.dtype}")

    def __repr__(self) -> str:  # pixels do not belong in a traceback
        return f"Frame({self.pixel_format.name} {self.width_px}x{self.height_px}, index {self.index})"

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """(width, height) of the picture as a viewer shows it."""
        if self.orientation.swaps_axes:
            return self.height_px, self.width_px
        return self.width_px, self.height_px

    @property
    def pts_seconds(self) -> float | None:
        """Presentation time in seconds."""
        return None if self.pts is None else float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a detector wants its picture: value = (code - mean) * scale, channels in the order of `channels`.

    fit: `letterbox` keeps the aspect ratio and pads at the right and bottom with `pad_value` (before mean and scale);
    `stretch` fills the input. stride_px: height and width are multiples of it.
    size_px: (width, height) where the model has a fixed size, else None.
    """

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: Literal["letterbox", "stretch"] = "letterbox"
    stride_px: int = 32
    pad_value: int = 0
    size_px: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one frame, in upright pixels, best score first.

    boxes_xyxy_px: (N, 4) float32; may reach beyond the frame. scores: (N,) float32 in [0, 1]. class_ids: (N,) int32,
    indices into `class_names`. landmarks_px: (N, K, 2) float32, NaN where a detector has none; None if no detector has.
    contours_px: for each detection the closed outline (K, 2) float32 of its mask, which holds every point that it winds
    around (the nonzero rule); K is 0 where a detector gives no mask; None if no detector does.
    """

    boxes_xyxy_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    class_names: tuple[str, ...]
    landmarks_px: NDArray[np.float32] | None = None
    contours_px: tuple[NDArray[np.float32], ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        for name, array, shape, dtype in (
            ("boxes_xyxy_px", self.boxes_xyxy_px, (n, 4), np.float32),
            ("scores", self.scores, (n,), np.float32),
            ("class_ids", self.class_ids, (n,), np.int32),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        if n and not (self.class_ids.min() >= 0 and self.class_ids.max() < len(self.class_names)):
            raise ValueError(f"class_ids must index the {len(self.class_names)} class names")
        marks = self.landmarks_px
        if marks is not None and (marks.ndim != 3 or len(marks) != n or marks.shape[2] != 2):
            raise ValueError(f"landmarks_px: expected ({n}, K, 2), got {marks.shape}")
        outlines = self.contours_px
        if outlines is not None and len(outlines) != n:
            raise ValueError(f"contours_px: expected {n} outlines, got {len(outlines)}")
        for outline in outlines or ():
            if outline.ndim != 2 or outline.shape[1] != 2 or outline.dtype != np.float32:
                raise ValueError(f"contours_px: expected float32 (K, 2), got {outline.dtype} {outline.shape}")

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:  # boxes are personal data: they never reach a log by accident
        return f"Detections({len(self)} objects)"

    @classmethod
    def empty(cls, class_names: Sequence[str]) -> Detections:
        """No detections of these classes."""
        return cls(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), tuple(class_names), None
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Where the tracked objects are in one frame, in upright pixels, in the order in which their tracks began.

    boxes_xyxy_px: (N, 4) float32; may reach beyond the frame. spread_px: (N, 2) float32, one standard deviation of
    where an edge may be, across and down. scores: (N,) float32, of the detection in this frame, else the best one of
    the track so far. class_ids: (N,) int32, indices into `class_names`. track_ids: (N,) int64, of the instance that
    followed them. seen: (N,) bool, whether the detector found the object in this frame; else it was filled in or
    followed. contours_px: as in `Detections`; K is 0 where the object was not seen.
    """

    boxes_xyxy_px: NDArray[np.float32]
    spread_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    track_ids: NDArray[np.int64]
    seen: NDArray[np.bool_]
    class_names: tuple[str, ...]
    contours_px: tuple[NDArray[np.float32], ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.track_ids)
        for name, array, shape, dtype in (
            ("boxes_xyxy_px", self.boxes_xyxy_px, (n, 4), np.float32),
            ("spread_px", self.spread_px, (n, 2), np.float32),
            ("scores", self.scores, (n,), np.float32),
            ("class_ids", self.class_ids, (n,), np.int32),
            ("track_ids", self.track_ids, (n,), np.int64),
            ("seen", self.seen, (n,), np.bool_),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        if not (np.isfinite(self.boxes_xyxy_px).all() and np.isfinite(self.spread_px).all()):
            raise ValueError("tracks hold values that are not finite: they cannot be trusted")
        if n and not (self.class_ids.min() >= 0 and self.class_ids.max() < len(self.class_names)):
            raise ValueError(f"class_ids must index the {len(self.class_names)} class names")
        if self.contours_px is not None and len(self.contours_px) != n:
            raise ValueError(f"contours_px: expected {n} outlines, got {len(self.contours_px)}")

    def __len__(self) -> int:
        return len(self.track_ids)

    def __repr__(self) -> str:  # boxes are personal data: they never reach a log by accident
        return f"Tracks({len(self)} objects)"


Shape = Literal["ellipse", "box", "rounded", "polygon"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a picture to redact: a box in pixels, the shape drawn into it, and the size of the object it hides.

    object_px: the longer side of the object's own box, before growth; strengths are relative to it.
    points_px: the corners (x, y) of a closed `polygon`, at least three; it holds what it winds around (the nonzero
    rule) and everything within `margin_px` of that. The box holds all of it, margin included. Empty for other shapes.
    """

    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    shape: Shape = "ellipse"
    object_px: float = 0.0
    points_px: tuple[tuple[float, float], ...] = ()
    margin_px: float = 0.0

    def __repr__(self) -> str:
        return f"Region({self.shape})"
