"""Facts are read from files, environment and libraries, all of them stand-ins."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from trt_anon.gpuhost import facts, inspect_gpu_host, nvenc
from trt_anon.gpuhost.nvdec import _Caps, ask_decoder
from trt_anon.runtime.gpu import Gpu

VERSION = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (host)\nGCC version: 13.2\n"
)


class FakeCuda:
    """libcuda: CUDA 13.1, and a context that has to be given back."""

    def __init__(self, refuses: int = 0) -> None:
        self.refuses = refuses
        self.open: list[str] = []

    def cuInit(self, _flags):  # noqa: N802
        return self.refuses

    def cuDriverGetVersion(self, number):  # noqa: N802
        number._obj.value = 13010
        return 0

    def cuDeviceGet(self, _device, _number):  # noqa: N802
        return 0

    def cuDevicePrimaryCtxRetain(self, _context, _device):  # noqa: N802
        self.open.append("context")
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, _device):  # noqa: N802
        self.open.remove("context")

    def cuCtxPushCurrent_v2(self, _context):  # noqa: N802
        self.open.append("current")
        return 0

    def cuCtxPopCurrent_v2(self, _context):  # noqa: N802
        self.open.remove("current")


class FakeVideo:
    """libnvcuvid of a GPU with 3 engines for H.264 and HEVC, the latter with 10 bits too."""

    def cuvidGetDecoderCaps(self, caps):  # noqa: N802
        caps = caps._obj
        depths = {4: (0,), 8: (0, 2)}.get(caps.codec, ())
        assert caps.chroma == 1
        caps.supported, caps.engines = caps.bit_depth_minus_8 in depths, 3
        caps.max_width, caps.max_height = 8192, 4096
        return 0


def loader(cuda: object, video: object = None):
    found = {"libcuda.so.1": cuda, "libnvcuvid.so.1": video, "libnvidia-encode.so.1": video}

    def load(name):
        if found.get(name) is None:
            raise OSError(f"{name}: cannot open shared object file")
        return found[name]

    return load


@pytest.fixture
def root(tmp_path: Path) -> Path:
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(VERSION)
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    (tmp_path / "sys/bus/pci/devices/0000:02:00.0").mkdir()
    (tmp_path / ".dockerenv").touch()
    return tmp_path


def test_the_layout_of_the_decoders_answer_is_that_of_the_header():
    assert ctypes.sizeof(_Caps) == 88
    offsets = (_Caps.supported.offset, _Caps.max_width.offset, _Caps.min_width.offset, _Caps.reserved3.offset)
    assert offsets == (24, 28, 40, 48)


def test_a_gpu_host(root, monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setattr(facts, "find_gpus", lambda: (Gpu("A GPU", "sm_89", 1 << 34),))
    monkeypatch.setattr(facts, "find_packages", lambda: {"pynvvideocodec": "2.2"})
    monkeypatch.setattr(facts, "ask_encoder", lambda: nvenc.Encoder(("h264",)))
    monkeypatch.setenv("NVIDIA_DRIVER_CAPABILITIES", "compute,video")
    host = inspect_gpu_host(root, loader(cuda, FakeVideo()))
    assert (host.driver, host.driver_major, host.driver_cuda) == ("580.65.06", 580, (13, 1))
    assert host.nvidia_hardware is True
    assert host.container == "docker"
    assert host.capabilities == "compute,video"
    assert host.libraries == {"driver": True, "decoding": True, "encoding": True, "management": False}
    assert host.decoder.engines == 3
    assert host.decoder.codecs == {"h264": "8192x4096", "hevc": "8192x4096", "hevc 10 bit": "8192x4096"}
    assert host.encoder.codecs == ("h264",)
    assert not cuda.open, "the context is given back"
    assert json.loads(json.dumps(host.to_dict()))["gpus"][0]["target"] == "sm_89"


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(facts, "find_gpus", tuple)
    host = inspect_gpu_host(tmp_path, loader(None))
    assert host.driver is host.driver_cuda is host.no_gpu_code is host.nvidia_hardware is host.container is None
    assert host.decoder is host.encoder is None
    assert not any(host.libraries.values())


def test_a_driver_that_refuses(root, monkeypatch):
    monkeypatch.setattr(facts, "find_gpus", tuple)
    assert inspect_gpu_host(root, loader(FakeCuda(803))).no_gpu_code == 803
    assert ask_decoder(loader(FakeCuda(803), FakeVideo())).error == "the driver refuses (error 803)"
    assert "libnvcuvid" in ask_decoder(loader(FakeCuda())).error


def test_packages_are_found_by_normalised_name():
    found = facts.find_packages()
    pytest.importorskip("onnxruntime")
    assert "onnxruntime" in found
    assert "numpy" not in found


ANSWERS = {
    "two codecs": ("return {'num_encoder_engines': 2 if codec != 'av1' else 0}", ("h264", "hevc"), None),
    "no NVENC": ("raise RuntimeError('no NVENC')", (), None),
    "crash": ("import os; os._exit(9)", (), "PyNvVideoCodec ended with 9"),
    "noise": ("print('hello', flush=True); import os; os._exit(0)", (), "PyNvVideoCodec gave no answer"),
}


@pytest.mark.parametrize(("body", "codecs", "error"), ANSWERS.values(), ids=ANSWERS.keys())
def test_the_encoder_is_asked_in_a_process_of_its_own(tmp_path, monkeypatch, body, codecs, error):
    (tmp_path / "PyNvVideoCodec.py").write_text(f"def GetEncoderCaps(gpuid, codec): {body}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert nvenc.ask_encoder() == nvenc.Encoder(codecs, error)


def test_an_encoder_library_that_does_not_load(tmp_path, monkeypatch):
    (tmp_path / "PyNvVideoCodec.py").write_text("raise ImportError('libnvidia-encode.so.1: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert nvenc.ask_encoder().error == "ImportError: libnvidia-encode.so.1: cannot open"


def test_an_encoder_that_does_not_answer(tmp_path, monkeypatch):
    def hangs(*_args, **_options):
        raise subprocess.TimeoutExpired("python", 30)

    monkeypatch.setattr(subprocess, "run", hangs)
    assert nvenc.ask_encoder().error == "no answer within 30 s"


def test_nothing_heavy_is_imported():
    heavy = "{'cupy', 'tensorrt', 'torch', 'PyNvVideoCodec'}"
    code = f"import sys, trt_anon.gpuhost; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
