"""From an ONNX network to a serialized engine."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trt_anon.errors import EngineError, UsageError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.trt.failures import build_error, parser_error
from trt_anon.runtime.trt.layers import Layer, from_inspector, from_log
from trt_anon.runtime.trt.library import Library
from trt_anon.runtime.trt.progress import PhaseTree, Progress

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]
Profile = Mapping[str, tuple[Shape, Shape, Shape]]
"""Of each input the smallest, the usual and the largest shape."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What shapes an engine besides its network.

    profiles: ranges of input shapes, one kernel choice each. targets: GPU architectures as `sm_86`, none for the GPU at
    hand. workspace_bytes: scratch memory that layers may take while running, None is all there is. exact_float32:
    whether float32 layers may not be computed with 10 bits (TF32). timing_cache: what an earlier build measured.
    """

    profiles: tuple[Profile, ...]
    targets: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    exact_float32: bool = False
    timing_cache: bytes | None = None


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine, and what is known of it.

    scratch_bytes, weights_bytes: device memory that it takes, None where the builder did not say. layers: None where
    nobody could say. timing_cache: to be given to the next build, None where nothing was measured.
    """

    data: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: tuple[Layer, ...] | None
    scratch_bytes: int | None
    weights_bytes: int | None
    seconds: float
    timing_cache: bytes | None


def check_network(library: Library, onnx_bytes: bytes, model: str) -> tuple[tuple[TensorSpec, ...], ...]:
    """The inputs and the outputs of a network, as the library reads it. Raises EngineError where it cannot."""
    with library.listening():
        network, _parser = _parsed(library, onnx_bytes, model)
        return _specs(library, network)


def build_engine(
    library: Library,
    onnx_bytes: bytes,
    settings: BuildSettings,
    *,
    model: str,
    operators: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> BuiltEngine:
    """Build a network, which takes a second to minutes.

    model, operators (of the network's nodes, by name): for what an error says. Raises EngineError where the library
    cannot, UsageError for targets that it does not know, and what `progress` raises.
    """
    module = library.trt
    started = time.perf_counter()
    with library.listening() as heard:
        builder: trt.Builder = module.Builder(library.logger)
        network, parser = _parsed(library, onnx_bytes, model, builder)
        inputs, outputs = _specs(library, network)
        config: trt.IBuilderConfig = builder.create_builder_config()
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED  # names layers and types, changes no kernel
        if settings.exact_float32:
            config.clear_flag(module.BuilderFlag.TF32)
        if settings.workspace_bytes is not None:
            config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
        if settings.optimization_level is not None:
            config.builder_optimization_level = settings.optimization_level
        _set_targets(library, config, settings.targets)
        _set_profiles(builder, config, settings.profiles, inputs, model)
        if library.backend == "tensorrt":
            cache: trt.ITimingCache = config.create_timing_cache(settings.timing_cache or b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        monitor = _monitor(library, progress) if progress else None
        config.progress_monitor = monitor
        memory: trt.IHostMemory = builder.build_serialized_network(network, config)
        if monitor is not None and monitor.raised is not None:
            raise monitor.raised
        if memory is None:
            raise build_error(heard, library.title, model, operators or {})
        data = bytes(memory)
        timing = _timings(config) if library.backend == "tensorrt" else None
        messages = [text for _, text in heard]
        del parser  # holds the weights: it must live until the network is built
    layers = from_log(messages)
    if layers is None and library.backend == "tensorrt":
        layers = _inspected(library, data)
    return BuiltEngine(
        data=data,
        inputs=inputs,
        outputs=outputs,
        layers=layers,
        scratch_bytes=_said(messages, r"Total Activation Memory: (\d+) bytes"),
        weights_bytes=_said(messages, r"Total Weights Memory: (\d+) bytes"),
        seconds=time.perf_counter() - started,
        timing_cache=timing,
    )


def _parsed(
    library: Library, onnx_bytes: bytes, model: str, builder: trt.Builder | None = None
) -> tuple[trt.INetworkDefinition, trt.OnnxParser]:
    module = library.trt
    maker: trt.Builder = builder if builder is not None else module.Builder(library.logger)
    flags = 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = maker.create_network(flags)
    parser: trt.OnnxParser = module.OnnxParser(network, library.logger)
    if not parser.parse(onnx_bytes):
        raise parser_error(parser, library.title, model)
    if not network.num_outputs:  # what it says about bytes that are no network at all
        raise EngineError(f"{model}: {library.title} finds no network in the file")
    return network, parser


def _specs(library: Library, network: trt.INetworkDefinition) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = tuple(_spec(library, network.get_input(i)) for i in range(network.num_inputs))
    outputs = tuple(_spec(library, network.get_output(i)) for i in range(network.num_outputs))
    return inputs, outputs


def _spec(library: Library, tensor: trt.ITensor) -> TensorSpec:
    shape = tuple(None if side < 0 else int(side) for side in tensor.shape)
    return TensorSpec(str(tensor.name), library.dtype(tensor.dtype), shape)


def _set_targets(library: Library, config: trt.IBuilderConfig, targets: tuple[str, ...]) -> None:
    if not targets:
        return
    unknown = [target for target in targets if target not in library.targets]
    if unknown:
        known = ", ".join(library.targets) or "only the GPU at hand, without a target"
        raise UsageError(f"{library.title} does not build for {', '.join(unknown)}; it builds for {known}")
    capability = library.trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(capability[target.replace("sm_", "SM")], index)


def _set_profiles(
    builder: trt.Builder,
    config: trt.IBuilderConfig,
    profiles: tuple[Profile, ...],
    inputs: tuple[TensorSpec, ...],
    model: str,
) -> None:
    for wanted in profiles:
        profile: trt.IOptimizationProfile = builder.create_optimization_profile()
        for spec in inputs:
            shapes = wanted.get(spec.name)
            if shapes is None:
                raise EngineError(f"{model}: the profile says nothing about its input {spec.name!r}")
            for shape in shapes:
                fits = len(shape) == len(spec.shape) and all(
                    side > 0 and free in (None, side) for side, free in zip(shape, spec.shape, strict=True)
                )
                if not fits:
                    takes = ", ".join("any" if d is None else str(d) for d in spec.shape)
                    raise EngineError(f"{model}: its input {spec.name!r} takes ({takes}), the profile wants {shape}")
            profile.set_shape(spec.name, *shapes)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{model}: smallest, usual and largest shape of a profile are out of order: {wanted}")


def _monitor(library: Library, progress: Progress) -> Any:
    tree = PhaseTree()
    module = library.trt

    class Monitor(module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.raised: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(tree.start(phase_name, parent_phase, num_steps), phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(tree.step(phase_name, step), phase_name)
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(tree.finish(phase_name), phase_name)

        def _tell(self, share: float, phase: str) -> None:
            try:
                if self.raised is None:
                    progress(share, phase)
            except BaseException as error:  # noqa: BLE001 - the builder cannot carry it: stopped, and raised afterwards
                self.raised = error

    return Monitor()


def _timings(config: trt.IBuilderConfig) -> bytes | None:
    measured: trt.ITimingCache = config.get_timing_cache()
    return None if measured is None else bytes(measured.serialize())


def _inspected(library: Library, data: bytes) -> tuple[Layer, ...] | None:
    """The layers as the engine tells them, which takes the GPU that it was built on."""
    module = library.trt
    with library.listening():
        runtime: trt.Runtime = module.Runtime(library.logger)
        engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            return None
        inspector: trt.EngineInspector = engine.create_engine_inspector()
        return from_inspector(inspector.get_engine_information(module.LayerInformationFormat.JSON))


def _said(messages: list[str], pattern: str) -> int | None:
    found = [int(match[1]) for text in messages if (match := re.search(pattern, text))]
    return found[-1] if found else None
