"""What a walk through the bytes of an image file finds.

Decoders forgive: a JPEG that ends early comes out grey, a PNG with a bad checksum passes, a trailer goes unseen. The
walks of this folder do not, and they hand the decoder the parts of the picture alone, so that no metadata parser ever
runs. Each raises InputError, without the file's name, on anything that is not as its format says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from trt_anon.media import ImageDetails
from trt_anon.types import Orientation

Format = Literal["jpeg", "png", "gif", "webp", "bmp", "tiff"]


@dataclass(frozen=True, slots=True)
class Parts:
    """A walked file. data: what the decoder gets. bits: per sample. size: that of the whole canvas."""

    data: bytes = field(repr=False)
    size_px: tuple[int, int]
    details: ImageDetails
    orientation: Orientation = Orientation.NORMAL
    bits: int = 8


def identify(head: bytes) -> Format | None:
    """The format by its first bytes (16 are enough), whatever the file's name; None if it is none of ours."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:2] == b"BM" and len(head) >= 16:
        return "bmp"
    return None


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    """The resolution if it can be one."""
    return (x, y) if 1 <= x <= 1e5 and 1 <= y <= 1e5 else None
