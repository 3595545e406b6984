"""What kind of medium a file is, by its contents and never by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trt_anon.container import check_readable, is_heif, open_input, pick_video
from trt_anon.errors import InputError

_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}


def _is_image(head: bytes) -> bool:
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a")):
        return True
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):  # TIFF and BigTIFF
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return True
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES


def sniff(path: str | Path) -> Literal["image", "video"] | None:
    """Whether the file is an image (JPEG, PNG, WebP, BMP, TIFF, GIF), a video, or neither (None).

    Images are known by their first bytes, videos by opening them: a few milliseconds. Damaged videos are None too.
    Raises InputError where the file cannot be read at all, and PackageMissing without PyAV for what is no image.
    """
    path = Path(path)
    check_readable(path)
    with path.open("rb") as file:
        head = file.read(32)
    if _is_image(head):
        return "image"
    if is_heif(head):
        return None
    try:
        with open_input(path) as container:
            return "video" if pick_video(container) is not None else None
    except InputError:
        return None
