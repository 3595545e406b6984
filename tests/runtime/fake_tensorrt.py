"""A stand-in for TensorRT: its engines are ONNX networks that run on host memory, and it notes every call.

It has only what the adapter uses; test_trt_contract.py holds names and arguments against the real bindings. Like the
real thing it refuses what is not set up: it then logs an error and returns False or None.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime

__version__ = "11.4.0.106"

calls: list[tuple[str, tuple[Any, ...]]] = []
gpu = "sm_89"
_MAGIC = b"fake-plan\n"


def plan(
    network: bytes, profiles: Sequence[dict[str, Any]], *, target: str = "sm_89", version: str = __version__
) -> bytes:
    """What a builder would have serialized."""
    head = json.dumps({"profiles": list(profiles), "target": target, "version": version}).encode()
    return _MAGIC + len(head).to_bytes(4, "little") + head + network


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, INT64, BF16 = range(8)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(enum.Enum):
    DEVICE, HOST = range(2)


class TensorFormat(enum.Enum):
    LINEAR, CHW2 = range(2)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


class DynamicShapesKernelSpecializationStrategy(enum.Enum):
    LAZY, EAGER, NONE = range(3)


class ComputeCapability(enum.Enum):
    NONE, CURRENT, SM75, SM86, SM89, SM120 = 0, 1, 75, 86, 89, 120


_DTYPES = {"tensor(float)": DataType.FLOAT, "tensor(uint8)": DataType.UINT8, "tensor(float16)": DataType.HALF}
_NUMPY = {DataType.FLOAT: np.float32, DataType.UINT8: np.uint8, DataType.HALF: np.float16}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class ProfilingVerbosity(enum.Enum):
    LAYER_NAMES_ONLY, NONE, DETAILED = range(3)


class BuilderFlag(enum.Enum):
    TF32 = 7


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class LayerInformationFormat(enum.Enum):
    ONELINE, JSON = range(2)


class IProgressMonitor:
    def __init__(self) -> None:
        pass

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class ITensor:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.dtype = _DTYPES[value.type]
        self.shape = tuple(d if isinstance(d, int) else -1 for d in value.shape)


class INetworkDefinition:
    def __init__(self) -> None:
        self._data = b""
        self._inputs: list[ITensor] = []
        self._outputs: list[ITensor] = []

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class ParserError:
    def node_operator(self) -> str:
        return "Magic"

    def node_name(self) -> str:
        return "magic"

    def desc(self) -> str:
        return "false"


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, model: bytes) -> bool:
        if b"no network" in model:
            self.num_errors = 1
            return False
        session = _session(model)
        self._network._data = model
        self._network._inputs = [ITensor(value) for value in session.get_inputs()]
        self._network._outputs = [ITensor(value) for value in session.get_outputs()]
        return True

    def get_error(self, index: int) -> ParserError:
        return ParserError()


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - the library's names
        self._shapes[input] = [min, opt, max]


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class IBuilderConfig:
    def __init__(self) -> None:
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None
        self.profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
        self.builder_optimization_level = 3
        self.progress_monitor: IProgressMonitor | None = None
        self.num_compute_capabilities = 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        calls.append(("clear_flag", (flag,)))

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        calls.append(("set_memory_pool_limit", (pool, pool_size)))

    def set_compute_capability(self, compute_capability: ComputeCapability, index: int) -> bool:
        calls.append(("set_compute_capability", (compute_capability, index)))
        return True

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        calls.append(("set_timing_cache", (cache._data, ignore_mismatch)))
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache and ITimingCache(self._cache._data + b"measured;")


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        profiles = [profile._shapes for profile in config._profiles]
        calls.append(("build_serialized_network", (profiles,)))
        monitor = config.progress_monitor
        if monitor is not None:
            monitor.phase_start("building", None, 2)
            going = monitor.step_complete("building", 0)
            monitor.phase_finish("building")
            if not going:
                return None
        if not profiles:
            self._logger.log(
                Severity.ERROR, "IBuilder::b: Error Code 4: API Usage Error (no profile. In b at /b.cpp:1)"
            )
            return None
        self._logger.log(Severity.INFO, "Total Activation Memory: 1024 bytes")
        return plan(network._data, profiles, target=gpu)


class EngineInspector:
    def get_engine_information(self, format: LayerInformationFormat) -> str:  # noqa: A002 - the library's name
        assert format == LayerInformationFormat.JSON
        entry = {
            "Name": "conv",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Format/Datatype": "Row major linear Half"}],
        }
        return json.dumps({"Layers": [entry]})


def _session(network: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        calls.append(("deserialize_cuda_engine", (len(serialized_engine),)))
        if not serialized_engine.startswith(_MAGIC):
            self._logger.log(
                Severity.ERROR,
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization assertion header.magicTag "
                "== kEXPECTED_MAGIC_TAG failed. In f at /_src/runtime.cpp:48)",
            )
            return None
        start = len(_MAGIC) + 4
        length = int.from_bytes(serialized_engine[len(_MAGIC) : start], "little")
        head = json.loads(serialized_engine[start : start + length])
        if head["target"] != gpu:
            self._logger.log(
                Severity.ERROR,
                "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine cannot run on this GPU, "
                "which has compute capability 8.9 In g at /_src/plan.cpp:1)",
            )
            return None
        return ICudaEngine(head, serialized_engine[start + length :], self._logger)


class ICudaEngine:
    def __init__(self, head: dict[str, Any], network: bytes, logger: ILogger) -> None:
        self._session = _session(network)
        self._values = {v.name: v for v in (*self._session.get_inputs(), *self._session.get_outputs())}
        self._inputs = [v.name for v in self._session.get_inputs()]
        self._profiles = head["profiles"]
        self._logger = logger
        self.num_io_tensors = len(self._values)
        self.num_optimization_profiles = len(self._profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self._values)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat.LINEAR

    def get_tensor_dtype(self, name: str) -> DataType:
        return _DTYPES[self._values[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else -1 for d in self._values[name].shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profiles[profile_index][name]]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()

    def create_runtime_config(self) -> IRuntimeConfig:
        calls.append(("create_runtime_config", ()))
        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        calls.append(("create_execution_context", (strategy,)))
        return IExecutionContext(self, getattr(strategy, "_cache", None))


class IRuntimeConfig:
    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        calls.append(("set_execution_context_allocation_strategy", (strategy,)))

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache | None = None) -> bool:
        self._cache = cache
        return True


class IRuntimeCache:
    """Of the shapes that were run."""

    def __init__(self) -> None:
        self._kernels = b""

    def deserialize(self, blob: bytes) -> bool:
        calls.append(("deserialize", (blob,)))
        if not blob.startswith(gpu.encode()):
            return False
        self._kernels = blob
        return True

    def serialize(self) -> bytes:
        return self._kernels


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, cache: IRuntimeCache | None = None) -> None:
        self._engine = engine
        self._cache = cache
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        calls.append(("set_optimization_profile_async", (profile_index, stream_handle)))
        self._profile = profile_index
        return 0 <= profile_index < self._engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Any) -> bool:
        calls.append(("set_input_shape", (name, tuple(shape))))
        if self._profile is None:
            return self._fail("no profile was chosen")
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return self._fail(f"{tuple(shape)} is not in the profile")
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine._inputs if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        # A dimension that depends on values is not known before.
        found = [self._run(seed)[name].shape for seed in (0, 1)]
        return tuple(a if a == b else -1 for a, b in zip(*found, strict=True))

    def update_device_memory_size_for_shapes(self) -> int:
        return sum(int(np.prod(shape)) for shape in self._shapes.values())

    def set_device_memory(self, memory: int, size: int) -> None:
        calls.append(("set_device_memory", (memory, size)))
        assert memory % 256 == 0
        self._scratch = memory, size

    def set_tensor_address(self, name: str, memory: int) -> bool:
        calls.append(("set_tensor_address", (name, memory)))
        if name not in self._engine._values or not memory:
            return self._fail(f"{name} cannot lie at {memory}")
        self._addresses[name] = memory
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        calls.append(("is_stream_capturable", (stream,)))
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        calls.append(("execute_async_v3", (stream_handle,)))
        if self._scratch is None or self._scratch[1] < self.update_device_memory_size_for_shapes():
            return self._fail("the scratch memory is too small")
        if set(self._addresses) != set(self._engine._values):
            return self._fail("not all tensors have an address")
        kernel = repr(sorted(self._shapes.items())).encode()
        if self._cache is not None and kernel not in self._cache._kernels:
            calls.append(("compile", (kernel,)))
            self._cache._kernels = (self._cache._kernels or gpu.encode()) + kernel
        feeds = {name: self._array(name, self._shapes[name]) for name in self._engine._inputs}
        for name, value in self._computed(feeds).items():
            self._array(name, value.shape)[...] = value
        scratch = (ctypes.c_uint8 * self._scratch[1]).from_address(self._scratch[0])
        ctypes.memset(scratch, 0xA5, self._scratch[1])  # whoever shares it must not rely on it
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        dtype = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name)])
        size = int(np.prod(shape)) * dtype.itemsize
        raw = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype).reshape(shape)

    def _run(self, seed: int) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        feeds = {}
        for name in self._engine._inputs:
            values = random.random(self._shapes[name]) * (255 if seed else 0)
            feeds[name] = values.astype(_NUMPY[self._engine.get_tensor_dtype(name)])
        return self._computed(feeds)

    def _computed(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [name for name in self._engine._values if name not in self._engine._inputs]
        return dict(zip(names, self._engine._session.run(names, feeds), strict=True))

    def _fail(self, what: str) -> bool:
        said = "IExecutionContext::x: Error Code 3: API Usage Error (" + what + ". In x at /_src/x.cpp:1)"
        self._engine._logger.log(Severity.ERROR, said)
        return False
