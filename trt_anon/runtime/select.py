"""Choosing the runtime of a model: an explicit choice raises with the reason, `auto` may fall back and says so once."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Literal

from trt_anon._optional import available
from trt_anon.config import RuntimeConfig
from trt_anon.errors import DeviceMissing, PackageMissing, UsageError
from trt_anon.runtime.base import Runner
from trt_anon.runtime.null import NullRunner
from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
from trt_anon.runtime.openvino import OpenVinoRunner

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
    if runtime == "auto":
        runtime = _best_runtime()
    if runtime == "null":
        return NullRunner.from_onnx(path)
    if runtime == "onnxruntime":
        if config.precision == "bf16":
            raise UsageError("precision bf16 needs the runtime openvino")
        return OnnxRuntimeRunner(path, threads=config.threads)
    return OpenVinoRunner(path, threads=config.threads, precision=config.precision)


def _best_runtime() -> Literal["openvino", "onnxruntime"]:
    if available("openvino"):
        return "openvino"
    if available("onnxruntime"):
        _say_onnxruntime()
        return "onnxruntime"
    raise PackageMissing("running a detector needs OpenVINO, which is not installed: pip install 'trt-anon[cpu]'")


def _gpu_state() -> str:
    driver = Path("/proc/driver/nvidia/version").exists()
    found = "an NVIDIA driver is here, but" if driver else "there is no NVIDIA driver on this machine, and"
    return f"{found} this version has no GPU runtime"


@functools.cache  # says it once per process, however many models are loaded
def _say_cpu() -> None:
    driver = Path("/proc/driver/nvidia/version").exists()
    _log.log(logging.WARNING if driver else logging.INFO, "running on the CPU: %s", _gpu_state())


@functools.cache
def _say_onnxruntime() -> None:
    _log.warning("OpenVINO is not installed: running with ONNX Runtime, which is slower; pip install 'trt-anon[cpu]'")
