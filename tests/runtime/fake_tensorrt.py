"""A stand-in for TensorRT's execution side: it runs the ONNX network in an engine on host memory, and notes every call.

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
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
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

    def create_runtime_config(self) -> IRuntimeConfig:
        calls.append(("create_runtime_config", ()))
        return IRuntimeConfig()

    def create_execution_context(self, strategy: Any = None) -> IExecutionContext:
        calls.append(("create_execution_context", (strategy,)))
        return IExecutionContext(self)


class IRuntimeConfig:
    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        calls.append(("set_execution_context_allocation_strategy", (strategy,)))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
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
