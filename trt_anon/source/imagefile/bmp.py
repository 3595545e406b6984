"""The header of a BMP file; the decoder checks the rest."""

from __future__ import annotations

import struct

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.parts import Parts


def read_bmp(data: bytes) -> Parts:
    """Size of a BMP file."""
    if len(data) < 26:
        raise InputError("the BMP is truncated")
    if int.from_bytes(data[14:18], "little") == 12:
        width, height = struct.unpack("<HH", data[18:22])
    else:
        width, height = (abs(n) for n in struct.unpack("<ii", data[18:26]))
    return Parts(data, (width, height), ImageDetails())
