"""Which part of the coded picture a container says to show: MP4's clean aperture and Matroska's pixel crop.

ISO/IEC 14496-12, 12.1.4 (`clap`); RFC 9559, 5.1.4.1.28 (PixelCrop...). FFmpeg hands these on and applies neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

Margins = tuple[int, int, int, int]
"""Pixels of the stored picture that are not shown: left, top, right, bottom."""

_PARENTS = {b"mdia", b"minf", b"stbl"}
_SAMPLE_ENTRY_BYTES = 78
_MOST_ELEMENTS = 100_000


def display_crop(
    path: Path, container: str, track_id: int, order: int, width_px: int, height_px: int
) -> Margins | None:
    """The margins of one video stream that no player shows, None if there are none.

    container: FFmpeg's name of the format. track_id: of the stream, as MP4 numbers it; order: its place among the video
    tracks, as Matroska lists them. A crop that leaves nothing, or is damaged, is none: players show all there.
    """
    with path.open("rb") as file:
        if "mov" in container:
            margins = _clean_aperture(file, path.stat().st_size, track_id, width_px, height_px)
        elif "matroska" in container:
            margins = _pixel_crop(file, path.stat().st_size, order)
        else:
            return None
    if margins is None or not any(margins):
        return None
    left, top, right, bottom = margins
    inside = min(margins) >= 0 and left + right < width_px and top + bottom < height_px
    return margins if inside else None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the body, end) of the boxes that lie one behind the other."""
    for _ in range(_MOST_ELEMENTS):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        length, kind, body = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, body = int.from_bytes(head[8:16], "big"), 16
        elif length == 0:
            length = end - start
        if length < body:
            return
        yield kind, start + body, min(start + length, end)
        start += length


def _clean_aperture(file: BinaryIO, size: int, track_id: int, width_px: int, height_px: int) -> Margins | None:
    for kind, start, end in _boxes(file, 0, size):
        if kind != b"moov":
            continue
        for inner, body, stop in _boxes(file, start, end):
            if inner == b"trak" and _track_id(file, body, stop) == track_id:
                return _aperture_in(file, body, stop, width_px, height_px)
    return None


def _track_id(file: BinaryIO, start: int, end: int) -> int | None:
    for kind, body, _ in _boxes(file, start, end):
        if kind == b"tkhd":
            file.seek(body)
            head = file.read(24)
            at = 20 if head[:1] == b"\1" else 12
            return int.from_bytes(head[at : at + 4], "big")
    return None


def _aperture_in(file: BinaryIO, start: int, end: int, width_px: int, height_px: int) -> Margins | None:
    for kind, body, stop in _boxes(file, start, end):
        if kind == b"stsd":
            for _, entry, last in _boxes(file, body + 8, stop):  # behind version, flags and a count
                return _aperture_of(file, entry + _SAMPLE_ENTRY_BYTES, last, width_px, height_px)
        elif kind in _PARENTS:
            found = _aperture_in(file, body, stop, width_px, height_px)
            if found is not None:
                return found
    return None


def _aperture_of(file: BinaryIO, start: int, end: int, width_px: int, height_px: int) -> Margins | None:
    for kind, body, stop in _boxes(file, start, end):
        if kind != b"clap" or stop - body < 32:
            continue
        file.seek(body)
        raw = file.read(32)
        numbers = [int.from_bytes(raw[n : n + 4], "big", signed=n >= 16 and n % 8 == 0) for n in range(0, 32, 4)]
        if not all(numbers[1::2]):
            return None
        width, height, across, down = (Fraction(n, d) for n, d in zip(numbers[::2], numbers[1::2], strict=True))
        left, top = across + (width_px - width) / 2, down + (height_px - height) / 2
        right, bottom = width_px - left - width, height_px - top - height
        return math.floor(left), math.floor(top), math.floor(right), math.floor(bottom)
    return None


_SEGMENT, _TRACKS, _ENTRY, _TYPE, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROPS = {0x54CC: 0, 0x54BB: 1, 0x54DD: 2, 0x54AA: 3}
_VIDEO_TYPE = 1


def _elements(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(id, start of the body, end) of EBML elements; one of unknown size reaches to the end."""
    for _ in range(_MOST_ELEMENTS):
        if start + 2 > end:
            return
        file.seek(start)
        head = file.read(12)
        id_length = 9 - head[0].bit_length() if head[0] else 0
        if not 1 <= id_length <= 4 or len(head) <= id_length or not head[id_length]:
            return
        size_length = 9 - head[id_length].bit_length()
        raw = int.from_bytes(head[id_length : id_length + size_length], "big")
        length = raw & ((1 << 7 * size_length) - 1)
        body = start + id_length + size_length
        stop = end if length == (1 << 7 * size_length) - 1 else min(body + length, end)
        yield int.from_bytes(head[:id_length], "big"), body, stop
        start = stop


def _pixel_crop(file: BinaryIO, size: int, order: int) -> Margins | None:
    for segment, start, end in _elements(file, 0, size):
        if segment != _SEGMENT:
            continue
        for tracks, first, last in _elements(file, start, end):
            if tracks == _TRACKS:
                entries = [(body, stop) for name, body, stop in _elements(file, first, last) if name == _ENTRY]
                videos = [crop for entry in entries if (crop := _entry(file, *entry)) is not None]
                return videos[order] if order < len(videos) else None
    return None


def _entry(file: BinaryIO, start: int, end: int) -> Margins | None:
    """The margins of a track, None unless it is video."""
    kind, margins = 0, [0, 0, 0, 0]
    for name, body, stop in list(_elements(file, start, end)):
        if name == _TYPE:
            kind = _number(file, body, stop)
        elif name == _VIDEO:
            for inner, at, until in list(_elements(file, body, stop)):
                if inner in _CROPS:
                    margins[_CROPS[inner]] = _number(file, at, until)
    return (margins[0], margins[1], margins[2], margins[3]) if kind == _VIDEO_TYPE else None


def _number(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    return int.from_bytes(file.read(min(end - start, 8)), "big")
