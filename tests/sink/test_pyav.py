"""Video files as sinks: what was in the input is in the output, but for what must not be."""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from trt_anon.config import SinkConfig
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.media import MediaInfo
from trt_anon.sink.annexb import without_encoder_note
from trt_anon.sink.picture import picture_of
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Orientation

X265 = {"x265-params": "log-level=none"}
ONE, W = 1 << 16, 1 << 30


def convert(
    source_path: Path,
    path: Path,
    config: SinkConfig | None = None,
    edit: Callable[[Frame], Frame] | None = None,
    **options: object,
) -> MediaInfo:
    """The file through source and sink; the input's description."""
    source = PyAVSource(source_path, threads=1)
    sink = PyAVSink(
        path, source_path=source_path, info=source.info, config=config or SinkConfig(), threads=1, **options
    )
    try:
        for frame in source:
            sink.write(edit(frame) if edit else frame)
        sink.finish()
    finally:
        sink.abort()
        source.close()
    return source.info


def seconds(path: Path) -> tuple[MediaInfo, list[Fraction]]:
    source = PyAVSource(path, threads=1)
    times = [frame.pts * source.info.time_base for frame in source]
    source.close()
    return source.info, times


def psnr(first: Path, second: Path) -> float:
    errors = []
    with av.open(str(first)) as one, av.open(str(second)) as two:
        for a, b in zip(one.decode(video=0), two.decode(video=0), strict=True):
            bits = a.format.components[0].bits
            for x, y in zip(a.planes, b.planes, strict=True):
                planes = []
                for plane in (x, y):
                    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                    planes.append(rows.view(np.uint16 if bits > 8 else np.uint8)[:, : plane.width] / (1 << bits))
                errors.append(((planes[0] - planes[1]) ** 2).mean())
    return float(-10 * np.log10(max(np.mean(errors), 1e-12)))


CASES = [
    ("a.mp4", {}),
    ("a.mov", {}),
    ("a.mkv", {}),
    ("a.ts", {}),
    ("a.h264", {}),
    ("b.mp4", {"codec": "libx265", "options": X265}),
    ("b.mov", {"codec": "libx265", "options": X265}),
    ("b.mkv", {"codec": "libx265", "options": X265}),
    ("c.webm", {"codec": "libvpx", "options": {"b": "2M"}}),
    ("c.mkv", {"codec": "libvpx", "options": {"b": "2M"}}),
    ("d.webm", {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0"}}),
    ("d.mp4", {"codec": "libvpx-vp9", "options": {"crf": "10", "b": "0"}}),
    ("e.mkv", {"codec": "libsvtav1", "options": {"preset": "10", "crf": "20"}}),
    ("e.mp4", {"codec": "libsvtav1", "options": {"preset": "10", "crf": "20"}}),
    ("f.avi", {"codec": "mpeg4", "options": {"bf": "2", "qmin": "2", "qmax": "4"}}),
    ("f.mp4", {"codec": "mpeg4"}),
    ("g.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ("g.mov", {"codec": "mjpeg", "pix_fmt": "yuvj422p"}),
    ("h.avi", {"options": {"bf": "0"}}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o.get('codec', 'libx264')}" for n, o in CASES])
def test_round_trip(
    clips: ModuleType, tmp_path: Path, name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    source = clips.make_clip(tmp_path / name, frames=20, rate=Fraction(30000, 1001), **options)
    result = tmp_path / f"out{Path(name).suffix}"
    info = convert(source, result)
    made, times = seconds(result)
    assert times == seconds(source)[1]
    assert made.codec == info.codec
    assert made.pixel_format == info.pixel_format
    assert (made.width_px, made.height_px) == (info.width_px, info.height_px)
    assert made.average_rate == info.average_rate
    assert made.time_base == info.time_base
    assert made.container == info.container
    assert made.color == info.color
    assert psnr(source, result) > 40


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size"),
    [
        ("a.mp4", "libx264", "yuv422p", (96, 63)),
        ("a.mp4", "libx264", "yuv444p", (95, 63)),
        ("a.mp4", "libx264", "yuvj420p", (96, 64)),
        ("a.mp4", "libx264", "yuvj444p", (96, 64)),
        ("a.mp4", "libx264", "yuv420p10le", (96, 64)),
        ("a.mkv", "libx264", "yuv422p10le", (96, 64)),
        ("a.mp4", "libx265", "yuv420p10le", (96, 64)),
        ("a.mp4", "libx265", "yuv420p12le", (96, 64)),
        ("a.mkv", "libx265", "yuv444p10le", (96, 64)),
        ("a.webm", "libvpx", "yuv420p", (97, 65)),
        ("a.webm", "libvpx-vp9", "yuv420p", (97, 65)),
        ("a.webm", "libvpx-vp9", "yuv444p", (97, 65)),
        ("a.mkv", "libsvtav1", "yuv420p10le", (96, 64)),
        ("a.mkv", "libsvtav1", "yuv420p", (97, 65)),
        ("a.avi", "mpeg4", "yuv420p", (97, 65)),
        ("a.avi", "mjpeg", "yuvj420p", (97, 65)),
        ("a.mov", "mjpeg", "yuvj444p", (97, 65)),
    ],
)
def test_format_depth_and_size_are_kept(
    clips: ModuleType, tmp_path: Path, name: str, codec: str, pix_fmt: str, size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("SVT_LOG", "1")
    options = X265 if codec == "libx265" else {}
    source = clips.make_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt, size=size, frames=6, options=options)
    result = tmp_path / f"out{Path(name).suffix}"
    info = convert(source, result)
    made, times = seconds(result)
    assert made.pixel_format.name == info.pixel_format.name == pix_fmt
    assert (made.width_px, made.height_px) == size
    assert made.color.full_range == info.color.full_range
    assert len(times) == 6
    assert psnr(source, result) > 38


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_rate_start_and_end_are_exact(
    clips: ModuleType, tmp_path: Path, codec: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".mov" and codec in ("vp9", "av1"):
        pytest.skip("MOV holds neither")
    monkeypatch.setenv("SVT_LOG", "1")
    times = [90, 133, 134, 200, 300, 301, 450, 990, 1000, 1033, 2000, 2100]
    source = clips.make_clip(
        tmp_path / f"a{suffix}", times=times, time_base=Fraction(1, 1000), rate=Fraction(30), last_duration=400,
        options={"bf": "0"},
    )  # fmt: skip
    result = tmp_path / f"out{suffix}"
    convert(source, result, SinkConfig(codec=codec))
    assert seconds(result)[1] == [Fraction(t, 1000) for t in times]
    if suffix != ".mkv":
        assert seconds(result)[0].duration_seconds == pytest.approx(2.41)


def test_last_frame_keeps_its_duration_with_b_frames(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=15, last_duration=5, options={"bf": "0"})
    result = tmp_path / "out.mp4"
    convert(source, result, SinkConfig(codec="h264", encoder_preset="medium"))
    assert seconds(result)[0].duration_seconds == seconds(source)[0].duration_seconds == pytest.approx(19 / 25)


@pytest.mark.parametrize("orientation", [o for o in Orientation if o is not Orientation.NORMAL])
@pytest.mark.parametrize("name", ["a.mp4", "b.mov", "c.mkv"])
def test_rotation_and_flips_are_kept(clips: ModuleType, tmp_path: Path, orientation: Orientation, name: str) -> None:
    matrix = {
        Orientation.FLIP_HORIZONTAL: (-ONE, 0, 0, 0, ONE, 0, 0, 0, W),
        Orientation.ROTATE_180: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
        Orientation.FLIP_VERTICAL: (ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
        Orientation.TRANSPOSE: (0, ONE, 0, ONE, 0, 0, 0, 0, W),
        Orientation.ROTATE_90_CLOCKWISE: (0, ONE, 0, -ONE, 0, 0, 0, 0, W),
        Orientation.TRANSVERSE: (0, -ONE, 0, -ONE, 0, 0, 0, 0, W),
        Orientation.ROTATE_90_COUNTERCLOCKWISE: (0, -ONE, 0, ONE, 0, 0, 0, 0, W),
    }[orientation]
    source = clips.make_clip(tmp_path / "in.mp4", frames=3, display_matrix=matrix)
    result = tmp_path / name
    info = convert(source, result)
    made, _ = seconds(result)
    assert made.orientation is info.orientation is orientation
    if not name.endswith("mkv"):  # Matroska holds angles, not the matrix
        assert made.display_matrix == info.display_matrix


def test_rotation_that_a_container_cannot_tell_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=2, display_matrix=(0, ONE, 0, -ONE, 0, 0, 0, 0, W))
    with pytest.raises(UsageError, match="rotated"):
        convert(source, tmp_path / "out.ts")


@pytest.mark.parametrize("name", ["a.mp4", "b.mov", "c.mkv", "d.ts", "e.avi", "f.h264"])
def test_pixel_aspect_is_kept(clips: ModuleType, tmp_path: Path, name: str) -> None:
    source = clips.make_clip(tmp_path / "in.mp4", frames=3, aspect=Fraction(4, 3), options={"bf": "0"})
    convert(source, tmp_path / name)
    assert seconds(tmp_path / name)[0].sample_aspect_ratio == Fraction(4, 3)


def test_pixel_aspect_that_cannot_be_told_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "in.mp4", frames=3, aspect=Fraction(4, 3))
    with pytest.raises(UsageError, match="not square"):
        convert(source, tmp_path / "a.webm", SinkConfig(codec="vp9"))
    convert(source, tmp_path / "a.mp4", SinkConfig(codec="vp9"))
    assert seconds(tmp_path / "a.mp4")[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
@pytest.mark.parametrize("name", ["a.mp4", "b.mkv"])
def test_colour_is_kept(
    clips: ModuleType, tmp_path: Path, codec: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    source = clips.make_clip(tmp_path / "in.mp4", frames=3, color=(2, 9, 14, 9))
    convert(source, tmp_path / name, SinkConfig(codec=codec))
    info, _ = seconds(tmp_path / name)
    assert (info.color_range, info.color_primaries, info.color_trc, info.color_space) == (2, 9, 14, 9)
    assert info.color == Color("bt2020", full_range=True)


@pytest.mark.parametrize(
    ("name", "codec", "audio", "subtitles"),
    [
        ("a.mp4", "libx264", ["aac", "ac3"], "mov_text"),
        ("b.mov", "libx264", ["aac", "pcm_s16le"], None),
        ("c.mkv", "libx264", ["libopus", "aac"], "subrip"),
        ("d.webm", "libvpx-vp9", ["libopus"], None),
        ("e.avi", "mpeg4", ["libmp3lame", "ac3"], None),
        ("f.ts", "libx264", ["aac", "mp2"], None),
    ],
)
def test_audio_and_subtitles_are_copied_bit_for_bit(
    clips: ModuleType, tmp_path: Path, name: str, codec: str, audio: list[str], subtitles: str | None
) -> None:
    source = clips.make_clip(tmp_path / name, codec=codec, audio=audio, subtitles=subtitles, frames=20)
    result = tmp_path / f"out{Path(name).suffix}"
    convert(source, result)
    assert len(clips.stream_packets(result, "audio")) == len(audio)
    assert clips.stream_packets(result, "audio") == clips.stream_packets(source, "audio")
    assert clips.stream_packets(result, "subtitle") == clips.stream_packets(source, "subtitle")
    with av.open(str(source)) as one, av.open(str(result)) as two:
        kinds = [s.type for s in one.streams]
        assert [s.type for s in two.streams] == kinds
        for a, b in zip(one.streams, two.streams, strict=True):
            assert (a.disposition, a.metadata.get("language", "und")) == (
                b.disposition, b.metadata.get("language", "und"),
            )  # fmt: skip


def test_streams_are_dropped_on_demand(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", audio=["aac"], subtitles="mov_text")
    convert(source, tmp_path / "b.mp4", SinkConfig(audio="drop"))
    convert(source, tmp_path / "c.mp4", SinkConfig(subtitles="drop"))
    for name, kinds in (("b.mp4", ["video", "subtitle"]), ("c.mp4", ["video", "audio"])):
        with av.open(str(tmp_path / name)) as container:
            assert [s.type for s in container.streams] == kinds


def test_streams_that_do_not_fit_are_refused_with_advice(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", audio=["aac"], subtitles="mov_text")
    for name, message in (
        ("b.mkv", r"subtitle stream 2 \(mov_text\).*--subtitles drop"),
        ("b.webm", r"audio stream 1 \(aac\).*--audio drop"),
        ("b.h264", "--audio drop"),
        ("b.ts", "--subtitles drop"),
    ):
        config = SinkConfig(codec="vp9") if name.endswith("webm") else SinkConfig()
        with pytest.raises(UsageError, match=message):
            convert(source, tmp_path / name, config)
    convert(source, tmp_path / "c.mkv", SinkConfig(subtitles="drop"))


def test_nothing_private_is_carried_over(clips: ModuleType, tmp_path: Path) -> None:
    """No metadata, chapters, cover pictures, second videos or attachments, and no trace of settings."""
    source = clips.make_clip(tmp_path / "a.mp4", audio=["ac3"], metadata=True, chapters=True, cover=True)
    for name in ("b.mp4", "c.mov", "d.mkv"):
        result = tmp_path / name
        convert(source, result)
        with av.open(str(result)) as container:
            assert [s.type for s in container.streams] == ["video", "audio"]
            assert not container.chapters()
            assert "creation_time" not in container.metadata
        data = result.read_bytes()
        for trace in (b"secret name", b"x264 - core", b"crf=", b"Lavc6", b"Lavf6", b"JFIF", b"2024"):
            assert trace not in data, (name, trace)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg"])
def test_no_encoder_writes_its_settings(
    clips: ModuleType, tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    family = {"mpeg4": {"codec": "mpeg4"}, "mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"}}.get(codec, {})
    source = clips.make_clip(tmp_path / "a.mkv", frames=4, **family)
    convert(source, tmp_path / "b.mkv", SinkConfig(codec="same" if family else codec))
    data = (tmp_path / "b.mkv").read_bytes()
    for trace in (b"x264", b"x265", b"Lavc", b"Lavf6", b"options:", b"SVT"):
        assert trace not in data


def test_second_video_stream_is_dropped(tmp_path: Path, clips: ModuleType) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("mpeg4", rate=25, width=w, height=48) for w in (64, 96)]
        for index in range(5):
            for stream in streams:
                frame = clips.picture(index, stream.width, 48)
                frame.pts, frame.time_base = index, Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    convert(path, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(container.streams) == 1


def test_attachments_and_data_are_dropped(tmp_path: Path, clips: ModuleType) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, width=64, height=48)
        out.add_attachment("face.txt", "text/plain", b"secret name")
        for index in range(3):
            out.mux(stream.encode(clips.picture(index, 64, 48)))
        out.mux(stream.encode(None))
    convert(path, tmp_path / "out.mkv")
    assert b"secret name" not in (tmp_path / "out.mkv").read_bytes()
    data = tmp_path / "b.ts"
    with av.open(str(data), "w") as out:
        stream = out.add_stream("libx264", rate=25, width=64, height=48)
        klv = out.add_data_stream("klv")
        for index in range(5):
            frame = clips.picture(index, 64, 48)
            out.mux(stream.encode(frame))
        packet = av.Packet(b"secret name")
        packet.stream, packet.time_base, packet.pts, packet.dts = klv, Fraction(1, 90000), 3600, 3600
        out.mux(packet)
        out.mux(stream.encode(None))
    assert b"secret name" in data.read_bytes()
    convert(data, tmp_path / "out.ts")
    assert b"secret name" not in (tmp_path / "out.ts").read_bytes()


def test_metadata_kept_on_demand_is_the_time_alone(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", audio=["aac"], metadata=True)
    convert(source, tmp_path / "b.mp4", SinkConfig(metadata="keep"))
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.metadata["creation_time"] == "2024-05-06T07:08:09.000000Z"
    assert b"secret name" not in (tmp_path / "b.mp4").read_bytes()


def test_the_encoder_gets_the_frames_as_they_are(
    clips: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels outside edited regions are those of the input, without a copy or a conversion on the way."""
    source_path = clips.make_clip(tmp_path / "a.mp4", frames=8)
    with av.open(str(source_path)) as container:
        clean = [frame.to_ndarray() for frame in container.decode(video=0)]
    given: list[np.ndarray] = []

    def spy(frame: Frame, target: str) -> av.VideoFrame:
        picture = picture_of(frame, target)
        assert picture is frame.native
        given.append(picture.to_ndarray())
        return picture

    monkeypatch.setattr("trt_anon.sink.pyav.picture_of", spy)

    def edit(frame: Frame) -> Frame:
        frame.planes[0][10:20, 30:50] = 7
        return frame

    convert(source_path, tmp_path / "b.mp4", edit=edit)
    assert len(given) == len(clean)
    for before, after in zip(clean, given, strict=True):
        expected = before.copy()
        expected[10:20, 30:50] = 7
        assert np.array_equal(expected, after)


def test_replaced_planes_win_over_the_native_frame(clips: ModuleType, tmp_path: Path) -> None:
    """A frame whose planes were redacted into new arrays must never be written from its native frame."""
    source_path = clips.make_clip(tmp_path / "a.mp4", frames=3)

    def edit(frame: Frame) -> Frame:
        return replace(frame, planes=tuple(np.full_like(plane, 128) for plane in frame.planes))

    convert(source_path, tmp_path / "b.mp4", edit=edit)
    with av.open(str(tmp_path / "b.mp4")) as container:
        for frame in container.decode(video=0):
            assert np.abs(frame.to_ndarray().astype(int) - 128).max() <= 2

    def swap_chroma(frame: Frame) -> Frame:
        y, u, _ = frame.planes
        return replace(frame, planes=(y, u, np.full_like(u, 40)))

    convert(source_path, tmp_path / "c.mp4", edit=swap_chroma)
    with av.open(str(tmp_path / "c.mp4")) as container:
        frame = next(container.decode(video=0))
        assert np.abs(frame.to_ndarray()[-16:].astype(int) - 40).max() <= 4


@pytest.mark.parametrize(
    ("name", "target"),
    [("nv12", "yuv420p"), ("p010le", "yuv420p10le"), ("gray", "yuv420p"), ("gray10le", "yuv420p10le"),
     ("yuvj422p", "yuv422p"), ("yuv420p", "yuv420p"), ("nv12", "nv12"), ("yuv444p12le", "yuv444p12le")],
)  # fmt: skip
def test_pictures_are_built_from_planes_without_loss(name: str, target: str) -> None:
    rng = np.random.default_rng(5)
    pixel_format = PIXEL_FORMATS[name]
    top = 1 << pixel_format.bit_depth
    planes = tuple(
        (rng.integers(0, top, shape) << pixel_format.sample_shift).astype(pixel_format.dtype)
        for shape in pixel_format.plane_shapes(33, 17)
    )
    frame = Frame(planes, pixel_format, 33, 17)
    picture = picture_of(frame, target)
    found = []
    for plane in picture.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(pixel_format.dtype)
        found.append(rows[:, : plane.width * (2 if target == "nv12" and len(found) == 1 else 1)])
    codes = [plane >> pixel_format.sample_shift for plane in planes]
    assert np.array_equal(found[0], codes[0])
    if target == "nv12":
        assert np.array_equal(found[1], codes[1].reshape(9, -1))
    elif pixel_format.kind == "semiplanar_yuv":
        assert np.array_equal(found[1], codes[1][..., 0])
        assert np.array_equal(found[2], codes[1][..., 1])
    elif pixel_format.kind == "gray":
        assert np.all(found[1] == top // 2)
    else:
        assert np.array_equal(found[1], codes[1])
        assert np.array_equal(found[2], codes[2])


def test_hevc_in_mp4_is_tagged_for_apple(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=3)
    convert(source, tmp_path / "b.mp4", SinkConfig(codec="hevc"))
    assert b"hvc1" in (tmp_path / "b.mp4").read_bytes()


def test_faststart_puts_the_index_first(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=3)
    convert(source, tmp_path / "b.mp4", faststart=True)
    data = (tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_quality_orders_size(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=10, size=(160, 120), options={"crf": "4"})
    sizes = []
    for quality in (5, 40, 75, 100):
        convert(source, tmp_path / "b.mp4", SinkConfig(quality=quality))
        sizes.append((tmp_path / "b.mp4").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 2


def test_interlaced_stays_interlaced(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(
        tmp_path / "a.ts", frames=8, options={"flags": "+ildct+ilme", "x264-params": "tff=1", "bf": "0"}
    )
    info = convert(source, tmp_path / "b.ts")
    assert info.field_order > 1
    assert seconds(tmp_path / "b.ts")[0].field_order == info.field_order
    with av.open(str(tmp_path / "b.ts")) as container:
        assert next(container.decode(video=0)).interlaced_frame


def test_constant_rate_containers_refuse_variable_rate(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", times=[0, 40, 55, 120, 200], time_base=Fraction(1, 1000))
    for name in ("b.avi", "b.h264"):
        with pytest.raises(OutputError, match="constant frame rate"):
            convert(source, tmp_path / name)


def test_avi_keeps_gaps(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.avi", codec="mpeg4", times=[0, 1, 2, 5, 6, 9], time_base=Fraction(1, 25))
    convert(source, tmp_path / "b.avi")
    assert seconds(tmp_path / "b.avi")[1] == seconds(source)[1] == [Fraction(t, 25) for t in (0, 1, 2, 5, 6, 9)]


def test_unwritable_outputs(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=3)
    with pytest.raises(OutputError, match="cannot write"):
        convert(source, tmp_path / "missing" / "b.mp4")
    with pytest.raises(OutputError, match="cannot write"):
        convert(source, tmp_path / "missing" / "b.ts")
    with pytest.raises(UsageError, match="suffix"):
        convert(source, tmp_path / "b.txt")
    with pytest.raises(UsageError, match="preset 'warp'"):
        convert(source, tmp_path / "b.mp4", SinkConfig(encoder_preset="warp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_an_error(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.ts", frames=20, size=(160, 120))
    full = tmp_path / "b.ts"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        convert(source, full)


def test_abort_and_finish_leave_nothing_open(clips: ModuleType, tmp_path: Path) -> None:
    source_path = clips.make_clip(tmp_path / "a.mp4", frames=6, audio=["aac"])
    gc.collect()
    before = set(Path("/proc/self/fd").iterdir())
    for ending in ("abort", "finish", "both"):
        source = PyAVSource(source_path)
        sink = PyAVSink(tmp_path / "b.mp4", source_path=source_path, info=source.info, config=SinkConfig())
        for frame in source:
            sink.write(frame)
        if ending != "abort":
            sink.finish()
        if ending != "finish":
            sink.abort()
            sink.abort()
        source.close()
        with pytest.raises(OutputError, match="closed"):
            sink.write(frame)
        with pytest.raises(OutputError, match="closed"):
            sink.finish()
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_wrong_frames_are_refused(clips: ModuleType, tmp_path: Path) -> None:
    source_path = clips.make_clip(tmp_path / "a.mp4", frames=4)
    source = PyAVSource(source_path)
    sink = PyAVSink(tmp_path / "b.mp4", source_path=source_path, info=source.info, config=SinkConfig())
    frames = list(source)
    sink.write(frames[1])
    with pytest.raises(OutputError, match="do not increase"):
        sink.write(frames[0])
    with pytest.raises(OutputError, match="no presentation time"):
        sink.write(replace(frames[2], pts=None, native=None))
    small = Frame((np.zeros((8, 8), np.uint8),), PIXEL_FORMATS["gray"], 8, 8, pts=9)
    with pytest.raises(OutputError, match="differs"):
        sink.write(small)
    sink.abort()
    empty = PyAVSink(tmp_path / "b.mp4", source_path=source_path, info=source.info, config=SinkConfig())
    with pytest.raises(OutputError, match="no frame"):
        empty.finish()
    empty.abort()
    source.close()


def test_lost_packets_are_noticed(clips: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that drops frames must not make a shorter video."""
    original = PyAVSink._mux

    def lossy(self: PyAVSink, output: object, packets: list[av.Packet]) -> None:
        original(self, output, packets[:-1] if len(packets) > 1 else packets)  # type: ignore[arg-type]

    monkeypatch.setattr(PyAVSink, "_mux", lossy)
    source = clips.make_clip(tmp_path / "a.mp4", frames=20)
    with pytest.raises(OutputError, match="of 20"):
        convert(source, tmp_path / "b.mp4", SinkConfig(encoder_preset="medium"))


def test_damaged_audio_is_an_error_with_advice(clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.ts", frames=50, audio=["mp2"])
    data = bytearray(source.read_bytes())
    sound = [i for i in range(0, len(data), 188) if (data[i + 1] & 31) << 8 | data[i + 2] == 0x101]
    middle = sound[len(sound) // 2]
    damaged = tmp_path / "b.ts"
    damaged.write_bytes(data[:middle] + data[middle + 188 :])
    assert len(seconds(damaged)[1]) == 50
    with pytest.raises((InputError, OutputError), match="audio"):
        convert(damaged, tmp_path / "c.ts")
    convert(damaged, tmp_path / "c.ts", SinkConfig(audio="drop"))


def test_encoder_note_is_taken_out_and_nothing_else() -> None:
    note = b"\0\0\1\x06\x05\x20" + b"x" * 32 + b"\x80"
    captions = b"\0\0\1\x06\x04\x05abcde\x80"
    slice_ = b"\0\0\0\1\x65data"
    assert without_encoder_note(b"\0\0\0\1\x67sps" + note + captions + slice_) == b"\0\0\0\1\x67sps" + captions + slice_
    assert without_encoder_note(b"\0\0\0\x05\x65data") == b"\0\0\0\x05\x65data"
    assert without_encoder_note(b"") == b""


def test_audio_whose_header_gives_the_number_of_channels_alone_is_taken(clips: ModuleType, tmp_path: Path) -> None:
    whole = clips.make_clip(tmp_path / "a.avi", codec="mpeg4", frames=12, audio=["ac3"])
    source = tmp_path / "b.avi"
    with av.open(str(whole)) as read, av.open(str(source), "w") as write:
        pairs = {s.index: write.add_stream_from_template(s, opaque=True) for s in read.streams}
        for packet in read.demux():
            if packet.size and packet.stream.type == "video":  # no sound to learn the channels from
                packet.stream = pairs[packet.stream_index]
                write.mux(packet)
    with av.open(str(source)) as container:
        assert container.streams.audio[0].layout.name == "2 channels"
    opened = PyAVSource(source)
    sink = PyAVSink(tmp_path / "c.avi", source_path=source, info=opened.info, config=SinkConfig())
    for frame in opened:
        sink.write(frame)
    sink.finish()
    opened.close()
    with av.open(str(tmp_path / "c.avi")) as container:
        assert container.streams.audio[0].codec_context.channels == 2
