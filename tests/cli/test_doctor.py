"""`trt-anon doctor`: what is here, and what to do about what is not."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from trt_anon import machine
from trt_anon.models.registry import Registry

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_json_says_what_is_here(invoke: Invoke) -> None:
    result = invoke("doctor", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["python"] == platform.python_version()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory_gib"] > 0.5
    packages = {p["name"]: p for p in found["packages"]}
    assert packages["av"]["version"].startswith("18.")
    assert packages["opencv-python-headless"]["version"] is not None
    assert found["encoders"] == {"h264": True, "hevc": True, "vp9": True, "av1": True}
    assert set(found["models"]) == set(Registry().names())
    assert found["models"]["yunet"] == "ready"
    for private in (platform.node(), str(Path.home())):
        assert private not in result.stdout


def test_tables_name_the_remedy_of_what_is_missing(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    gone = {"onnxruntime", "cv2", "av"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else real(name, *rest))
    monkeypatch.setenv("TRT_ANON_MODELS", str(tmp_path))
    result = invoke("doctor")
    assert result.exit_code == 0
    rows = {}
    for line in result.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]
        rows[cells[0]] = cells
    assert rows["onnxruntime"][1] == "missing"
    assert rows["onnxruntime"][3] == "pip install 'trt-anon[onnxruntime]'"
    assert rows["opencv-python-headless"][3] == "pip install 'trt-anon[cpu]'"
    assert rows["pillow"][1] != "missing"
    assert rows["pillow"][3] == ""
    assert rows["h264"][1] == "missing", "no encoder without PyAV"
    assert rows["centerface"][1:] == ["not fetched", "trt-anon models fetch centerface"]
    assert rows["yunet"][1:] == ["ready", ""]


def test_a_refused_model_is_told_from_a_missing_one(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRT_ANON_MODELS", str(tmp_path))
    (tmp_path / "centerface.onnx").write_bytes(b"another model")
    assert json.loads(invoke("doctor", "--json").stdout)["models"]["centerface"] == "refused"


def test_what_a_system_does_not_tell_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert machine.inspect_machine().memory_gib == 0
    assert machine._version("json", "no-such-distribution") == "unknown"
    assert machine._version("no_such_module", "x") is None
    assert machine.usable_cores() >= 1


def test_what_does_not_fit_on_a_gpu_host_comes_with_its_remedy(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from trt_anon import gpuhost
    from trt_anon.gpuhost.nvdec import Decoder
    from trt_anon.gpuhost.nvenc import Encoder
    from trt_anon.runtime.gpu import Gpu

    host = gpuhost.GpuHost(
        driver="570.86.10",
        driver_cuda=(12, 8),
        gpus=(Gpu("NVIDIA H100", "sm_90", 80 << 30),),
        libraries={"driver": True, "decoding": True, "encoding": True},
        packages={"cupy-cuda13x": "13.6", "tensorrt-cu13": "11.0", "pynvvideocodec": "2.2"},
        container="docker",
        decoder=Decoder(7, {"h264": "4096x4096"}),
        encoder=Encoder(()),
    )
    monkeypatch.setattr(gpuhost, "inspect_gpu_host", lambda: host)
    shown = invoke("doctor").stdout
    for words in (
        "driver 570.86.10, CUDA up to 12.8; in a container (docker)",
        "NVIDIA H100, sm_90, 80 GiB",
        "decodes on 7 engines: h264 to 4096x4096",
        "encodes nothing",
        "tensorrt-cu13 11.0",
        "driver 580 or later, here is 570.86.10: cupy-cuda13x, tensorrt-cu13 -> update the driver, or install",
        "note: this GPU has no encoder",
    ):
        assert words in shown
    found = json.loads(invoke("doctor", "--json").stdout)
    assert found["gpu_host"]["gpus"][0]["target"] == "sm_90"
    assert found["findings"][0]["level"] == "problem"
