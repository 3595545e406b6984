"""The subject of a bench on a real GPU: its memory, its detectors, and the decoder that it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trt_anon._optional import require
from trt_anon.bench.device import DeviceSetting, DeviceSubject
from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.cuda_memory import CudaMemory
from trt_anon.errors import DeviceMissing, MissingError
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.device_detector import load_device_detectors
from trt_anon.runtime.gpu import find_gpus, why_no_gpu
from trt_anon.runtime.runner_memory import CudaRunnerMemory
from trt_anon.source.device import DeviceSource
from trt_anon.source.device_choice import open_device_source


def first_device(config: AnonymizeConfig) -> int:
    """The number of the GPU that is measured: the first that is named."""
    return config.runtime.devices[0] if config.runtime.devices else 0


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
    """A subject on one GPU; frames are decoded by NVDEC, or on the CPU where that cannot be, which is said."""
    memory = CudaMemory(first_device(config))
    missing: dict[str, str] = {}
    setting = DeviceSetting(
        clip=clip,
        batch=batch,
        config=config,
        recipes=recipes,
        detectors=load_device_detectors(recipes, config, registry, CudaRunnerMemory(memory.device)),
        memory=memory,
        open_source=_opener(clip, memory, config, missing),
        scratch=scratch,
        stages=stages,
        encode=encode,
        videos=config.pipeline.videos_at_once or 4,
    )
    return DeviceSubject(setting, missing)


def _opener(
    clip: Path, memory: CudaMemory, config: AnonymizeConfig, missing: dict[str, str]
) -> Callable[[], DeviceSource]:
    decoder = config.pipeline.decoder
    if decoder == "auto":
        try:
            open_device_source(clip, memory, "nvcodec").close()
        except MissingError as error:
            missing["decoding on the GPU"] = str(error).removeprefix(f"{clip}: ")
            decoder = "pyav"
        else:
            decoder = "nvcodec"
    return lambda: open_device_source(clip, memory, decoder, threads=config.runtime.threads)
