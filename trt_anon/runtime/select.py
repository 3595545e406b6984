"""Choosing the runtime of a model: an explicit choice raises with the reason, `auto` may fall back and says so once."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trt_anon._optional import available
from trt_anon.config import RuntimeConfig
from trt_anon.errors import DeviceMissing, EngineError, PackageMissing, UsageError
from trt_anon.files import private_folder
from trt_anon.runtime.base import DeviceRunner, Runner
from trt_anon.runtime.engine_manifest import EnginePrecision
from trt_anon.runtime.engine_store import EngineStore
from trt_anon.runtime.engines import BuiltOnDemand, choose_place
from trt_anon.runtime.gpu import find_gpus, why_no_gpu
from trt_anon.runtime.null import NullRunner
from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
from trt_anon.runtime.onnxruntime_device import HostDeviceRunner
from trt_anon.runtime.onnxruntime_gpu import OnnxRuntimeGpuRunner
from trt_anon.runtime.openvino import OpenVinoRunner
from trt_anon.runtime.runner_memory import CudaRunnerMemory, RunnerMemory
from trt_anon.runtime.tensorrt import TensorRtRunner
from trt_anon.runtime.trt.progress import Progress

_log = logging.getLogger("trt_anon")


def open_runner(path: Path, config: RuntimeConfig | None = None) -> Runner:
    """Load an ONNX model in the runtime and on the device that the configuration asks for.

    Raises DeviceMissing for the device `cuda`, PackageMissing where a runtime is not installed, and ModelError where it
    cannot load the model.
    """
    config = config or RuntimeConfig()
    if config.device == "cuda":
        raise DeviceMissing(f"device cuda: {_gpu_state()}; use device cpu or auto")
    if config.device == "auto" and config.runtime != "null":
        _say_cpu()
    runtime = config.runtime
    if runtime in ("tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt"):
        raise UsageError(f"runtime {runtime} runs on a GPU only; on a CPU there are openvino and onnxruntime")
    if runtime == "auto":
        runtime = _best_runtime()
    if runtime == "null":
        return NullRunner.from_onnx(path)
    precision = config.precision
    if precision not in ("auto", "f32", "bf16"):
        own = "; a detector in INT8 for a CPU is made by trt-anon calibrate --onnx" if precision == "int8" else ""
        raise UsageError(f"precision {precision} is for a GPU; on a CPU there are f32 and bf16{own}")
    if runtime == "onnxruntime":
        if precision == "bf16":
            raise UsageError("precision bf16 needs the runtime openvino")
        return OnnxRuntimeRunner(path, threads=config.threads)
    return OpenVinoRunner(path, threads=config.threads, precision=precision)


@dataclass(frozen=True, slots=True)
class DeviceNetwork:
    """A network for a device: an ONNX file whose types say in which precision it is computed, and where that is from.

    name: of the detector. precision: what it was made for. source_sha256: of the original file; calibration_sha256: of
    what its INT8 ranges are from, None without.
    """

    path: Path
    name: str
    precision: EnginePrecision = "fp32"
    source_sha256: str | None = None
    calibration_sha256: str | None = None


def device_precision(config: RuntimeConfig) -> EnginePrecision:
    """The precision that a network for a device is made in: `auto` is fp16 on a GPU, and fp32 on the host.

    Raises UsageError for one that devices do not have.
    """
    if config.precision == "bf16":
        raise UsageError("precision bf16 is for a CPU; on a GPU there are f32, fp16, int8 and fp8")
    if config.precision == "auto":
        return "fp16" if config.device != "cpu" and find_gpus() else "fp32"
    return "fp32" if config.precision == "f32" else config.precision


def open_device_runner(
    network: DeviceNetwork,
    config: RuntimeConfig | None = None,
    *,
    memory: RunnerMemory | None = None,
    store: EngineStore | None = None,
    progress: Progress | None = None,
) -> DeviceRunner:
    """Load a network on the GPU, or with the device `cpu` on NumPy's arrays in its place.

    memory: of the GPU, by default CuPy's current one. store, progress: of engines, which are built when shapes are
    prepared that there is none for. With the runtime `auto` TensorRT comes first, then TensorRT-RTX, then ONNX
    Runtime's CUDA provider; that it is not the first is said once. `onnxruntime-tensorrt`, its TensorRT provider, is
    never taken unasked. Raises DeviceMissing where there is no GPU or the
    runtime does not work on it, PackageMissing where it is not installed, UsageError for what does not go together, and
    EngineError where TensorRT cannot take the network.
    """
    config = config or RuntimeConfig()
    runtime = config.runtime
    if runtime in ("openvino", "null"):
        raise UsageError(
            f"runtime {runtime} does not run on a GPU; there are tensorrt, tensorrt-rtx, onnxruntime and "
            "onnxruntime-tensorrt"
        )
    if config.device == "cpu":
        if runtime not in ("auto", "onnxruntime"):
            raise UsageError(f"runtime {runtime} runs on a GPU only; use device cuda or auto")
        return HostDeviceRunner(network.path, threads=config.threads)
    if not find_gpus():
        raise DeviceMissing(f"device {config.device}: {why_no_gpu()}; use device cpu")

    chosen = memory or CudaRunnerMemory()
    refused: list[str] = []
    for name in ("tensorrt", "tensorrt-rtx", "onnxruntime") if runtime == "auto" else (runtime,):
        try:
            runner = _open_on_gpu(name, network, chosen, store, progress)
        except (DeviceMissing, PackageMissing, UsageError, EngineError) as error:
            if runtime != "auto":
                raise
            refused.append(f"{name}: {error}")
        else:
            if refused:
                _say_fallback(name, tuple(refused))
            return runner
    raise DeviceMissing("no runtime works on this GPU: " + "; ".join(refused))


def _open_on_gpu(
    name: str, network: DeviceNetwork, memory: RunnerMemory, store: EngineStore | None, progress: Progress | None
) -> DeviceRunner:
    if name == "onnxruntime":
        return OnnxRuntimeGpuRunner(network.path, memory)
    if name == "onnxruntime-tensorrt":
        folder = (store or EngineStore()).folder / "onnxruntime"
        return OnnxRuntimeGpuRunner(
            network.path,
            memory,
            provider="tensorrt",
            engines=private_folder(folder, "set TRT_ANON_CACHE to a folder of your own"),
            halves=network.precision != "fp32",
        )
    source = BuiltOnDemand(
        choose_place("tensorrt" if name == "tensorrt" else "tensorrt-rtx", gpus=find_gpus()[memory.device :]),
        network.path.read_bytes(),
        model=network.name,
        precision=network.precision,
        store=store,
        source_sha256=network.source_sha256,
        calibration_sha256=network.calibration_sha256,
        progress=progress,
    )
    return TensorRtRunner(source, memory)


def _best_runtime() -> Literal["openvino", "onnxruntime"]:
    if available("openvino"):
        return "openvino"
    if available("onnxruntime"):
        _say_onnxruntime()
        return "onnxruntime"
    raise PackageMissing("running a detector needs OpenVINO, which is not installed: pip install 'trt-anon[cpu]'")


def _gpu_state() -> str:
    return "pictures in host memory are a CPU's work" if find_gpus() else why_no_gpu()


@functools.cache  # says it once per process, however many models are loaded
def _say_cpu() -> None:
    _log.info("running on the CPU: %s", _gpu_state())


@functools.cache
def _say_onnxruntime() -> None:
    _log.warning("OpenVINO is not installed: running with ONNX Runtime, which is slower; pip install 'trt-anon[cpu]'")


@functools.cache
def _say_fallback(name: str, refused: tuple[str, ...]) -> None:
    _log.warning("running with %s, because %s", name, "; ".join(refused))
