"""Video files as sources: every frame, its time, its colour and its planes; and everything that must be refused."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from trt_anon.errors import InputError
from trt_anon.source.pyav import PyAVSource, orientation_of
from trt_anon.types import Color, Orientation

ONE, W = 1 << 16, 1 << 30
MATRICES = {
    Orientation.FLIP_HORIZONTAL: (-ONE, 0, 0, 0, ONE, 0, 0, 0, W),
    Orientation.ROTATE_180: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
    Orientation.FLIP_VERTICAL: (ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
    Orientation.TRANSPOSE: (0, ONE, 0, ONE, 0, 0, 0, 0, W),
    Orientation.ROTATE_90_CLOCKWISE: (0, ONE, 0, -ONE, 0, 0, 0, 0, W),
    Orientation.TRANSVERSE: (0, -ONE, 0, -ONE, 0, 0, 0, 0, W),
    Orientation.ROTATE_90_COUNTERCLOCKWISE: (0, -ONE, 0, ONE, 0, 0, 0, 0, W),
}
X265 = {"x265-params": "log-level=none"}


def read(path: Path) -> tuple[PyAVSource, list[int | None], list[tuple[bytes, ...]]]:
    source = PyAVSource(path, threads=2)
    times, pictures = [], []
    for number, frame in enumerate(source):
        assert frame.index == number
        times.append(frame.pts)
        pictures.append(tuple(plane.tobytes() for plane in frame.planes))
    source.close()
    return source, times, pictures


def plain_decode(path: Path) -> list[tuple[bytes, ...]]:
    """What FFmpeg decodes, single threaded, through PyAV's own conversion to arrays."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        pictures = []
        for frame in container.decode(stream):
            planes = []
            for plane in frame.planes:
                item = 2 if frame.format.components[0].bits > 8 else 1
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                planes.append(rows[:, : plane.width * item].tobytes())
            pictures.append(tuple(planes))
        return pictures


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mov", {"codec": "libx265", "options": X265}),
        ("c.webm", {"codec": "libvpx", "options": {"b": "300k", "auto-alt-ref": "1", "lag-in-frames": "10"}}),
        ("d.webm", {"codec": "libvpx-vp9", "options": {"lag-in-frames": "10", "auto-alt-ref": "1"}}),
        ("e.mkv", {"codec": "libsvtav1", "options": {"preset": "10"}}),
        ("f.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("g.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("h.ts", {}),
        ("i.h264", {}),
        ("j.avi", {"options": {"bf": "0"}}),
        ("k.mkv", {"codec": "ffv1", "pix_fmt": "yuv422p"}),
        ("l.mp4", {"codec": "mpeg4"}),
        ("m.mpg", {"codec": "mpeg2video", "options": {"bf": "2"}}),
    ],
)
def test_every_frame_of_every_codec_comes_out_as_decoded(
    clips: ModuleType, tmp_path: Path, name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    path = clips.make_clip(tmp_path / name, frames=25, **options)
    source, times, pictures = read(path)
    assert len(times) == 25
    seconds = [time * source.info.time_base for time in times if time is not None]
    step = Fraction(1, 25)
    for number, second in enumerate(seconds):
        assert abs(second - seconds[0] - number * step) <= Fraction(1, 1000)
    assert pictures == plain_decode(path)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p", (96, 64)),
        ("libx264", "yuv422p", (96, 63)),
        ("libx264", "yuv444p", (95, 63)),
        ("libx264", "yuvj420p", (96, 64)),
        ("libx264", "yuv420p10le", (96, 64)),
        ("libx264", "yuv422p10le", (96, 64)),
        ("ffv1", "gray", (96, 64)),
        ("ffv1", "gray10le", (96, 64)),
        ("libx265", "yuv420p12le", (96, 64)),
        ("libx265", "yuv444p10le", (96, 64)),
        ("libvpx-vp9", "yuv420p", (97, 65)),
        ("ffv1", "yuv420p", (33, 17)),
    ],
)
def test_native_formats_are_kept(
    clips: ModuleType, tmp_path: Path, codec: str, pix_fmt: str, size: tuple[int, int]
) -> None:
    options = X265 if codec == "libx265" else {}
    path = clips.make_clip(tmp_path / "a.mkv", codec=codec, pix_fmt=pix_fmt, size=size, frames=6, options=options)
    source, _, pictures = read(path)
    assert source.info.pixel_format.name == pix_fmt
    assert (source.info.width_px, source.info.height_px) == size
    assert source.info.color.full_range == pix_fmt.startswith("yuvj")
    assert pictures == plain_decode(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("b.mov", {"codec": "libx265", "options": X265}),
        ("c.webm", {"codec": "libvpx"}),
        ("d.webm", {"codec": "libvpx-vp9"}),
        ("e.mkv", {"codec": "libsvtav1", "options": {"preset": "10"}}),
        ("f.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
        ("g.mkv", {"codec": "ffv1", "options": {"g": "10"}}),
    ],
)
def test_editing_a_frame_in_place_changes_no_other_frame(
    clips: ModuleType, tmp_path: Path, name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SVT_LOG", "1")
    path = clips.make_clip(tmp_path / name, frames=20, **options)
    clean = plain_decode(path)
    source = PyAVSource(path)
    for number, frame in enumerate(source):
        assert tuple(plane.tobytes() for plane in frame.planes) == clean[number]
        for plane in frame.planes:
            plane[...] = 255
    assert number == len(clean) - 1
    source.close()


def test_planes_are_the_native_frame(clips: ModuleType, tmp_path: Path) -> None:
    source = PyAVSource(clips.make_clip(tmp_path / "a.mp4", frames=3))
    for frame in source:
        for plane, native in zip(frame.planes, frame.native.planes, strict=True):
            assert plane.ctypes.data == native.buffer_ptr
            assert plane.flags.writeable
    source.close()


def test_variable_rate_and_start_offset_are_exact(clips: ModuleType, tmp_path: Path) -> None:
    times = [900, 1000, 1001, 1400, 3000, 3010, 3500, 9000]
    path = clips.make_clip(tmp_path / "a.mp4", times=times, time_base=Fraction(1, 30000), rate=Fraction(30))
    source, found, _ = read(path)
    assert [t * source.info.time_base for t in found if t is not None] == [Fraction(t, 30000) for t in times]


def test_ntsc_rate_does_not_drift(clips: ModuleType, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.ts", "c.h264", "d.avi"):
        rate = Fraction(30000, 1001)
        options = {"bf": "0"} if name.endswith("avi") else {}
        path = clips.make_clip(tmp_path / name, rate=rate, frames=30, options=options)
        source, times, _ = read(path)
        first, last = times[0], times[-1]
        assert first is not None
        assert last is not None
        assert (last - first) * source.info.time_base == 29 / rate
        assert source.info.average_rate == rate


def test_packed_b_frames_keep_their_slots(clips: ModuleType, tmp_path: Path) -> None:
    """AVI states no presentation times; FFmpeg's guesses for B-frames are out of order."""
    path = clips.make_clip(tmp_path / "a.avi", codec="mpeg4", options={"bf": "2"}, frames=20)
    _, times, _ = read(path)
    assert times == list(range(20))


@pytest.mark.parametrize(("orientation", "matrix"), MATRICES.items())
def test_orientation_of_every_display_matrix(
    clips: ModuleType, tmp_path: Path, orientation: Orientation, matrix: tuple[int, ...]
) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", frames=2, display_matrix=matrix)
    source = PyAVSource(path)
    assert source.info.orientation is orientation
    assert source.info.display_matrix is not None
    assert orientation_of(source.info.display_matrix) is orientation
    frame = next(iter(source))
    assert frame.orientation is orientation
    assert frame.upright_size_px == ((64, 96) if orientation.swaps_axes else (96, 64))
    source.close()


def test_orientation_agrees_with_ffmpeg(clips: ModuleType, tmp_path: Path) -> None:
    """FFmpeg's own reading of the flag (degrees counter-clockwise) for the pure turns."""
    for orientation, degrees in (
        (Orientation.ROTATE_90_CLOCKWISE, -90),
        (Orientation.ROTATE_90_COUNTERCLOCKWISE, 90),
        (Orientation.ROTATE_180, 180),
    ):
        path = clips.make_clip(tmp_path / f"{degrees}.mp4", frames=1, display_matrix=MATRICES[orientation])
        with av.open(str(path)) as container:
            rotation = next(container.decode(video=0)).rotation
            assert rotation == degrees or (degrees == 180 and rotation == -180)


def test_colour_and_aspect_are_read(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", color=(2, 9, 16, 9), aspect=Fraction(4, 3), frames=2)
    source, _, _ = read(path)
    info = source.info
    assert (info.color_range, info.color_primaries, info.color_trc, info.color_space) == (2, 9, 16, 9)
    assert info.color == Color("bt2020", full_range=True)
    assert info.sample_aspect_ratio == Fraction(4, 3)


def test_unnamed_matrix_follows_the_size(clips: ModuleType, tmp_path: Path) -> None:
    for size, matrix in (((96, 64), "bt601"), ((1280, 16), "bt709"), ((16, 578), "bt709")):
        source, _, _ = read(clips.make_clip(tmp_path / "a.mp4", size=size, frames=1))
        assert source.info.color.matrix == matrix
        assert source.info.color_space == 2


def test_other_pixel_formats_become_the_nearest(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pixels = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    for codec, native, expected in (
        ("rawvideo", "rgb24", "yuv444p"),
        ("png", "rgb24", "yuv444p"),
        ("ffv1", "yuv411p", "yuv422p"),
        ("ffv1", "yuv440p", "yuv444p"),
        ("ffv1", "yuva420p", "yuv420p"),
        ("ffv1", "yuv420p16le", "yuv420p12le"),
        ("rawvideo", "uyvy422", "yuv422p"),
        ("rawvideo", "nv12", "nv12"),
    ):
        path = tmp_path / "a.nut"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25, width=64, height=64, pix_fmt=native)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=native)
            frame.pts = 0
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        source = PyAVSource(path)
        assert source.info.pixel_format.name == expected, native
        frame_out = next(iter(source))
        if "rgb" in native:
            assert source.info.color == Color("bt709", full_range=True)
            y, u, v = (plane.astype(float) for plane in frame_out.planes)
            red = y + 1.5748 * (v - 128)
            blue = y + 1.8556 * (u - 128)
            assert np.abs(red.clip(0, 255) - pixels[..., 0]).max() <= 4
            assert np.abs(blue.clip(0, 255) - pixels[..., 2]).max() <= 4
        source.close()


def test_a_source_is_iterated_once(clips: ModuleType, tmp_path: Path) -> None:
    source = PyAVSource(clips.make_clip(tmp_path / "a.mp4", frames=2))
    assert len(list(source)) == 2
    with pytest.raises(RuntimeError, match="once"):
        iter(source)
    source.close()
    source.close()


def test_cover_picture_is_not_the_video(clips: ModuleType, tmp_path: Path) -> None:
    source, times, _ = read(clips.make_clip(tmp_path / "a.mp4", cover=True, audio=["aac"]))
    assert len(times) == 12
    assert source.info.codec == "h264"


def test_frames_cut_away_by_an_edit_list_are_not_shown(clips: ModuleType, tmp_path: Path) -> None:
    """Presentation times before zero are cut by MP4's edit list; nothing else is."""
    path = clips.make_clip(tmp_path / "a.mp4", times=list(range(-4, 12)), options={"bf": "0", "g": "50"})
    _, times, _ = read(path)
    with av.open(str(path)) as container:
        assert len(times) == len(list(container.decode(video=0)))


def refused(path: Path | str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(Path(path))


def test_bad_files_are_refused(clips: ModuleType, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    refused(empty, "is empty")
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.\n" * 50)
    refused(text, "not a video")
    refused(tmp_path, "folder")
    refused(tmp_path / "missing.mp4", "No such file")
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    refused(fifo, "regular file")
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="stereo")
        for packet in clips._sound(stream, 0.2):
            out.mux(packet)
    refused(sound, "no video")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", frames=1)
    path.chmod(0)
    refused(path, "Permission")


def test_a_video_without_frames_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, width=64, height=48)
        stream.codec_context.open()
        out.start_encoding()
    refused(path, "video|frame")


def test_playlists_and_names_like_addresses_open_nothing_else(
    clips: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips.make_clip(tmp_path / "a.ts", frames=5)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    refused(playlist, "not a video")
    disguised = tmp_path / "list.mp4"
    shutil.copy(playlist, disguised)
    refused(disguised, "not a video")
    concat = tmp_path / "list.ffconcat"
    concat.write_text("ffconcat version 1.0\nfile a.ts\n")
    refused(concat, "not a video")
    monkeypatch.chdir(tmp_path)
    clip = clips.make_clip(tmp_path / "b.mp4", frames=4)
    for name in ("http:x.mp4", "concat:a.ts|b.mp4", "-b.mp4", "pipe:0", "file:b.mp4", "%03d.mp4", "ä ö\n.mp4"):
        shutil.copy(clip, name)
        assert len(read(Path(name))[1]) == 4
    refused("http://127.0.0.1:9/b.mp4", "No such file")
    refused("concat:a.ts|a.ts", "No such file")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.mp4", "front.mp4", "fragments.mp4", "b.mkv", "c.webm", "d.avi"])
def test_files_cut_off_are_refused(clips: ModuleType, tmp_path: Path, name: str, share: float) -> None:
    flags = {"front.mp4": "+faststart", "fragments.mp4": "+frag_keyframe+empty_moov"}.get(name)
    codec = {"c.webm": "libvpx-vp9", "d.avi": "mpeg4"}.get(name, "libx264")
    path = clips.make_clip(
        tmp_path / name, codec=codec, frames=25, muxer_options={"movflags": flags} if flags else {}, options={"g": "5"}
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "cut off|damaged|not a video|no video|no frame")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.45, 0.6, 0.75, 0.9, 0.999])
def test_transport_streams_cut_off_show_no_damaged_picture(clips: ModuleType, tmp_path: Path, share: float) -> None:
    """They announce no length: cut between two frames they are whole, anywhere else they are refused."""
    path = clips.make_clip(tmp_path / "a.ts", frames=25, options={"g": "5"})
    _, times, pictures = read(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    try:
        _, shown, seen = read(path)
    except InputError:
        return
    clean = dict(zip(times, pictures, strict=True))
    assert len(whole[: int(len(whole) * share)]) % 188 == 0
    assert [clean[time] for time in shown] == seen


def test_an_index_that_names_more_than_is_there_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    """The media data shortened and its size corrected, as by a careless repair tool: only the index knows."""
    path = clips.make_clip(tmp_path / "a.mp4", frames=20, muxer_options={"movflags": "+faststart"})
    data = path.read_bytes()
    at = data.index(b"mdat") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    short = size * 2 // 3
    path.write_bytes(data[:at] + short.to_bytes(4, "big") + data[at + 4 : at + short])
    refused(path, "cut off|damaged")


def test_damaged_transport_packets_are_refused_with_the_time(clips: ModuleType, tmp_path: Path) -> None:
    path = clips.make_clip(tmp_path / "a.ts", frames=25, size=(160, 120), options={"crf": "5"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 188
    del data[middle * 188 : (middle + 3) * 188]
    path.write_bytes(data)
    refused(path, r"damaged.* at \d+\.\d+ s")


def test_damaged_pictures_are_refused(clips: ModuleType, tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("b.avi", "mpeg4"), ("c.avi", "msmpeg4")):
        path = clips.make_clip(tmp_path / name, codec=codec, size=(160, 120), frames=20)
        data = bytearray(path.read_bytes())
        start = data.find(b"mdat") if name.endswith("mp4") else len(data) // 4
        found = 0
        for trial in range(6):
            noisy = bytearray(data)
            at = start + 64 + (len(data) - start) * (trial + 1) // 10
            noisy[at : at + 48] = np.random.default_rng(trial).integers(0, 256, 48, np.uint8).tobytes()
            path.write_bytes(noisy)
            try:
                read(path)
            except InputError:
                found += 1
        assert found >= 3, (name, found)  # noise that happens to decode cannot be told from a picture


def test_a_lost_picture_is_noticed(clips: ModuleType, tmp_path: Path) -> None:
    """A packet that decodes to nothing leaves its time unpaid, whatever the decoder says."""
    source = clips.make_clip(tmp_path / "a.mkv", codec="mpeg4", frames=12)
    path = tmp_path / "b.mkv"
    with av.open(str(source)) as read_from, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(read_from.streams.video[0], opaque=True)
        for number, packet in enumerate(read_from.demux(video=0)):
            if packet.dts is None:
                continue
            if number == 6:
                empty = av.Packet(bytes(60))
                empty.pts, empty.dts, empty.time_base = packet.pts, packet.dts, packet.time_base
                packet = empty
            packet.stream = stream
            out.mux(packet)
    for threads in (1, 2, 4):
        with pytest.raises(InputError, match="damaged"):
            list(PyAVSource(path, threads=threads))


def test_a_change_of_size_is_refused(clips: ModuleType, tmp_path: Path) -> None:
    first = clips.make_clip(tmp_path / "a.h264", frames=5)
    second = clips.make_clip(tmp_path / "b.h264", frames=5, size=(64, 64))
    both = tmp_path / "c.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    refused(both, "changes from 96x64")


def test_heif_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200))
    refused(path, "HEIF")
