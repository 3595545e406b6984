"""Sources on a device give the frames, times and errors of the source on the CPU."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import DeviceFailed, DeviceMissing, InputError, PackageMissing
from trt_anon.source.device import NVDEC_SURFACES, UploadSource, arrange
from trt_anon.source.nvcodec import NvcodecSource, open_codec
from trt_anon.source.pyav import PyAVSource
from trt_anon.source.span import Span, SpanSource
from trt_anon.types import PIXEL_FORMATS, Frame

pytest.importorskip("av")


def fake(**options: Any) -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_nvcodec", Path(__file__).with_name("fake_nvcodec.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.module(**options)


@pytest.fixture
def nvdec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake())


def collected(source: Any, memory: HostMemory, capacity: int = 5) -> list[tuple[Frame, list[np.ndarray]]]:
    info = source.info
    layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
    batch = BatchBuffer(layout, capacity, memory, memory.group(), twin=source.needs_twin)
    found = []
    while source.fill(batch):
        found += [(frame, [plane.copy() for plane in frame.planes]) for frame in batch.frames]
    source.close()
    return found


def arranged(frame: Frame, layout: FrameLayout) -> list[np.ndarray]:
    planes = layout.planes(np.zeros(layout.size_bytes, np.uint8))
    arrange(frame, planes, layout)
    return list(planes)


def assert_as_on_a_cpu(found: list[tuple[Frame, list[np.ndarray]]], path: Path) -> None:
    plain = PyAVSource(path)
    frames = list(plain)
    assert len(found) == len(frames) > 5
    for (frame, planes), wanted in zip(found, frames, strict=True):
        facts = "index", "pts", "time_base", "color", "orientation", "pixel_aspect", "width_px", "height_px"
        assert [getattr(frame, name) for name in facts] == [getattr(wanted, name) for name in facts]
        assert frame.duration == wanted.native.duration
        layout = FrameLayout.of(frame.pixel_format, frame.width_px, frame.height_px)
        for plane, expected in zip(planes, arranged(wanted, layout), strict=True):
            np.testing.assert_array_equal(plane, expected)
    plain.close()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuv444p"])
@pytest.mark.parametrize("surface", ["native", "nvdec"])
def test_uploaded_frames(clips, tmp_path, pix_fmt, surface):
    path = clips.make_clip(tmp_path / "clip.mkv", pix_fmt=pix_fmt, size=(98, 66), codec="libx264", frames=12)
    memory = HostMemory()
    source = UploadSource(PyAVSource(path), memory, surface=surface)
    name = NVDEC_SURFACES.get(pix_fmt, pix_fmt) if surface == "nvdec" else pix_fmt
    assert source.info.pixel_format.name == name
    assert_as_on_a_cpu(collected(source, memory), path)
    totals = memory.traffic.totals
    layout = FrameLayout.of(source.info.pixel_format, 98, 66)
    assert totals.to_device == {"decoded frames": 12 * layout.size_bytes}
    assert not totals.to_host


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"pix_fmt": "yuv420p", "options": {"bf": "3", "g": "8"}}),
        ("libx264", {"pix_fmt": "yuv420p10le"}),
        ("libx265", {"options": {"x265-params": "log-level=none"}}),
        ("libvpx-vp9", {}),
    ],
)
def test_nvdec_frames(nvdec, clips, tmp_path, codec, options):
    times = [0, 40, 90, 120, 160, 230, 240, 280, 330, 360]
    path = clips.make_clip(
        tmp_path / ("clip.webm" if "vp" in codec else "clip.mp4"),
        codec=codec,
        frames=10,
        times=times,
        time_base=Fraction(1, 1000),
        **options,
    )
    memory = HostMemory()
    source = NvcodecSource(path, memory)
    assert source.info.pixel_format.name in ("nv12", "p010le")
    assert_as_on_a_cpu(collected(source, memory, 4), path)
    totals = memory.traffic.totals
    assert not totals.to_device
    assert not totals.to_host
    assert totals.within


def test_a_decoder_with_a_stream_of_its_own(monkeypatch, clips, tmp_path):
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake(own_stream=True))
    path, memory = clips.make_clip(tmp_path / "clip.mp4", frames=12), HostMemory()
    source = NvcodecSource(path, memory)
    decoder = source._decoder
    assert_as_on_a_cpu(collected(source, memory), path)
    assert 0 < decoder.waited == memory.traffic.totals.waits["decoded frames"] <= 13


def test_pictures_that_an_edit_list_hides(nvdec, clips, tmp_path):
    path = clips.make_clip(tmp_path / "cut.mp4", times=list(range(-4, 8)), options={"g": "4", "bf": "2"})
    memory = HostMemory()
    found = collected(NvcodecSource(path, memory), memory)
    assert len(found) == 8
    assert_as_on_a_cpu(found, path)


def test_what_nvdec_does_not_decode(monkeypatch, clips, tmp_path):
    memory = HostMemory()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake())
    for reason, options in (
        ("not yuv444p", {"pix_fmt": "yuv444p"}),
        ("odd size", {"size": (97, 65), "codec": "libvpx-vp9"}),
        ("mpeg4 video", {"codec": "mpeg4"}),
    ):
        path = clips.make_clip(tmp_path / "clip.mkv", **options)
        with pytest.raises(DeviceMissing, match=reason):
            NvcodecSource(path, memory)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake(engines=0))
    path = clips.make_clip(tmp_path / "plain.mp4")
    with pytest.raises(DeviceMissing, match="no NVDEC for h264"):
        NvcodecSource(path, memory)


def test_failures(monkeypatch, clips, tmp_path):
    path = clips.make_clip(tmp_path / "clip.mp4", frames=12)
    memory = HostMemory()
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake(fail_at=7))
    with pytest.raises(DeviceFailed, match="NVDEC failed"):
        collected(NvcodecSource(path, memory), memory)
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", fake())
    short = tmp_path / "short.ts"
    clips.make_clip(tmp_path / "whole.ts", frames=30, muxer="mpegts")
    data = (tmp_path / "whole.ts").read_bytes()
    short.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        collected(NvcodecSource(short, memory), memory)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    with pytest.raises(PackageMissing, match="PyNvVideoCodec"):
        open_codec()


def test_a_frame_of_another_size_is_refused():
    layout = FrameLayout.of(PIXEL_FORMATS["gray"], 4, 4)
    frame = Frame((np.zeros((2, 4), np.uint8),), PIXEL_FORMATS["gray"], 4, 2)
    with pytest.raises(ValueError, match="size"):
        arrange(frame, layout.planes(np.zeros(layout.size_bytes, np.uint8)), layout)


def test_spans(nvdec, clips, tmp_path):
    path = clips.make_clip(tmp_path / "clip.mp4", frames=24, options={"g": "6", "bf": "2", "sc_threshold": "0"})
    for span in (Span(None, None), Span(None, 7 * 512), Span(6 * 512, 13 * 512, 6), Span(12 * 512, None, 12)):
        plain = SpanSource(path, span)
        wanted = [(frame.index, frame.pts, frame.planes[0].copy()) for frame in plain]
        plain.close()
        assert wanted
        for source in (
            NvcodecSource(path, HostMemory(), span),
            UploadSource(SpanSource(path, span), HostMemory(), surface="nvdec"),
        ):
            found = collected(source, HostMemory())
            assert [(frame.index, frame.pts) for frame, _ in found] == [item[:2] for item in wanted]
            for (_, planes), (_, _, luma) in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(planes[0], luma)
