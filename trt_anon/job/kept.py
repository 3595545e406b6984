"""What a finished file says besides its pictures and sounds, read from the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from trt_anon.container import open_input, pick_video
from trt_anon.source.images import ImageSource

Kind = Literal["image", "video"]


def metadata_in(path: Path, kind: Kind) -> tuple[str, ...]:
    """Which metadata a file holds, in words: what it is about, never what it says. Raises InputError."""
    return _in_image(path) if kind == "image" else _in_video(path)


def _in_image(path: Path) -> tuple[str, ...]:
    source = ImageSource(path)
    try:
        details = source.info.image
    finally:
        source.close()
    assert details is not None
    found = {
        "time of capture": details.captured,
        "resolution": details.dpi,
        "colour profile": details.icc_profile,
        "colour numbers": details.png_color,
    }
    return tuple(name for name, value in found.items() if value)


def _in_video(path: Path) -> tuple[str, ...]:
    with open_input(path) as container:
        video = pick_video(container)
        assert video is not None
        context = video.codec_context
        every = [container.metadata, *(stream.metadata for stream in container.streams)]
        languages = [m.get("language") for m in every]
        color = (context.color_primaries, context.color_trc, context.colorspace)
        found = {
            "time of creation": any("creation_time" in m for m in every),
            "language of streams": any(language not in (None, "und") for language in languages),
            "colour": any(number != 2 for number in color) or context.color_range,
        }
    return tuple(name for name, value in found.items() if value)
