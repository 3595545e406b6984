"""Headers of Vorbis without their comments."""

from __future__ import annotations

import pytest

from trt_anon.sink.vorbis import without_comments

FIRST, SETUP = b"\x01vorbis" + bytes(23), b"\x05vorbis" + bytes(range(256)) * 3


def laced(length: int) -> bytes:
    return b"\xff" * (length // 255) + bytes([length % 255])


def headers(comments: bytes, *, lengths: bool = False) -> bytes:
    if lengths:
        return b"".join(len(h).to_bytes(2, "big") + h for h in (FIRST, comments, SETUP))
    return b"\2" + laced(len(FIRST)) + laced(len(comments)) + FIRST + comments + SETUP


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("words", [b"", b"x" * 200, b"secret" * 1000])
def test_comments_go_and_the_rest_stays(words: bytes, lengths: bool) -> None:
    comments = b"\x03vorbis" + len(words).to_bytes(4, "little") + words + bytes(4) + b"\1"
    made = without_comments(headers(comments, lengths=lengths))
    assert made == headers(b"\x03vorbis" + bytes(8) + b"\1")
    assert without_comments(made) == made


@pytest.mark.parametrize(
    "broken", [b"", b"\2", b"\2\xff\xff", b"\0\x1e" + bytes(5), headers(b"\x07vorbis"), b"\3" + bytes(99)]
)
def test_what_is_no_header_is_none(broken: bytes) -> None:
    assert without_comments(broken) is None
