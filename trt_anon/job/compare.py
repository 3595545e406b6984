"""Whether a redacted file still is the original, but for its regions: times and sound."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

from trt_anon._optional import require
from trt_anon.container import open_input
from trt_anon.errors import InputError

TOLERANCE_SECONDS = 0.001
"""How far times may be apart: Matroska rounds them to milliseconds."""

Heard = tuple[str, tuple[tuple[float, bytes], ...]]


def compare_sound(original: Path, redacted: Path) -> tuple[list[str], list[str]]:
    """(faults, notes) of the audio of two videos: every stream must be the original's, packet by packet.

    Raises InputError where one cannot be read.
    """
    before, after = _heard(original), _heard(redacted)
    if not after:
        return [], (["its sound was dropped"] if before else [])
    faults: list[str] = []
    if len(after) != len(before):
        faults.append(f"{len(before)} audio streams became {len(after)}")
    for number, (one, other) in enumerate(zip(before, after, strict=False)):
        if one[0] != other[0]:
            faults.append(f"audio stream {number} changed its codec from {one[0]} to {other[0]}")
        elif len(one[1]) != len(other[1]) or any(a[1] != b[1] for a, b in zip(one[1], other[1], strict=True)):
            faults.append(f"audio stream {number} has other packets")
        elif any(abs(a[0] - b[0]) > TOLERANCE_SECONDS for a, b in zip(one[1], other[1], strict=True)):
            faults.append(f"audio stream {number} is shifted")
    return faults, []


def _heard(path: Path) -> list[Heard]:
    """Of each audio stream its codec, and time and digest of every packet."""
    av = require("av", "reading video")
    try:
        with open_input(path) as container:
            streams = list(container.streams.audio)
            if not streams:
                return []
            packets: dict[int, list[tuple[float, bytes]]] = {stream.index: [] for stream in streams}
            for packet in container.demux(*streams):
                if packet.size:
                    time = (packet.pts or 0) * (packet.time_base or Fraction(1))
                    packets[packet.stream_index].append((float(time), hashlib.sha256(bytes(packet)).digest()))
            return [(s.codec_context.codec.canonical_name, tuple(packets[s.index])) for s in streams]
    except av.FFmpegError as error:
        raise InputError(f"{path} is damaged in its sound: {error.strerror}") from error
