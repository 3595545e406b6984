"""The walk through a WebP file, animated or not (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.exif import ExifFacts, read_exif
from trt_anon.source.imagefile.parts import Parts


def read_webp(data: bytes) -> Parts:
    """A WebP file, still or animated, metadata left in: the decoder does not parse it."""
    length = int.from_bytes(data[4:8], "little")
    if 8 + length > len(data):
        raise InputError("the WebP is truncated")
    size: tuple[int, int] | None = None
    details = ImageDetails()
    facts = ExifFacts()
    durations: list[int] = []
    coded: list[bytes] = []
    for name, body in _riff(data[12 : 8 + length]):
        if name == b"VP8X" and len(body) >= 10:
            size = 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
        elif name in (b"VP8 ", b"VP8L"):
            coded.append(name)
            size = size or _webp_size(name, body)
        elif name == b"ANIM" and len(body) >= 6:
            details = replace(details, loop=int.from_bytes(body[4:6], "little"))
        elif name == b"ANMF":
            durations.append(int.from_bytes(body[12:15], "little"))
            coded += [inner for inner, _ in _riff(body[16:]) if inner in (b"VP8 ", b"VP8L")]
        elif name == b"ICCP":
            details = replace(details, icc_profile=body)
        elif name == b"EXIF":
            facts = read_exif(body.removeprefix(b"Exif\0\0"))
    if size is None or not coded or (durations and len(durations) != len(coded)):
        raise InputError("the WebP is corrupt: it has no picture")
    details = replace(
        details,
        frames=len(coded) if durations else 1,
        durations_ms=tuple(durations),
        lossless=all(name == b"VP8L" for name in coded),
        captured=facts.captured,
    )
    return Parts(data[: 8 + length], size, details, facts.orientation)


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        end = position + 8 + int.from_bytes(data[position + 4 : position + 8], "little")
        if end > len(data):
            raise InputError("the WebP is truncated or corrupt: a chunk reaches beyond its end")
        yield data[position : position + 4], data[position + 8 : end]
        position = end + (end & 1)


def _webp_size(name: bytes, body: bytes) -> tuple[int, int] | None:
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
