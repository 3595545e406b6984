"""What a container tells players not to show: found, and never seen in an output."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from trt_anon.source.display_crop import Margins, display_crop
from trt_anon.source.pyav import PyAVSource


def with_box(data: bytes, parents: tuple[bytes, ...], box: bytes) -> bytes:
    """An MP4 file with a box put into the last of the nested boxes; the index lies behind the media."""
    changed, position, starts = bytearray(data), 0, []
    for kind in parents:
        while changed[position + 4 : position + 8] != kind:
            position += int.from_bytes(changed[position : position + 4], "big")
        starts.append(position)
        end = position + int.from_bytes(changed[position : position + 4], "big")
        position += 16 if kind == b"stsd" else 8
    changed[end:end] = box
    for start in starts:
        length = int.from_bytes(changed[start : start + 4], "big") + len(box)
        changed[start : start + 4] = length.to_bytes(4, "big")
    return bytes(changed)


ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")


def clap(width: int, height: int, across: tuple[int, int] = (0, 1), down: tuple[int, int] = (0, 1)) -> bytes:
    return struct.pack(">I4s4I2i2i", 40, b"clap", width, 1, height, 1, *across, *down)


def with_pixel_crop(data: bytes, crops: dict[int, int]) -> bytes:
    """A Matroska file with crop elements in its video settings; of `Tracks`, `TrackEntry` and `Video` sizes follow."""
    elements = b"".join(name.to_bytes(2, "big") + b"\x81" + bytes([pixels]) for name, pixels in crops.items())
    changed = bytearray(data)

    def body(at: int, id_length: int) -> tuple[int, int, int]:
        """(where the size stands, its length, the size)"""
        first = changed[at + id_length]
        length = 9 - first.bit_length()
        raw = int.from_bytes(changed[at + id_length : at + id_length + length], "big")
        return at + id_length, length, raw & ((1 << 7 * length) - 1)

    tracks = changed.rindex(b"\x16\x54\xae\x6b")  # the first is in the table of contents
    place, length, _ = body(tracks, 4)
    assert changed[place + length : place + length + 2] == b"\xbf\x84"  # a checksum, which nobody checks
    entry = place + length + 6
    assert changed[entry] == 0xAE
    at = changed.index(b"\x54\xb2\x81", entry)  # DisplayUnit, inside Video
    video = max(n for n in range(entry, at) if changed[n] == 0xE0 and sum(body(n, 1)) > at)
    segment = changed.index((0x18538067).to_bytes(4, "big"))
    for where, id_length in [(segment, 4), (tracks, 4), (entry, 1), (video, 1)]:
        place, length, size = body(where, id_length)
        if size != (1 << 7 * length) - 1:
            grown = (size + len(elements)) | (1 << 7 * length)
            changed[place : place + length] = grown.to_bytes(length, "big")
    changed[at:at] = elements
    return bytes(changed)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (clap(64, 48), (16, 8, 16, 8)),
        (clap(64, 48, across=(-16, 1), down=(8, 1)), (0, 16, 32, 0)),
        (clap(96, 64), None),
        (clap(200, 64), None),
        (clap(64, 48, across=(1, 0)), None),
        (clap(63, 48), (16, 8, 16, 8)),
    ],
)
def test_clean_aperture(clips: ModuleType, tmp_path: Path, box: bytes, expected: Margins | None) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", frames=3, audio=["aac"])
    path.write_bytes(with_box(path.read_bytes(), ENTRY, box))
    source = PyAVSource(path)
    assert source.info.hidden_margins_px == expected
    assert {frame.hidden_margins_px for frame in source} == {expected}


def test_other_containers_and_damaged_ones_have_none(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.avi", codec="mpeg4", frames=2)
    assert PyAVSource(path).info.hidden_margins_px is None
    rng = np.random.default_rng(0)
    for container in ("mov,mp4", "matroska,webm"):
        for _ in range(200):
            path.write_bytes(rng.integers(0, 256, 300, np.uint8).tobytes())
            assert display_crop(path, container, 1, 0, 96, 64) is None


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_what_is_not_shown_is_black_in_the_output(
    clips: ModuleType, spots: ModuleType, tmp_path: Path, suffix: str
) -> None:
    from trt_anon.api import Anonymizer

    bright = np.full((64, 96, 3), 220, np.uint8)
    bright[8:56, 16:80] = spots.dark(64, 48)

    def draw(index: int) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(bright, format="rgb24").reformat(format="yuv420p")

    path = clips.make_clip(tmp_path / f"a.{suffix}", frames=3, draw=draw)
    data = path.read_bytes()
    if suffix == "mp4":
        path.write_bytes(with_box(data, ENTRY, clap(64, 48)))
    else:
        path.write_bytes(with_pixel_crop(data, {0x54AA: 8, 0x54BB: 8, 0x54CC: 16, 0x54DD: 16}))
        assert PyAVSource(path).info.hidden_margins_px == (16, 8, 16, 8)
    with Anonymizer(runtime="null") as nothing:
        nothing.file(path, tmp_path / f"b.{suffix}")
    with av.open(str(tmp_path / f"b.{suffix}")) as container:
        for frame in container.decode(video=0):
            luma = frame.reformat(format="gray").to_ndarray()
            assert luma.max() < 150
            assert luma[12:52, 20:76].std() > 10, "what is shown is still there"


def test_pixels_that_the_stream_itself_crops_are_not_in_the_output(
    clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    from trt_anon.api import Anonymizer

    bright = np.full((64, 96, 3), 220, np.uint8)
    bright[:48, :64] = spots.dark(64, 48)

    def draw(index: int) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(bright, format="rgb24").reformat(format="yuv420p")

    options = {"x264-params": "crop-rect=0,0,32,16"}
    path = clips.make_clip(tmp_path / "a.mp4", size=(96, 64), frames=3, draw=draw, options=options)

    def coded(file: Path) -> list[np.ndarray]:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = {"apply_cropping": "0"}
            return [f.reformat(format="gray").to_ndarray() for f in container.decode(stream)]

    with Anonymizer(runtime="null") as nothing:
        nothing.file(path, tmp_path / "b.mp4")
    before, after = coded(path), coded(tmp_path / "b.mp4")
    assert len(before) == len(after) == 3
    assert before[0].shape[1] > 64, "the input holds them"
    assert before[0].max() > 200
    assert max(frame.max() for frame in after) < 150
