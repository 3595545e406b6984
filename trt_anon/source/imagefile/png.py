"""The walk through a PNG file, animated or not (W3C, Portable Network Graphics, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.exif import ExifFacts, read_exif
from trt_anon.source.imagefile.parts import Parts, plausible_dpi

MAX_PROFILE_BYTES = 16 << 20

_PNG_PICTURE = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"IEND"}
_PNG_COLOR = {b"cHRM", b"gAMA", b"sRGB", b"cICP"}


def read_png(data: bytes) -> Parts:
    """A PNG file, every checksum of its picture verified, ancillary chunks and trailer taken out."""
    kept = [data[:8]]
    color: list[tuple[bytes, bytes]] = []
    durations: list[int] = []
    header = b""
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    facts = ExifFacts()
    animation: tuple[int, int] | None = None
    pixels_at: int | None = None  # frames announced before the first pixel data
    for name, body, raw in _png_chunks(data):
        if not header:
            if name != b"IHDR" or len(body) != 13:
                raise InputError("the PNG is corrupt: it does not begin with its header")
            header = body
        elif name == b"IHDR":
            raise InputError("the PNG is corrupt: it has two headers")
        if name in _PNG_PICTURE:
            kept.append(raw)
        elif not name[0] & 0x20:
            raise InputError("the PNG has a critical chunk of an unknown kind")
        if name == b"IDAT":
            pixels_at = len(durations) if pixels_at is None else pixels_at
        elif name in _PNG_COLOR and len(body) <= 32:
            color.append((name, body))
        elif name == b"iCCP":
            profile = _png_profile(body)
        elif name == b"pHYs" and len(body) == 9 and body[8] == 1:
            dpi = plausible_dpi(*(n * 0.0254 for n in struct.unpack(">II", body[:8])))
        elif name == b"eXIf":
            facts = read_exif(body)
        elif name == b"acTL" and len(body) == 8 and animation is None and pixels_at is None:
            animation = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:], "big")
        elif name == b"fcTL" and len(body) == 26:
            above, below = struct.unpack(">HH", body[20:24])
            durations.append(round(above * 1000 / (below or 100)))
    if pixels_at is None:
        raise InputError("the PNG is corrupt: it has no picture")
    width, height, bits = struct.unpack(">IIB", header[:9])
    details = ImageDetails(icc_profile=profile, png_color=tuple(color), captured=facts.captured, dpi=dpi)
    if animation is not None:
        frames, plays = animation
        if frames != len(durations) or not frames or bits > 8:
            raise InputError("the animated PNG is corrupt, or of 16 bits, which is not supported")
        extra = pixels_at == 0
        details = replace(
            details, frames=frames + extra, durations_ms=tuple(durations), loop=plays, default_image=extra
        )
    elif durations:
        raise InputError("the animated PNG is corrupt: it does not say how many frames it has")
    return Parts(b"".join(kept), (width, height), details, facts.orientation, bits)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(name, body, whole chunk) up to the end chunk."""
    position = 8
    while True:
        if position + 12 > len(data):
            raise InputError("the PNG is truncated: its end is missing")
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        name = data[position + 4 : position + 8]
        if not name.isalpha():
            raise InputError("the PNG is corrupt: a chunk has no name")
        if end > len(data):
            raise InputError("the PNG is truncated: a chunk reaches beyond the file")
        raw = data[position:end]
        sound = zlib.crc32(raw[4:-4]) == int.from_bytes(raw[-4:], "big")
        if not sound and (name in _PNG_PICTURE or not name[0] & 0x20):
            raise InputError("the PNG is corrupt: a checksum is wrong")
        if sound:
            yield name, raw[8:-4], raw
        position = end
        if name == b"IEND":
            return


def _png_profile(body: bytes) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return None  # as viewers do: a damaged profile is no profile
    return profile if unpack.eof else None
