"""What decodes a video for a device."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import InputError, PackageMissing, UsageError
from trt_anon.source import device_choice
from trt_anon.source.device import UploadSource
from trt_anon.source.device_choice import open_device_source
from trt_anon.source.span import Span

pytest.importorskip("av")


class Gpu(HostMemory):
    """Says that it is a GPU's memory."""

    side: Any = "cupy"


def test_auto_says_once_why_a_cpu_decodes(clips, tmp_path, monkeypatch, caplog):
    path = clips.make_clip(tmp_path / "clip.mp4")
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    monkeypatch.setattr(device_choice, "_said", set())
    with caplog.at_level("INFO", logger="trt_anon"):
        for _ in range(2):
            source = open_device_source(path, Gpu())
            assert isinstance(source, UploadSource)
            source.close()
    assert caplog.text.count("decoding on the CPU") == 1
    with pytest.raises(PackageMissing, match=r"PyNvVideoCodec.*trt-anon\[gpu\]"):
        open_device_source(path, Gpu(), "nvcodec")
    with pytest.raises(UsageError, match="redact-frame"):
        open_device_source(path, Gpu(), "nvcodec", conceal_damage=True)


def test_dali_is_taken_where_it_is_named(clips, tmp_path, monkeypatch):
    path = clips.make_clip(tmp_path / "clip.webm", codec="libvpx-vp9")
    with pytest.raises(UsageError, match="redact-frame"):
        open_device_source(path, HostMemory(), "dali", conceal_damage=True)
    with pytest.raises(UsageError, match="beginning"):
        open_device_source(path, HostMemory(), "dali", span=Span(None, 10))
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(PackageMissing, match="DALI needs the package"):
        open_device_source(path, HostMemory(), "dali")


def test_an_unreadable_file_is_one_for_every_decoder(tmp_path):
    with pytest.raises(InputError):
        open_device_source(tmp_path / "missing.mp4", HostMemory())
