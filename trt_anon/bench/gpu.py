"""The subject of a bench on a real GPU: its memory, its detectors, and the decoder that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trt_anon._optional import require
from trt_anon.bench.device import DeviceSetting, DeviceSubject
from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.cuda_memory import CudaMemory
from trt_anon.errors import DeviceMissing, PackageMissing
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.device_detector import load_device_detectors
from trt_anon.runtime.gpu import find_gpus, why_no_gpu
from trt_anon.runtime.runner_memory import CudaRunnerMemory
from trt_anon.source.device import DeviceSource, UploadSource
from trt_anon.source.nvcodec import NvcodecSource
from trt_anon.source.pyav import PyAVSource


def gpu_bus_id(device: int = 0) -> str:
    """The PCI bus id of a GPU. Raises DeviceMissing where there is none, PackageMissing without CuPy."""
    if not find_gpus():
        raise DeviceMissing(f"device cuda: {why_no_gpu()}; use --device cpu")
    runtime = require("cupy", "measuring the GPU pipeline").cuda.runtime
    return str(runtime.deviceGetPCIBusId(device))


def open_on_gpu(
    clip: Path,
    batch: int,
    config: AnonymizeConfig,
    recipes: Sequence[Recipe],
    registry: Registry,
    scratch: Path,
    *,
    stages: bool,
    encode: bool,
) -> DeviceSubject:
    """A subject on the first GPU; frames are decoded by NVDEC, or on the CPU where that cannot be, which is said."""
    memory = CudaMemory()
    missing: dict[str, str] = {}
    setting = DeviceSetting(
        clip=clip,
        batch=batch,
        config=config,
        recipes=recipes,
        detectors=load_device_detectors(recipes, config, registry, CudaRunnerMemory(memory.device)),
        memory=memory,
        open_source=_opener(clip, memory, missing),
        scratch=scratch,
        stages=stages,
        encode=encode,
    )
    return DeviceSubject(setting, missing)


def _opener(clip: Path, memory: CudaMemory, missing: dict[str, str]) -> Callable[[], DeviceSource]:
    try:
        NvcodecSource(clip, memory).close()
    except (DeviceMissing, PackageMissing) as error:
        missing["decoding on the GPU"] = str(error)
        return lambda: UploadSource(PyAVSource(clip), memory, surface="nvdec")
    return lambda: NvcodecSource(clip, memory)
