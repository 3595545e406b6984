"""What is known about a video or image before its first frame: sources state it, sinks build their output from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from trt_anon.types import Color, Orientation, PixelFormat


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """What a sink needs to write an image file of the same kind: how it was encoded, not what is in it.

    frames: pictures to come. durations_ms: how long each is shown, empty unless animated; loop: how often, 0 for ever,
    None if once without saying. default_image: the first picture of an animated PNG is for viewers without animation.
    icc_profile: as embedded, text and all. png_color: PNG's numeric colour chunks. jpeg_tables: 64 quantization steps
    per component in natural order; jpeg_rgb: components are R, G, B. captured: time of capture as in EXIF,
    `YYYY:MM:DD hh:mm:ss`. dpi: horizontal and vertical resolution.
    """

    frames: int = 1
    durations_ms: tuple[int, ...] = ()
    loop: int | None = None
    default_image: bool = False
    lossless: bool = True
    icc_profile: bytes | None = None
    png_color: tuple[tuple[bytes, bytes], ...] = ()
    jpeg_tables: tuple[tuple[int, ...], ...] = ()
    jpeg_subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    jpeg_progressive: bool = False
    jpeg_rgb: bool = False
    captured: str | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source knows before the first frame; the sink builds its output from it.

    frames_estimate: from the container, None if it does not say; never relied upon. display_matrix: the nine 16.16 /
    2.30 fixed-point integers of the container, kept as they are. color_*: FFmpeg's numbers (ITU-T H.273), 2 where
    unknown. field_order: FFmpeg's AVFieldOrder, 0 where unknown, 1 progressive, above 1 interlaced. hidden_margins_px:
    columns and rows of the stored picture (left, top, right, bottom) that the container tells players not to show.
    """

    kind: Literal["image", "video"]
    width_px: int
    height_px: int
    pixel_format: PixelFormat
    codec: str
    container: str
    time_base: Fraction = Fraction(1)
    average_rate: Fraction | None = None
    frames_estimate: int | None = None
    duration_seconds: float | None = None
    bit_rate: int | None = None
    sample_aspect_ratio: Fraction = Fraction(1)
    orientation: Orientation = Orientation.NORMAL
    display_matrix: tuple[int, ...] | None = None
    color: Color = field(default_factory=Color)
    color_range: int = 0
    color_primaries: int = 2
    color_trc: int = 2
    color_space: int = 2
    image: ImageDetails | None = None
    field_order: int = 0
    hidden_margins_px: tuple[int, int, int, int] | None = None

    @property
    def shown_seconds(self) -> float:
        """How long a frame is shown, on average; 0 where that is not known."""
        return float(1 / self.average_rate) if self.average_rate else 0.0
