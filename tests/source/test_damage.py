"""Damaged video under `conceal_damage`: what may be wrong is marked, and everything that is not marked is right."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from trt_anon.errors import InputError
from trt_anon.source.damage import DamagedSpans, Span
from trt_anon.source.pyav import PyAVSource

FRAMES = 40
GROUP = 8


def test_spans_join_and_hold_their_times() -> None:
    spans = DamagedSpans([Span(10, 20), Span(18, 25), Span(40, None), Span(25, 26), Span(50, 60), Span(0, 2)])
    assert spans.spans == (Span(0, 2), Span(10, 26), Span(40, None))
    held = [pts for pts in range(-5, 70) if pts in spans]
    assert held == [0, 1, *range(10, 26), *range(40, 70)]
    assert 5 not in DamagedSpans([])


def packets_of(path: Path) -> list[tuple[int, bytes]]:
    """(presentation time, bytes) of each packet, in decoding order."""
    with av.open(str(path)) as container:
        return [(p.pts, bytes(p)) for p in container.demux(video=0) if p.size]


def damage(path: Path, number: int, kind: str) -> None:
    """Spoil packet `number` (in decoding order) where it lies in the file."""
    data = bytearray(path.read_bytes())
    _, packet = packets_of(path)[number]
    at = data.index(packet)
    middle = slice(at + len(packet) // 3, at + len(packet) - 4)
    length = middle.stop - middle.start
    if kind == "noise":
        data[middle] = np.random.default_rng(number).integers(0, 256, length, np.uint8).tobytes()
    else:
        data[middle] = bytes(length)
    path.write_bytes(data)


def read(path: Path, *, conceal: bool) -> list[tuple[int, bool, np.ndarray]]:
    """(time, concealed, luma) of each frame."""
    source = PyAVSource(path, conceal_damage=conceal)
    return [(f.pts or 0, f.concealed, f.planes[0].copy()) for f in source]


@pytest.fixture(
    params=[
        ("a.mp4", "libx264", {"bf": "2", "b_strategy": "0", "x264-params": "open-gop=1:scenecut=0"}),
        ("a.mkv", "libx264", {"bf": "0", "x264-params": "scenecut=0"}),
        ("a.mp4", "libx265", {"x265-params": "log-level=none:scenecut=0:open-gop=1:keyint=8:min-keyint=8"}),
        ("a.mkv", "libvpx-vp9", {"deadline": "realtime"}),
        ("a.mkv", "mpeg4", {"bf": "1"}),
        ("a.mkv", "mjpeg", {}),
    ],
    ids=["h264 open groups", "h264", "hevc", "vp9", "mpeg4", "mjpeg"],
)
def clip(request: pytest.FixtureRequest, clips: ModuleType, tmp_path: Path) -> Path:
    """A clip of several groups of pictures."""
    name, codec, options = request.param
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path: Path = clips.make_clip(
        tmp_path / name,
        codec=codec,
        size=(160, 96),
        frames=FRAMES,
        pix_fmt=pix_fmt,
        options={"g": str(GROUP), **options},
    )
    return path


@pytest.mark.parametrize("kind", ["noise", "zeros"])
@pytest.mark.parametrize("place", ["first", "middle", "key frame", "last"])
def test_what_is_not_marked_is_right(clip: Path, place: str, kind: str) -> None:
    whole = read(clip, conceal=True)
    assert not any(concealed for _, concealed, _ in whole)
    number = {"first": 0, "middle": FRAMES // 2 + 3, "key frame": 2 * GROUP, "last": FRAMES - 1}[place]
    damage(clip, number, kind)
    try:
        read(clip, conceal=False)
    except InputError:
        noticed = True
    else:
        noticed = False  # what decodes to some picture cannot be told from one
    try:
        made = read(clip, conceal=True)
    except InputError:
        assert noticed
        return
    assert [pts for pts, _, _ in made] == [pts for pts, _, _ in whole], "every time is there"
    assert any(concealed for _, concealed, _ in made) == noticed
    if not noticed:
        return
    for (pts, concealed, luma), (_, _, true) in zip(made, whole, strict=True):
        assert concealed or np.array_equal(luma, true), f"the frame at {pts} shows damage"
    assert sum(concealed for _, concealed, _ in made) <= 2 * GROUP + 3, "damage ends with its group"


def test_lost_transport_packets(clips: ModuleType, tmp_path: Path) -> None:
    options = {"crf": "5", "g": "8", "bf": "2", "b_strategy": "0"}
    path = clips.make_clip(tmp_path / "a.ts", frames=FRAMES, size=(160, 120), options=options)
    whole = {pts: luma for pts, _, luma in read(path, conceal=True)}
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188
    del data[middle * 188 : (middle + 3) * 188]
    path.write_bytes(data)
    with pytest.raises(InputError):
        read(path, conceal=False)
    made = read(path, conceal=True)
    assert 1 <= sum(concealed for _, concealed, _ in made) <= 2 * GROUP
    assert FRAMES - 2 <= len(made) <= FRAMES
    for pts, concealed, luma in made:
        assert concealed or np.array_equal(luma, whole[pts])


def test_a_frame_that_never_came_is_given_at_its_time(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mkv", codec="mjpeg", frames=12, pix_fmt="yuvj420p")
    path = tmp_path / "b.mkv"
    with av.open(str(source)) as read_from, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(read_from.streams.video[0], opaque=True)
        for number, packet in enumerate(read_from.demux(video=0)):
            if packet.dts is None:
                continue
            if number in (0, 6, 11):
                empty = av.Packet(bytes(60))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                packet = empty
            packet.stream = stream
            out.mux(packet)
    with pytest.raises(InputError, match="damaged"):
        read(path, conceal=False)
    made = list(PyAVSource(path, conceal_damage=True))
    assert [f.pts for f in made] == [40 * n for n in range(12)]
    assert [f.index for f in made if f.concealed] == [0, 6, 11]
    assert {f.pixel_format.name for f in made} == {"yuvj420p"}
    assert {f.time_base for f in made} == {Fraction(1, 1000)}


def test_what_is_cut_off_or_has_no_times_is_refused_as_ever(clips: ModuleType, tmp_path: Path) -> None:
    cut = clips.make_clip(tmp_path / "a.mp4", frames=30, muxer_options={"movflags": "+faststart"})
    cut.write_bytes(cut.read_bytes()[:-500])
    with pytest.raises(InputError, match="cut off"):
        read(cut, conceal=True)
    avi = clips.make_clip(tmp_path / "b.avi", codec="mpeg4", size=(160, 120), frames=20)
    damage(avi, 9, "noise")
    refused = 0
    for conceal in (False, True):
        try:
            read(avi, conceal=conceal)
        except InputError:
            refused += 1
    assert refused in (0, 2)
    nothing = clips.make_clip(tmp_path / "c.mkv", codec="mjpeg", frames=1, pix_fmt="yuvj420p")
    damage(nothing, 0, "zeros")
    data = nothing.read_bytes()
    nothing.write_bytes(data.replace(b"\xff\xd8", b"\0\0"))
    with pytest.raises(InputError):
        read(nothing, conceal=True)
