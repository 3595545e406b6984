"""What to measure: every combination of resolution, faces and batch is a case."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trt_anon.config import StageConfig
from trt_anon.errors import UsageError

Size = tuple[
    Annotated[int, Field(ge=64, le=16384, multiple_of=2)], Annotated[int, Field(ge=64, le=16384, multiple_of=2)]
]

NAMED_SIZES: dict[str, tuple[int, int]] = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "4k": (3840, 2160),
    "8k": (7680, 4320),
}


class BenchSettings(StageConfig):
    """Of a whole run.

    source: a video to measure on; None generates clips. sizes_px, faces: of generated clips, (width, height) and drawn
    faces in each frame. batches: frames in a batch; a CPU takes one at a time. seconds: time to spend on each part of a
    case, at least three rounds are made. stages: measure every stage alone, too. encode: measure writing, too.
    frames: at most this many, None for as many as fit into memory.
    """

    source: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    sizes_px: Annotated[tuple[Size, ...], Field(min_length=1)] = ((1920, 1080),)
    faces: Annotated[tuple[Annotated[int, Field(ge=0, le=200)], ...], Field(min_length=1)] = (5,)
    batches: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1)] = (1,)
    seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0
    stages: bool = False
    encode: bool = True
    frames: Annotated[int, Field(ge=2)] | None = None


def parse_sizes(text: str) -> tuple[tuple[int, int], ...]:
    """`720p,1080p,640x360` as (width, height) each. Raises UsageError."""
    sizes = []
    for word in text.split(","):
        name = word.strip().lower()
        if name in NAMED_SIZES:
            sizes.append(NAMED_SIZES[name])
        elif match := re.fullmatch(r"(\d{2,5})x(\d{2,5})", name):
            sizes.append((int(match[1]), int(match[2])))
        else:
            known = ", ".join(NAMED_SIZES)
            raise UsageError(f"--resolution: unknown {word.strip()!r}; use {known}, or WIDTHxHEIGHT, joined by commas")
    return tuple(dict.fromkeys(sizes))


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """`1,8,32` as numbers. Raises UsageError that names the option."""
    try:
        return tuple(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        raise UsageError(f"{option}: expected numbers joined by commas, got {text!r}") from None


def size_name(width_px: int, height_px: int) -> str:
    """How a size is called: `1080p`, or `640x360`."""
    return next((n for n, size in NAMED_SIZES.items() if size == (width_px, height_px)), f"{width_px}x{height_px}")
