"""From a network to a loaded engine: which TensorRT, for which GPU, from the store or built."""

from __future__ import annotations

import functools
import hashlib
import logging
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from trt_anon import __version__
from trt_anon._optional import available
from trt_anon.errors import DeviceMissing, ModelError, PackageMissing, UsageError
from trt_anon.files import write_atomically
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.engine_manifest import EngineKey, EngineManifest, EnginePrecision, LayerFacts, TensorFacts
from trt_anon.runtime.engine_store import Built, EngineStore, StoredEngine
from trt_anon.runtime.gpu import Gpu, find_gpus, why_no_gpu
from trt_anon.runtime.kernel_cache import KernelCache
from trt_anon.runtime.trt.building import BuildSettings, Profile, build_engine, check_network
from trt_anon.runtime.trt.executing import Engine
from trt_anon.runtime.trt.library import MODULES, Backend, Library, open_library
from trt_anon.runtime.trt.progress import Progress

_log = logging.getLogger("trt_anon")


@dataclass(frozen=True, slots=True)
class EngineShapes:
    """Which inputs an engine takes: batches from the smallest to the largest, fastest at the usual one, of some sizes.

    batch: (smallest, usual, largest). sizes_hw_px: (height, width) of each size.
    """

    batch: tuple[int, int, int]
    sizes_hw_px: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        low, usual, high = self.batch
        if not 1 <= low <= usual <= high:
            raise UsageError(f"batch {low}:{usual}:{high}: 1 <= smallest <= usual <= largest")
        if not self.sizes_hw_px or any(side < 1 for size in self.sizes_hw_px for side in size):
            raise UsageError(f"sizes {self.sizes_hw_px}: at least one, of at least one pixel")

    def profiles(self, source: TensorSpec, model: str) -> tuple[Profile, ...]:
        """A profile for each size, of a picture input (N, 3, H, W) or (N, H, W, 3). Raises ModelError for another."""
        if len(source.shape) != 4 or 3 not in (source.shape[1], source.shape[3]):
            raise ModelError(f"{model}: its input {source.name!r} {source.shape} is none of batches of pictures")

        def shape(batch: int, height: int, width: int) -> tuple[int, ...]:
            return (batch, height, width, 3) if source.shape[3] == 3 else (batch, 3, height, width)

        low, usual, high = self.batch
        sizes = self.sizes_hw_px
        return tuple({source.name: (shape(low, *s), shape(usual, *s), shape(high, *s))} for s in sizes)


@dataclass(frozen=True, slots=True)
class Place:
    """Which library builds, for which GPUs (as `sm_86`), and the GPU here if kernels are timed on it."""

    library: Library
    targets: tuple[str, ...]
    gpu: str | None


def choose_place(
    backend: Backend | Literal["auto"] = "auto",
    targets: Sequence[str] = (),
    gpus: Sequence[Gpu] | None = None,
    say: Callable[[str], None] | None = None,
) -> Place:
    """Where engines are built and for what. No target means the GPU here.

    `auto` is full TensorRT where it is installed and the GPU here is the target, and else TensorRT-RTX. Raises
    DeviceMissing where it takes a GPU and there is none, PackageMissing where the library is not installed, UsageError
    for targets that it does not build for.
    """
    here = tuple(find_gpus() if gpus is None else gpus)
    gpu = here[0] if here else None
    wanted = tuple(dict.fromkeys(targets)) or ((gpu.target,) if gpu else ())
    is_here = gpu is not None and wanted == (gpu.target,)
    if backend == "auto":
        backend, why = _best_backend(is_here)
        if why:
            (say or _log.info)(why)
    if backend == "tensorrt":
        library = open_library(backend)
        if gpu is None:
            raise DeviceMissing(f"{library.title} builds on the GPU that an engine is for, and {why_no_gpu()}")
        if not is_here:
            raise UsageError(
                f"{library.title} builds for the GPU here, {gpu.name} ({gpu.target}), not for {', '.join(wanted)}; "
                f"build there, or with --backend tensorrt-rtx"
            )
        return Place(library, wanted, gpu.name)
    library = open_library(backend)
    if not wanted:
        raise UsageError(f"{why_no_gpu()}: name the GPU to build for, one of {', '.join(library.targets)}, by --target")
    unknown = [target for target in wanted if target not in library.targets]
    if unknown:
        raise UsageError(
            f"{library.title} does not build for {', '.join(unknown)}, only for {', '.join(library.targets)}; full "
            f"TensorRT does, on such a GPU"
        )
    return Place(library, wanted, None)


def make_key(
    place: Place,
    network: bytes,
    profiles: Sequence[Profile],
    *,
    model: str,
    precision: EnginePrecision,
    source_sha256: str | None = None,
    calibration_sha256: str | None = None,
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
) -> EngineKey:
    """Everything that shapes the engine of a network."""
    return EngineKey(
        model=model,
        source_sha256=source_sha256,
        onnx_sha256=hashlib.sha256(network).hexdigest(),
        calibration_sha256=calibration_sha256,
        precision=precision,
        backend=place.library.backend,
        library_version=place.library.version,
        targets=place.targets,
        gpu=place.gpu,
        profiles=tuple(dict(profile) for profile in profiles),
        workspace_bytes=workspace_bytes,
        optimization_level=optimization_level,
    )


def find_or_build(
    place: Place,
    network: bytes,
    key: EngineKey,
    store: EngineStore,
    *,
    operators: Mapping[str, str] | None = None,
    keep_timings: bool = True,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> StoredEngine:
    """The engine of a network, from the store or built into it.

    operators: of the network's nodes, by name, for what an error says. keep_timings: use what earlier builds on this
    GPU measured, and keep what this one measures. Raises EngineError where it cannot be built.
    """

    def build() -> Built:
        cache = (
            store.folder / f"timings-{hashlib.sha256(repr((place.library.title, place.gpu)).encode()).hexdigest()[:16]}"
        )
        known = cache.read_bytes() if keep_timings and place.gpu and cache.exists() else None
        settings = BuildSettings(
            profiles=key.profiles,
            targets=key.targets if place.library.targets else (),
            workspace_bytes=key.workspace_bytes,
            optimization_level=key.optimization_level,
            exact_float32=key.precision == "fp32",
            timing_cache=known,
        )
        built = build_engine(place.library, network, settings, model=key.model, operators=operators, progress=progress)
        if keep_timings and place.gpu and built.timing_cache:
            write_atomically(cache, built.timing_cache)
        return built.data, EngineManifest(
            key=key,
            engine_sha256=hashlib.sha256(built.data).hexdigest(),
            engine_bytes=len(built.data),
            inputs=tuple(_facts(spec) for spec in built.inputs),
            outputs=tuple(_facts(spec) for spec in built.outputs),
            layers=built.layers and tuple(LayerFacts(**layer._asdict()) for layer in built.layers),
            build_seconds=round(built.seconds, 3),
            build_peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            scratch_bytes=built.scratch_bytes,
            weights_bytes=built.weights_bytes,
            built_by=f"trt-anon {__version__}",
        )

    return store.get_or_build(key, build, say)


def load_engine(stored: StoredEngine, library: Library | None = None) -> Engine:
    """A stored engine on the GPU, its hash checked. Raises HashMismatch, and EngineError where it does not load."""
    key = stored.manifest.key
    return Engine(library or open_library(key.backend), stored.read(), key.model, KernelCache(stored))


class BuiltOnDemand:
    """The engines of one network: for shapes that come up, one from the store, or built for exactly these.

    Thread safe. network: an ONNX file's bytes, of free or fixed shapes, whose types say what precision each layer has.
    Raises EngineError where the library cannot take the network.
    """

    def __init__(
        self,
        place: Place,
        network: bytes,
        *,
        model: str,
        precision: EnginePrecision,
        store: EngineStore | None = None,
        source_sha256: str | None = None,
        calibration_sha256: str | None = None,
        workspace_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.model = model
        self._place, self._network, self._store = place, network, store or EngineStore()
        self._key = functools.partial(
            make_key,
            place,
            network,
            model=model,
            precision=precision,
            source_sha256=source_sha256,
            calibration_sha256=calibration_sha256,
            workspace_bytes=workspace_bytes,
        )
        self._progress = progress
        self._loaded: list[Engine] = []
        self._lock = threading.Lock()
        self.inputs, self.outputs = check_network(place.library, network, model)

    def engine_for(self, shapes: Mapping[str, tuple[int, ...]]) -> Engine:
        """An engine that takes inputs of these shapes; loading it takes a moment, building it up to minutes."""
        with self._lock:
            for engine in self._loaded:
                if engine.takes(shapes):
                    return engine
            key = self._key([{name: (shape, shape, shape) for name, shape in shapes.items()}])
            stored = find_or_build(self._place, self._network, key, self._store, progress=self._progress)
            self._loaded.append(load_engine(stored, self._place.library))
            return self._loaded[-1]


def _best_backend(is_here: bool) -> tuple[Backend, str]:
    """The backend for `auto`, and why it is not full TensorRT."""
    if available(MODULES["tensorrt"]):
        if is_here:
            return "tensorrt", ""
        if available(MODULES["tensorrt-rtx"]):
            return "tensorrt-rtx", "building with TensorRT-RTX: full TensorRT builds for the GPU at hand only"
        return "tensorrt", ""
    if available(MODULES["tensorrt-rtx"]):
        return "tensorrt-rtx", "building with TensorRT-RTX: full TensorRT is not installed"
    raise PackageMissing(
        "an engine needs TensorRT or TensorRT-RTX, and neither is installed: pip install 'trt-anon[tensorrt]' or "
        "'trt-anon[tensorrt-rtx]'"
    )


def _facts(spec: TensorSpec) -> TensorFacts:
    return TensorFacts(name=spec.name, dtype=spec.dtype.name, shape=spec.shape)
