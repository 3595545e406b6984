"""Colour profiles without words: what an ICC profile says about colour, and nothing about who made it on what."""

from __future__ import annotations

import struct

# ICC.1:2022, clause 9: the tags that a conversion uses. Left out: description, copyright, maker, model, serial number,
# calibration data, date and every private tag.
_COLOR_TAGS = {
    b"wtpt", b"bkpt", b"chad", b"chrm", b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"gamt", b"cicp",
    b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"D2B0", b"D2B1", b"D2B2", b"D2B3", b"B2D0", b"B2D1", b"B2D2",
    b"B2D3",
}  # fmt: skip
_NUMERIC_TYPES = {b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"mpet", b"chrm", b"cicp"}
_NAME = "color profile"
MAX_TAGS = 100


def without_words(profile: bytes) -> bytes | None:
    """The profile with its numbers alone, the same colours to the last bit; None if it is damaged.

    The header keeps version, class, colour spaces, intent and white point; its date, platform, maker, model, creator
    and digest become zero. Description and copyright, which every profile must have, become constants.
    """
    if len(profile) < 132 or profile[36:40] != b"acsp":
        return None
    (count,) = struct.unpack(">I", profile[128:132])
    if count > MAX_TAGS or len(profile) < 132 + 12 * count:
        return None
    tags: list[tuple[bytes, bytes]] = []
    for number in range(count):
        name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        if name not in _COLOR_TAGS:
            continue
        body = profile[offset : offset + length]
        if len(body) != length or length < 8:
            return None
        if body[:4] in _NUMERIC_TYPES:
            tags.append((name, body))
    modern = profile[8] >= 4
    tags += [
        (b"desc", _multilingual() if modern else _description()),
        (b"cprt", _multilingual() if modern else _text()),
    ]
    return _assemble(profile, tags)


def colors_of(profile: bytes) -> str:
    """The colour space that a profile is for: `RGB`, `GRAY`, `CMYK`..."""
    return profile[16:20].decode("ascii", "replace").strip()


def _assemble(profile: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    header = bytearray(128)
    for start, end in ((8, 24), (36, 40), (64, 80)):  # version, class, spaces; signature; intent, white point
        header[start:end] = profile[start:end]
    offset = 132 + 12 * len(tags)
    places: dict[bytes, int] = {}  # curves are often shared
    heap, table = b"", b""
    for name, body in tags:
        if body not in places:
            places[body] = offset + len(heap)
            heap += body + b"\0" * (-len(body) % 4)
        table += struct.pack(">4sII", name, places[body], len(body))
    header[0:4] = struct.pack(">I", offset + len(heap))
    return bytes(header) + struct.pack(">I", len(tags)) + table + heap


def _multilingual() -> bytes:
    text = _NAME.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text


def _description() -> bytes:
    text = _NAME.encode("ascii") + b"\0"
    return b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)


def _text() -> bytes:
    return b"text\0\0\0\0" + _NAME.encode("ascii") + b"\0"
