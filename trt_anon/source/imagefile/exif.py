"""The two facts that are taken from an EXIF block: how the picture stands, and when it was taken."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trt_anon.errors import InputError
from trt_anon.source.imagefile.ifd import Directory, read_directory, read_header
from trt_anon.types import Orientation

_TIME = re.compile(rb"\d{4}:\d{2}:\d{2} \d{2}:\d{2}:\d{2}")


@dataclass(frozen=True, slots=True)
class ExifFacts:
    """captured: `YYYY:MM:DD hh:mm:ss`, None if not given so."""

    orientation: Orientation = Orientation.NORMAL
    captured: str | None = None


def read_exif(block: bytes) -> ExifFacts:
    """Facts of an EXIF block (without the `Exif` signature); a damaged one, as for viewers, says nothing."""
    try:
        order, big, offset = read_header(block)
        first = read_directory(block, offset, order, big)
        captured = time_of(first, 0x0132)
        orientation = orientation_of(first)
    except InputError:
        return ExifFacts()
    try:
        below = first.integer(0x8769, 0)
        if below:
            captured = time_of(read_directory(block, below, order, big), 0x9003) or captured
    except InputError:
        pass  # the orientation stands by itself
    return ExifFacts(orientation, captured)


def orientation_of(directory: Directory) -> Orientation:
    """The Orientation tag; NORMAL if it is missing or none of the eight."""
    value = directory.integer(0x0112, 1)
    return Orientation(value) if 1 <= value <= 8 else Orientation.NORMAL


def time_of(directory: Directory, tag: int) -> str | None:
    """A tag that holds a time, and nothing that is none."""
    entry = directory.entries.get(tag)
    found = _TIME.match(entry.raw) if entry is not None else None
    return found[0].decode("ascii") if found else None
