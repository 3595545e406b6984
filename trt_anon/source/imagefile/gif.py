"""The walk through a GIF file (CompuServe, Graphics Interchange Format, version 89a)."""

from __future__ import annotations

import struct

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.parts import Parts


def read_gif(data: bytes) -> Parts:
    """A GIF file. Frames that reach beyond the screen enlarge it."""
    if len(data) < 13:
        raise InputError("the GIF is truncated")
    width, height, flags = struct.unpack("<HHB", data[6:11])
    position = 13 + _color_table(flags)
    delays: list[int] = []
    delay, loop = 0, None
    while True:
        kind = data[position : position + 1]
        if kind == b";":
            break
        if kind == b"!":
            label = data[position + 1 : position + 2]
            body, position = _gif_blocks(data, position + 2)
            if label == b"\xf9" and len(body) == 4:
                delay = int.from_bytes(body[1:3], "little") * 10
            elif label == b"\xff" and body[:11] in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and len(body) == 14:
                loop = int.from_bytes(body[12:14], "little")
                loop += loop > 0  # the file counts what comes after the first showing
        elif kind == b"," and position + 10 < len(data):
            x, y, w, h, flags = struct.unpack("<4HB", data[position + 1 : position + 10])
            width, height = max(width, x + w), max(height, y + h)
            _, position = _gif_blocks(data, position + 11 + _color_table(flags))
            delays.append(delay)
            delay = 0
        elif not kind or kind == b",":
            raise InputError("the GIF is truncated: its end is missing")
        else:
            raise InputError("the GIF is corrupt: an unknown block")
    if not delays or width > 0xFFFF or height > 0xFFFF:
        raise InputError("the GIF is corrupt: it has no picture")
    screen = struct.pack("<HH", width, height)
    animated = len(delays) > 1
    details = ImageDetails(
        frames=len(delays), durations_ms=tuple(delays) if animated else (), loop=loop if animated else None
    )
    return Parts(data[:6] + screen + data[10 : position + 1], (width, height), details)


def _color_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _gif_blocks(data: bytes, position: int) -> tuple[bytes, int]:
    """The first 64 bytes of a chain of sub-blocks, and where it ends."""
    start = b""
    while position < len(data):
        length = data[position]
        if not length:
            return start, position + 1
        if len(start) < 64:
            start += data[position + 1 : position + 1 + length]
        position += 1 + length
    raise InputError("the GIF is truncated: its end is missing")
