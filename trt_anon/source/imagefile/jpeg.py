"""The walk through a JPEG file (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.exif import ExifFacts, read_exif
from trt_anon.source.imagefile.parts import Parts, plausible_dpi

_SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_FRAME_HEADERS = {0xC0 + n for n in range(16)} - {0xC4, 0xC8, 0xCC}
_PICTURE_SEGMENTS = _FRAME_HEADERS | {0xC4, 0xDA, 0xDB, 0xDD}


def read_jpeg(data: bytes) -> Parts:
    """The primary picture of a JPEG file: everything up to its end marker, metadata taken out.

    What follows (a second picture of an MPO, the film of a motion photo, a gain map) is not in the result.
    """
    kept = [b"\xff\xd8"]
    profile: dict[int, bytes] = {}
    details = ImageDetails(lossless=False)
    facts = ExifFacts()
    size: tuple[int, int] | None = None
    position, restarts, scans = 2, False, 0
    missing: dict[int, list[int]] | None = None  # progressive: bits still to come, per component and coefficient
    while True:
        marker, position = _jpeg_marker(data, position)
        if marker == 0xD9:
            break
        end = position + int.from_bytes(data[position : position + 2], "big")
        if end < position + 2 or end > len(data):
            raise InputError("the JPEG is truncated or corrupt: a segment reaches beyond the file")
        body = data[position + 2 : end]
        segment = b"\xff" + bytes([marker]) + data[position:end]
        position = end
        if marker in _PICTURE_SEGMENTS:
            kept.append(segment)
        if marker in _FRAME_HEADERS:
            if size is not None or len(body) < 6:
                raise InputError("the JPEG is corrupt: its frame header is wrong")
            size = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
            if marker in _PROGRESSIVE:
                missing = {component: [16] * 64 for component in body[6::3]}
        elif marker == 0xDD:
            restarts = any(body[:2])
        elif marker == 0xDA:
            position = _jpeg_scan(data, position, kept, restarts)
            scans += 1
            if missing is not None:
                _note_progress(missing, body)
        elif marker == 0xE0 and body.startswith(b"JFIF\0"):
            kept.append(_segment(0xE0, body[:12] + b"\0\0"))  # without its thumbnail
            details = replace(details, dpi=_jfif_dpi(body))
        elif marker == 0xEE and body.startswith(b"Adobe"):
            kept.append(_segment(0xEE, body[:12]))
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            profile[body[12]] = body[14:]
        elif marker == 0xE1 and body.startswith(b"Exif\0\0") and facts == ExifFacts():
            facts = read_exif(body[6:])
    if size is None or not scans:
        raise InputError("the JPEG is corrupt: it has no picture")
    if missing is not None and any(any(bits) for bits in missing.values()):
        raise InputError("the JPEG is truncated: its later scans are missing")
    kept.append(b"\xff\xd9")
    icc = b"".join(profile[n] for n in sorted(profile)) or None
    details = replace(details, icc_profile=icc, captured=facts.captured)
    return Parts(b"".join(kept), size, details, facts.orientation)


def _note_progress(missing: dict[int, list[int]], header: bytes) -> None:
    """What a scan of a progressive JPEG brings: bits down to `low` of a band of coefficients (T.81, G.1.1.1)."""
    count = header[0] if header else 0
    if len(header) != 4 + 2 * count:
        raise InputError("the JPEG is corrupt: a scan header is wrong")
    first, last, low = header[-3], header[-2], header[-1] & 15
    for component in header[1:-3:2]:
        if component not in missing or last > 63:
            raise InputError("the JPEG is corrupt: a scan header is wrong")
        missing[component][first : last + 1] = [low] * (last + 1 - first)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jpeg_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at `position` and where its segment begins."""
    if position + 2 > len(data):
        raise InputError("the JPEG is truncated: its end is missing")
    if data[position] != 0xFF:
        raise InputError("the JPEG is corrupt: no marker where one must be")
    while position < len(data) and data[position] == 0xFF:
        position += 1
    if position >= len(data):
        raise InputError("the JPEG is truncated: its end is missing")
    marker = data[position]
    if marker < 0xC0 or 0xD0 <= marker <= 0xD8 or 0xF0 <= marker <= 0xFD:
        raise InputError("the JPEG is corrupt: an unknown marker")
    return marker, position + 1


def _jpeg_scan(data: bytes, start: int, kept: list[bytes], restarts: bool) -> int:
    """Keep the coded data of a scan; gives where it ends."""
    found = _SCAN_END.search(data, start)
    if found is None:
        raise InputError("the JPEG is truncated: its end is missing")
    scan = data[start : found.start()]
    numbers = [m[1][0] & 7 for m in _RESTART.finditer(scan)]
    if any(number != i & 7 for i, number in enumerate(numbers)) or (numbers and not restarts):
        raise InputError("the JPEG is corrupt: its restart markers are out of order")
    kept.append(scan)
    return found.start()


def _jfif_dpi(body: bytes) -> tuple[float, float] | None:
    if len(body) < 12 or body[7] not in (1, 2):
        return None
    per_inch = 1.0 if body[7] == 1 else 2.54
    return plausible_dpi(*(n * per_inch for n in struct.unpack(">HH", body[8:12])))
