"""DALI as a source: on a CPU, of VP9 and MJPEG; its frames, times and refusals against those of FFmpeg."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import DeviceMissing, InputError
from trt_anon.source.device import arrange
from trt_anon.source.pyav import PyAVSource

pytest.importorskip("nvidia.dali")

from trt_anon.source.dali import DaliSource, times_and_durations

TIMES = [0, 40, 90, 120, 160, 230, 240, 280, 330, 360, 400, 480, 490]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libvpx-vp9", {}),
        ("libvpx-vp9", {"color": (1, 1, 1, 1)}),
        ("mjpeg", {"pix_fmt": "yuvj420p"}),
    ],
)
def test_frames_are_those_of_ffmpeg(clips, faces, tmp_path, codec, options):
    path = faces.face_clip(  # colours of a picture: what RGB cannot show would be cut off
        clips, tmp_path / "clip.mkv", codec=codec, frames=13, times=TIMES, time_base=Fraction(1, 1000), **options
    )
    memory = HostMemory()
    source = DaliSource(path, memory)
    info = source.info
    layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
    batch = BatchBuffer(layout, 5, memory, memory.group(), twin=source.needs_twin)
    plain = PyAVSource(path)
    frames = iter(plain)
    seen = 0
    while source.fill(batch):
        for frame in batch.frames:
            wanted = next(frames)
            facts = "index", "pts", "time_base", "color", "orientation", "pixel_aspect"
            assert [getattr(frame, name) for name in facts] == [getattr(wanted, name) for name in facts]
            assert frame.duration == wanted.native.duration
            planes = layout.planes(np.zeros(layout.size_bytes, np.uint8))
            arrange(wanted, planes, layout)
            for plane, expected in zip(frame.planes, planes, strict=True):
                assert np.abs(plane.astype(int) - expected).mean() < 2.5  # by way of RGB, and chroma scaled twice
            seen += 1
    assert seen == 13
    source.close()
    plain.close()


def test_times_without_decoding(clips, tmp_path):
    path = clips.make_clip(tmp_path / "clip.mp4", times=list(range(-3, 9)), options={"bf": "2", "g": "4"})
    plain = PyAVSource(path)
    assert [pts for pts, _ in times_and_durations(path, plain.info)] == [frame.pts for frame in plain]
    plain.close()


def test_what_dali_does_not_decode(clips, tmp_path):
    for reason, options in (
        ("not h264", {"codec": "libx264"}),
        ("8 bits", {"codec": "libvpx-vp9", "pix_fmt": "yuv444p"}),
        ("odd size", {"codec": "libvpx-vp9", "size": (97, 65)}),
    ):
        path = clips.make_clip(tmp_path / "clip.mkv", **options)
        with pytest.raises(DeviceMissing, match=reason):
            DaliSource(path, HostMemory())
    with pytest.raises(InputError):
        DaliSource(Path(tmp_path / "missing.webm"), HostMemory())
