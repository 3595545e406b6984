"""Vorbis headers without what their comments say; Vorbis I specification, sections 4.2 and 5, and Xiph lacing."""

from __future__ import annotations

_COMMENTS = b"\x03vorbis" + bytes(4) + bytes(4) + b"\1"  # no vendor, no comments, the framing bit


def without_comments(extradata: bytes) -> bytes | None:
    """The three headers of a stream, as containers keep them, with an empty one for comments; None if they are none.

    Comments hold titles, artists and pictures, and lie in the headers that a copy of the stream takes over.
    """
    headers = _split(extradata)
    if headers is None:
        return None
    first, comments, setup = headers
    if not (first.startswith(b"\x01vorbis") and comments.startswith(b"\x03vorbis") and setup.startswith(b"\x05vorbis")):
        return None
    return b"\2" + _lace(len(first)) + _lace(len(_COMMENTS)) + first + _COMMENTS + setup


def _split(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Headers after a table of lengths in Xiph's lacing, or each after its own length of two bytes."""
    if data[:2] == b"\0\x1e":
        parts, at = [], 0
        for _ in range(3):
            length = int.from_bytes(data[at : at + 2], "big")
            parts.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        return (parts[0], parts[1], parts[2]) if at <= len(data) else None
    if data[:1] != b"\2":
        return None
    at, lengths = 1, []
    for _ in range(2):
        length = 0
        while at < len(data) and data[at] == 255:
            length, at = length + 255, at + 1
        if at >= len(data):
            return None
        lengths.append(length + data[at])
        at += 1
    middle, last = at + lengths[0], at + sum(lengths)
    return (data[at:middle], data[middle:last], data[last:]) if last <= len(data) else None


def _lace(length: int) -> bytes:
    return b"\xff" * (length // 255) + bytes([length % 255])
