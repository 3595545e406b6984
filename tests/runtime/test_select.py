from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import pytest

from trt_anon.config import RuntimeConfig
from trt_anon.errors import DeviceMissing, PackageMissing, UsageError
from trt_anon.runtime import select
from trt_anon.runtime.null import NullRunner
from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
from trt_anon.runtime.openvino import OpenVinoRunner
from trt_anon.runtime.select import open_runner


@pytest.fixture
def model(networks: ModuleType, tmp_path: Path) -> Path:
    path: Path = networks.save(networks.scaled(), tmp_path / "m.onnx")
    return path


@pytest.fixture(autouse=True)
def _not_said_yet() -> None:
    select._say_cpu.cache_clear()
    select._say_onnxruntime.cache_clear()


@pytest.mark.parametrize("runtime", ["auto", "openvino", "onnxruntime", "null"])
def test_cuda_is_refused_with_the_reason(model: Path, runtime: str) -> None:
    with pytest.raises(DeviceMissing, match=r"device cuda: .*NVIDIA driver.*; use device cpu or auto"):
        open_runner(model, RuntimeConfig(device="cuda", runtime=runtime))


def test_explicit_choices(model: Path) -> None:
    for runtime, kind in (("openvino", OpenVinoRunner), ("onnxruntime", OnnxRuntimeRunner), ("null", NullRunner)):
        runner = open_runner(model, RuntimeConfig(runtime=runtime, threads=1))
        assert isinstance(runner, kind)
        runner.close()


def test_auto_takes_openvino_and_says_once_that_it_is_the_cpu(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trt_anon"):
        for _ in range(3):
            assert isinstance(open_runner(model), OpenVinoRunner)
    assert [r.getMessage()[:18] for r in caplog.records] == ["running on the CPU"]


def test_cpu_says_nothing(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trt_anon"):
        open_runner(model, RuntimeConfig(device="cpu"))
    assert not caplog.records


def test_auto_falls_back_to_onnxruntime_with_a_warning(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select, "available", lambda name: name == "onnxruntime")
    for _ in range(2):
        assert isinstance(open_runner(model, RuntimeConfig(device="cpu")), OnnxRuntimeRunner)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "OpenVINO is not installed" in caplog.text


def test_no_runtime_at_all(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "available", lambda name: False)
    with pytest.raises(PackageMissing, match=r"trt-anon\[cpu\]"):
        open_runner(model)


@pytest.mark.parametrize(("runtime", "extra"), [("openvino", "cpu"), ("onnxruntime", "onnxruntime")])
def test_an_explicit_runtime_that_is_not_installed(
    model: Path, runtime: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, runtime, None)
    with pytest.raises(PackageMissing, match=rf"{runtime}.*"):
        open_runner(model, RuntimeConfig(runtime=runtime))


def test_bf16_needs_openvino(model: Path) -> None:
    with pytest.raises(UsageError, match="needs the runtime openvino"):
        open_runner(model, RuntimeConfig(runtime="onnxruntime", precision="bf16"))


def test_runtimes_and_precisions_of_a_gpu_are_refused_on_a_cpu(model: Path) -> None:
    for runtime in ("tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt"):
        with pytest.raises(UsageError, match=f"runtime {runtime} runs on a GPU only; on a CPU there are openvino and"):
            open_runner(model, RuntimeConfig(device="cpu", runtime=runtime))
    for precision in ("fp16", "int8", "fp8"):
        with pytest.raises(UsageError, match=f"precision {precision} is for a GPU; on a CPU there are f32 and bf16"):
            open_runner(model, RuntimeConfig(device="cpu", precision=precision))
