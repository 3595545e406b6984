"""ONNX Runtime's GPU providers: what is asked of them, and in which order; the CPU's computes in their place."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.errors import DeviceMissing, ModelError
from trt_anon.runtime.runner_memory import HostRunnerMemory

pytest.importorskip("onnxruntime")

import onnxruntime as ort

from trt_anon.runtime.onnxruntime_gpu import OnnxRuntimeGpuRunner


class RecordingMemory(HostRunnerMemory):
    """The host, with streams that have names."""

    device = 1

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.streams = 0

    def new_stream(self) -> Any:
        self.streams += 1
        return f"own{self.streams}"

    def handle(self, stream: Any) -> int:
        return 4096 + int(str(stream).removeprefix("own"))

    def order(self, first: Any, then: Any) -> None:
        self.notes.append((first, "before", then))

    def wait(self, stream: Any) -> None:
        self.notes.append(("wait", stream))


@pytest.fixture
def memory() -> RecordingMemory:
    return RecordingMemory()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch, memory: RecordingMemory) -> list[Any]:
    """What sessions were asked for; they run on the CPU, and say that they do not."""
    asked: list[Any] = []
    real = ort.InferenceSession

    class Session(real):  # type: ignore[misc, valid-type]
        def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
            asked.append(providers)
            self.started = [name for name, _ in providers]
            super().__init__(path, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return self.started

        def run_with_iobinding(self, binding: Any, run_options: Any = None) -> None:
            wait = run_options.get_run_config_entry("disable_synchronize_execution_providers") != "1"
            memory.notes.append("run and wait" if wait else "run")
            super().run_with_iobinding(binding, run_options)

    monkeypatch.setattr(ort, "InferenceSession", Session)
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: everything)
    return asked


@pytest.fixture
def doubling(networks: ModuleType, tmp_path: Path) -> Path:
    path: Path = networks.save(networks.scaled(2.0), tmp_path / "doubling.onnx")
    return path


def test_inferences_are_ordered_by_events_only(doubling: Path, memory: RecordingMemory, sessions: list[Any]) -> None:
    runner = OnnxRuntimeGpuRunner(doubling, memory)
    assert not runner.capturable
    shape = (1, 3, 4, 6)
    assert runner.prepare({"input": shape}) == {"out": shape}
    assert memory.notes[-1] == ("wait", "own1")
    memory.notes.clear()
    out = np.zeros(shape, np.float32)
    runner.enqueue({"input": np.ones(shape, np.float32)}, {"out": out}, stream="callers")
    assert memory.notes == [("callers", "before", "own1"), "run", ("own1", "before", "callers")]
    np.testing.assert_array_equal(out, 2)


def test_the_cuda_provider_gets_its_device_and_stream(
    doubling: Path, memory: RecordingMemory, sessions: list[Any]
) -> None:
    runner = OnnxRuntimeGpuRunner(doubling, memory)
    other = runner.another()
    own = [providers[0][1] for providers in sessions]
    assert [providers[0][0] for providers in sessions] == ["CUDAExecutionProvider"] * 2
    assert [options["user_compute_stream"] for options in own] == ["4097", "4098"]
    assert {options["device_id"] for options in own} == {"1"}
    runner.close()
    other.prepare({"input": (1, 3, 4, 6)})
    with pytest.raises(ModelError, match="was closed"):
        runner.another()


def test_the_tensorrt_provider_keeps_its_engines(
    doubling: Path, memory: RecordingMemory, sessions: list[Any], tmp_path: Path
) -> None:
    OnnxRuntimeGpuRunner(doubling, memory, provider="tensorrt", engines=tmp_path, halves=True)
    OnnxRuntimeGpuRunner(doubling, memory, provider="tensorrt")
    (name, options), (then, _) = sessions[0]
    assert (name, then) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert options["trt_fp16_enable"] == options["trt_int8_enable"] == "1"
    assert not {key for key in sessions[1][0][1] if key.startswith("trt_")}


def test_a_package_without_the_provider(doubling: Path, memory: RecordingMemory) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has the provider")
    with pytest.raises(DeviceMissing, match="has no CUDAExecutionProvider: install onnxruntime-gpu, in the place of"):
        OnnxRuntimeGpuRunner(doubling, memory)


def test_a_provider_that_does_not_start_is_not_replaced_by_the_cpu(
    doubling: Path, memory: RecordingMemory, sessions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(DeviceMissing, match=r"CUDAExecutionProvider does not start on this machine.*\['CPUExecution"):
        OnnxRuntimeGpuRunner(doubling, memory)


def test_a_failure_is_an_error(
    doubling: Path, memory: RecordingMemory, sessions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = OnnxRuntimeGpuRunner(doubling, memory)
    shape = (1, 3, 4, 6)
    runner.prepare({"input": shape})

    def fail(self: Any, binding: Any, run_options: Any = None) -> None:
        raise RuntimeError("CUDA error 700")

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", fail)
    with pytest.raises(ModelError, match=r"doubling\.onnx: ONNX Runtime failed: CUDA error 700"):
        runner.enqueue({"input": np.ones(shape, np.float32)}, {"out": np.ones(shape, np.float32)})
