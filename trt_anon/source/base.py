"""The protocol of sources, and what they say about a video or image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

from trt_anon.types import Color, Frame, Orientation, PixelFormat


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source knows before the first frame; the sink builds its output from it.

    frames_estimate: from the container, None if it does not say; never relied upon. display_matrix: the nine 16.16 /
    2.30 fixed-point integers of the container, kept as they are. color_*: FFmpeg's numbers (ITU-T H.273), 2 where unknown.
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
    color: Color = Color()
    color_range: int = 0
    color_primaries: int = 2
    color_trc: int = 2
    color_space: int = 2


class Source(Protocol):
    """Frames of one file, in presentation order; iterated once."""

    @property
    def info(self) -> MediaInfo:
        """What is known before the first frame."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames; the caller owns each and may change its planes. Raises InputError on anything undecodable."""
        ...

    def close(self) -> None:
        """Release the file; safe to call twice."""
        ...
