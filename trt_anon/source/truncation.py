"""Files that end before what they announce, found at once from the container's outermost sizes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from trt_anon.errors import InputError

_MP4_BOXES = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"moof",
    b"free",
    b"skip",
    b"wide",
    b"sidx",
    b"mfra",
    b"styp",
    b"uuid",
    b"udta",
}


def check_complete(path: Path, container: str, size_bytes: int) -> None:
    """Raise InputError if the file is shorter than its own headers say; `container` is FFmpeg's name of the format.

    Formats that announce no size (MPEG-TS but for whole packets, bare streams, live recordings) cannot be checked so:
    there, only a damaged last packet or frame tells, while decoding.
    """
    with path.open("rb") as file:
        if "mov" in container:
            end = _boxes_end(file, size_bytes)
        elif "matroska" in container:
            end = _segment_end(file)
        elif container == "avi":
            end = _riff_end(file, size_bytes)
        elif container == "mpegts":
            end = _packets_end(file, size_bytes)
        else:
            return
    if end > size_bytes:
        raise InputError(f"{path} is cut off: it has {size_bytes} bytes of at least {end}")


def _boxes_end(file: BinaryIO, size_bytes: int) -> int:
    position = 0
    while position + 8 <= size_bytes:
        file.seek(position)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if kind not in _MP4_BOXES or length == 0:  # an unknown box ends the walk; length 0 reaches to the end
            return position
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return position
        position += length
    return position


def _riff_end(file: BinaryIO, size_bytes: int) -> int:
    position = 0
    while position + 12 <= size_bytes:
        file.seek(position)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # never finished, or written to a pipe
            return position
        position += 8 + length
        if position > size_bytes:
            return position
        position += length & 1
    return min(position, size_bytes)


def _packets_end(file: BinaryIO, size_bytes: int) -> int:
    head = file.read(204 * 5)
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if all(head[i] == 0x47 for i in range(first, len(head), length)):
            return -(-size_bytes // length) * length
    return size_bytes


def _segment_end(file: BinaryIO) -> int:
    position, end = 0, 0
    for _ in range(8):  # EBML header, perhaps Void elements, then the segment
        file.seek(position)
        head = file.read(12)
        id_length = _ebml_length(head)
        size_length = _ebml_length(head[id_length:])
        if not id_length or not size_length or len(head) < id_length + size_length:
            return end
        raw = int.from_bytes(head[id_length : id_length + size_length], "big")
        value = raw & ((1 << 7 * size_length) - 1)
        unknown = value == (1 << 7 * size_length) - 1
        end = position + id_length + size_length + (0 if unknown else value)
        if unknown or head[:id_length] == b"\x18\x53\x80\x67":
            return end
        position = end
    return end


def _ebml_length(data: bytes) -> int:
    """Bytes of the variable-length number that begins so; 0 for none."""
    return 9 - data[0].bit_length() if data and data[0] else 0
