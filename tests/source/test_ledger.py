"""Packets that hold no picture, told from damage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import pytest

from trt_anon.errors import InputError
from trt_anon.source.ledger import Ledger
from trt_anon.source.mpeg4 import VopReader


def packet(data: bytes, pts: int | None, dts: int | None = None, key: bool = False) -> av.Packet:
    made = av.Packet(data)
    made.pts, made.dts, made.is_keyframe = pts, pts if dts is None else dts, key
    return made


def frame(pts: int | None) -> av.VideoFrame:
    made = av.VideoFrame(16, 16, "yuv420p")
    made.pts = pts
    return made


def ledger(codec: str = "h264") -> Ledger:
    return Ledger("clip", codec, Fraction(1, 10), None, counted=False)


def test_every_stated_time_must_come_out() -> None:
    book = ledger()
    for pts in (0, 3, 1, 2):
        book.packet(packet(b"data", pts, key=pts == 0))
    assert [book.frame(frame(pts)) for pts in (0, 1)] == [0, 1]
    with pytest.raises(InputError, match=r"0\.200 s"):
        book.frame(frame(3))


def test_a_missing_end_is_found() -> None:
    book = ledger()
    for pts in (0, 1, 2):
        book.packet(packet(b"data", pts, key=pts == 0))
        if pts < 2:
            book.frame(frame(pts))
    with pytest.raises(InputError, match=r"0\.200 s"):
        book.finish()


def test_what_precedes_the_first_key_frame_is_owed_nothing() -> None:
    book = ledger()
    book.packet(packet(b"tail of the group before", 0))
    book.packet(packet(b"key", 4, key=True))
    book.packet(packet(b"leading picture", 3))
    book.packet(packet(b"next", 5))
    assert [book.frame(frame(pts)) for pts in (4, 5)] == [4, 5]
    book.finish()


def test_times_must_increase() -> None:
    book = ledger()
    book.packet(packet(b"a", 1, key=True))
    book.frame(frame(1))
    with pytest.raises(InputError, match="do not increase"):
        book.frame(frame(1))


def test_no_frames_at_all() -> None:
    with pytest.raises(InputError, match="no frame"):
        ledger().finish()


def test_hidden_frames_of_vp8_and_vp9() -> None:
    for codec, hidden, shown in (("vp8", b"\x01\0\0\0", b"\x11\0\0\0"), ("vp9", b"\x84\0\0\0", b"\x86\0\0\0")):
        book = ledger(codec)
        book.packet(packet(shown, 0, key=True))
        book.packet(packet(hidden, 1))
        book.packet(packet(shown, 2))
        assert [book.frame(frame(pts)) for pts in (0, 2)] == [0, 2]
        book.finish()


def test_vp9_that_shows_an_existing_frame_is_owed() -> None:
    book = ledger("vp9")
    book.packet(packet(b"\x86\0", 0, key=True))
    book.packet(packet(b"\x88\0", 1))
    book.frame(frame(0))
    with pytest.raises(InputError):
        book.finish()


def test_counted_streams_owe_as_many_frames_as_packets() -> None:
    book = Ledger("clip", "msmpeg4v3", Fraction(1, 10), None, counted=True)
    for dts in range(3):
        book.packet(packet(b"data", None, dts))
    assert [book.frame(frame(9 - n)) for n in range(2)] == [0, 1]
    with pytest.raises(InputError, match="1 of 3"):
        book.finish()


def test_bare_streams_sum_up_exact_durations() -> None:
    book = Ledger("clip", "h264", Fraction(1, 1000), Fraction(100100, 3003), counted=False)
    for _ in range(4):
        book.packet(packet(b"data", None))
    assert [book.frame(frame(None)) for _ in range(4)] == [0, 33, 67, 100]
    book.finish()


def test_mpeg4_packets_that_code_nothing(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.avi", codec="mpeg4", frames=3, rate=Fraction(25))
    with av.open(str(path)) as container:
        data = [bytes(p) for p in container.demux(video=0) if p.size]
    reader = VopReader()
    assert [reader.codes_nothing(d) for d in data] == [False] * 3
    # P picture, no second passed, marker, time increment of 5 bits (25 ticks a second), marker, not coded
    bits = "01" + "0" + "1" + "00011" + "1" + "0"
    empty = b"\0\0\1\xb6" + int(bits.ljust(16, "1"), 2).to_bytes(2, "big")
    assert reader.codes_nothing(empty)
    packed = data[1] + data[2]
    assert not reader.codes_nothing(packed)
    assert not reader.codes_nothing(empty)  # it stands for the second picture of the packet before
    assert reader.codes_nothing(empty)
