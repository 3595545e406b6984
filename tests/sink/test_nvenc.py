"""NVENC as an encoder, on a stand-in: what is written beside the pictures is what the CPU's encoder writes."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from trt_anon.config import SinkConfig
from trt_anon.cuda.frames import FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import DeviceFailed, DeviceMissing
from trt_anon.sink.nvenc import NvencSink, why_not_nvenc
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.device import arrange, surface_info
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import PIXEL_FORMATS


def fake(**options: Any) -> ModuleType:
    path = Path(__file__).parents[1] / "source" / "fake_nvcodec.py"
    spec = importlib.util.spec_from_file_location("fake_nvcodec", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.module(**options)


@pytest.fixture(autouse=True)
def nvenc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake())


def written(path: Path, target: Path, make: Any) -> None:
    source = PyAVSource(path)
    info = surface_info(source.info)
    layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
    sink = make(target, source_path=path, info=info, config=SinkConfig())
    try:
        for frame in source:
            planes = layout.planes(np.zeros(layout.size_bytes, np.uint8))
            arrange(frame, planes, layout)
            shown = int(frame.native.duration)
            form = info.pixel_format
            sink.write(dataclasses.replace(frame, planes=planes, pixel_format=form, native=None, duration=shown))
        sink.finish()
    except BaseException:
        sink.abort()
        raise
    finally:
        source.close()


def by_nvenc(*args: Any, **options: Any) -> NvencSink:
    return NvencSink(*args, memory=HostMemory(), **options)


def facts(path: Path) -> list[Any]:
    """What a file says of itself, but for its bytes."""
    with av.open(str(path)) as container:
        found: list[Any] = [container.format.name]
        for stream in container.streams:
            context = stream.codec_context
            found.append((stream.type, context.name, stream.time_base))
            if stream.type == "video":
                found += [context.width, context.height, context.color_primaries, context.color_trc]
                found += [context.colorspace, context.color_range, stream.sample_aspect_ratio, context.codec_tag]
        video = container.streams.video[0]
        frames = list(container.decode(video))
        found += [(frame.pts, frame.rotation) for frame in frames]  # a track's length is within one of them
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.mp4", {"audio": ["aac"], "color": (1, 1, 1, 1), "options": {"bf": "2"}}),
        ("clip.mov", {"codec": "libx265", "options": {"x265-params": "log-level=none"}, "color": (1, 9, 16, 9)}),
        ("clip.mkv", {"aspect": Fraction(4, 3), "color": (2, 1, 1, 1)}),
        ("clip.mkv", {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
        ("clip.mp4", {"display_matrix": (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)}),
    ],
)
def test_all_but_the_pictures_is_as_from_the_cpu(clips, tmp_path, name, options):
    times = [0, 40, 90, 120, 160, 230, 240, 280, 330, 360]
    path = clips.make_clip(tmp_path / name, times=times, time_base=Fraction(1, 1000), **options)
    written(path, tmp_path / f"cpu-{name}", PyAVSink)
    written(path, tmp_path / f"nvenc-{name}", by_nvenc)
    assert facts(tmp_path / f"nvenc-{name}") == facts(tmp_path / f"cpu-{name}")
    assert clips.stream_packets(tmp_path / f"nvenc-{name}", "audio") == clips.stream_packets(path, "audio")
    with av.open(str(path)) as old, av.open(str(tmp_path / f"nvenc-{name}")) as new:
        for before, after in zip(old.decode(video=0), new.decode(video=0), strict=True):
            assert before.format.name == after.format.name
            difference = np.abs(before.to_ndarray().astype(int) - after.to_ndarray().astype(int))
            assert difference.mean() < (20 if "10" in before.format.name else 5)


def test_what_nvenc_does_not_do(clips, tmp_path, monkeypatch):
    source = PyAVSource(clips.make_clip(tmp_path / "clip.mp4"))
    info = surface_info(source.info)
    source.close()
    deep = dataclasses.replace(info, pixel_format=PIXEL_FORMATS["p010le"])
    module = fake()
    assert why_not_nvenc(info, "h264", module, 0) is None
    for changed, family, reason in (
        (info, "vp9", "not for vp9"),
        (deep, "h264", "not in p010le"),
        (dataclasses.replace(info, pixel_format=PIXEL_FORMATS["yuv420p"]), "h264", "NVDEC's formats"),
        (dataclasses.replace(info, field_order=2), "h264", "interlaced"),
        (dataclasses.replace(info, width_px=8192), "h264", "up to 4096x4096"),
    ):
        assert reason in (why_not_nvenc(changed, family, module, 0) or "")
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake(nvenc=False))
    with pytest.raises(DeviceMissing, match=r"this GPU has no NVENC .*; use --encoder cpu or auto"):
        by_nvenc(tmp_path / "a.mp4", source_path=tmp_path / "clip.mp4", info=info, config=SinkConfig())


def test_a_failure_in_the_middle(clips, tmp_path, monkeypatch):
    path = clips.make_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake(fail_at=5))
    with pytest.raises(DeviceFailed, match="NVENC failed"):
        written(path, tmp_path / "out.mp4", by_nvenc)


def test_without_the_drivers_library(tmp_path, clips, monkeypatch):
    path = clips.make_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    source = PyAVSource(path)
    with pytest.raises(Exception, match="PyNvVideoCodec"):
        by_nvenc(tmp_path / "a.mp4", source_path=path, info=surface_info(source.info), config=SinkConfig())
    source.close()
