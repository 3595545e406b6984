"""Detection for a job: on a CPU, or on GPUs for videos; images, and arrays in host memory, are a CPU's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from trt_anon._optional import available
from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.cuda_memory import CudaMemory
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import DeviceMissing, MissingError, PackageMissing, UsageError
from trt_anon.job.device_workers import DeviceWorkers
from trt_anon.media import MediaInfo
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, PendingDetections
from trt_anon.pipeline.device_engine import DeviceEngine
from trt_anon.runtime.gpu import find_gpus, why_no_gpu
from trt_anon.types import Frame

_log = logging.getLogger("trt_anon")

_ON_A_CPU = {"auto", "openvino", "onnxruntime", "null"}
_PRECISE_ON_A_CPU = {"auto", "f32", "bf16"}


class DeviceDetection(FrameDetector):
    """Engines on GPUs for videos, and beside them a detector on the CPU, loaded when something asks for it."""

    def __init__(
        self,
        engines: Sequence[DeviceEngine],
        load_on_cpu: Callable[[], FrameDetector],
        *,
        videos_at_once: int | None = None,
    ) -> None:
        super().__init__((), engines[0].class_names, 0.5)
        self.engines = tuple(engines)
        self.workers = DeviceWorkers(engines, videos_at_once)
        self._load, self._lock = load_on_cpu, threading.Lock()
        self._loaded: FrameDetector | None = None

    def for_source(self, source: Path) -> FrameDetector:
        """The detector on the CPU: what asks here has frames in host memory."""
        return self.on_cpu

    def prepare(self, info: MediaInfo) -> None:
        """See `FrameDetector.prepare`."""
        self.on_cpu.prepare(info)

    def submit(self, frame: Frame) -> PendingDetections:
        """See `FrameDetector.submit`."""
        return self.on_cpu.submit(frame)

    @property
    def on_cpu(self) -> FrameDetector:
        """The detector on the CPU."""
        with self._lock:
            if self._loaded is None:
                _log.info("pictures, and frames in host memory, are detected in on the CPU")
                self._loaded = self._load()
            return self._loaded

    def close(self) -> None:
        """Free all models."""
        for engine in self.engines:
            engine.close()
        with self._lock:
            if self._loaded is not None:
                self._loaded.close()


def load_detection(config: AnonymizeConfig, registry: Registry, recipes: Sequence[Recipe]) -> FrameDetector:
    """The recipes' detectors where the configuration wants them: on a CPU, or on GPUs for videos.

    The device `auto` is the GPUs where they can be used, and says once why not. Raises what `FrameDetector.load` and
    `DeviceEngine` do.
    """
    runtime = config.runtime
    gpu_only = runtime.runtime not in _ON_A_CPU or runtime.precision not in _PRECISE_ON_A_CPU
    if runtime.device == "cpu" or (runtime.device == "auto" and not find_gpus()):
        return FrameDetector.load(config, registry, recipes)
    if runtime.device == "auto" and (runtime.runtime in ("openvino", "null") or runtime.precision == "bf16"):
        return FrameDetector.load(config, registry, recipes)
    if config.track.track == "on" and (config.track.two_pass or config.track.detect_every != 1):
        if runtime.device == "cuda":
            raise UsageError("two_pass and detect_every are for a CPU: a GPU looks at every frame; use --device cpu")
        _log.info("running on the CPU, where two_pass and detect_every are")
        return FrameDetector.load(for_a_cpu(config), registry, recipes)
    on_cpu = for_a_cpu(config)
    engines: list[DeviceEngine] = []
    try:
        for memory in _memories(config):
            engines.append(DeviceEngine(config, recipes, registry, memory))  # noqa: PERF401 - closed on failure
    except MissingError as error:
        for engine in engines:
            engine.close()
        if runtime.device == "cuda" or gpu_only:
            raise
        _log.info("running on the CPU, for the GPU cannot be used: %s", error)
        return FrameDetector.load(on_cpu, registry, recipes)
    except BaseException:
        for engine in engines:
            engine.close()
        raise
    at_once = config.pipeline.videos_at_once
    return DeviceDetection(engines, lambda: FrameDetector.load(on_cpu, registry, recipes), videos_at_once=at_once)


def for_a_cpu(config: AnonymizeConfig) -> AnonymizeConfig:
    """The configuration for the part of the work that a CPU does."""
    runtime = config.runtime
    update = {
        "device": "cpu",
        "runtime": runtime.runtime if runtime.runtime in _ON_A_CPU else "auto",
        "precision": runtime.precision if runtime.precision in _PRECISE_ON_A_CPU else "auto",
    }
    return config.model_copy(update={"runtime": runtime.model_copy(update=update)})


def _memories(config: AnonymizeConfig) -> list[DeviceMemory]:
    """The memory of each GPU that the configuration names; by default the first."""
    if not find_gpus():
        raise DeviceMissing(f"device {config.runtime.device}: {why_no_gpu()}; use device cpu")
    if not available("cupy"):
        raise PackageMissing("a GPU needs the package 'cupy', which is not installed: pip install 'trt-anon[gpu]'")
    limit_mib = config.pipeline.gpu_memory_mib
    limit = None if limit_mib is None else limit_mib << 20
    return [CudaMemory(device, limit_bytes=limit) for device in config.runtime.devices or (0,)]
