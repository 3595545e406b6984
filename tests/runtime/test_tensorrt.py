"""What the runner of TensorRT asks of the library, which a stand-in notes."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.errors import EngineError, ModelError, UsageError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.device_tensors import PreparedShapes
from trt_anon.runtime.runner_memory import ALIGNMENT_BYTES, HostRunnerMemory
from trt_anon.runtime.tensorrt import TensorRtRunner
from trt_anon.runtime.trt import library as library_module
from trt_anon.runtime.trt.executing import Engine
from trt_anon.runtime.trt.library import open_library

SMALL = {"input": [(1, 3, 4, 6), (2, 3, 4, 6), (2, 3, 4, 6)]}
LARGE = {"input": [(1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8)]}


@pytest.fixture
def runner(fake_tensorrt: ModuleType, networks: ModuleType) -> TensorRtRunner:
    plan = fake_tensorrt.plan(networks.scaled(2.0).SerializeToString(), [SMALL, LARGE])
    return TensorRtRunner(Engine(open_library(fake_tensorrt.backend), plan, "doubling"), HostRunnerMemory())


def arrays(shape: tuple[int, ...], value: float = 1.0) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"input": np.full(shape, value, np.float32)}, {"out": np.zeros(shape, np.float32)}


def names(fake: ModuleType) -> list[str]:
    return [name for name, _ in fake.calls]


def test_an_inference_only_sets_addresses_and_launches(fake_tensorrt: ModuleType, runner: TensorRtRunner) -> None:
    shape = (2, 3, 4, 6)
    runner.prepare({"input": shape})
    feeds, outputs = arrays(shape)
    others = arrays(shape, 3.0)
    fake_tensorrt.calls.clear()
    for _ in range(3):
        runner.enqueue(feeds, outputs)
    runner.enqueue(*others)
    addresses = [arguments[1] for name, arguments in fake_tensorrt.calls if name == "set_tensor_address"]
    assert names(fake_tensorrt) == [
        *["set_tensor_address"] * 2,
        *["execute_async_v3"] * 3,
        *["set_tensor_address"] * 2,
        "execute_async_v3",
    ]
    assert addresses == [a.ctypes.data for a in (feeds["input"], outputs["out"], others[0]["input"], others[1]["out"])]
    np.testing.assert_array_equal(outputs["out"], 2)
    np.testing.assert_array_equal(others[1]["out"], 6)


def test_the_profile_that_takes_the_shapes_is_chosen(fake_tensorrt: ModuleType, runner: TensorRtRunner) -> None:
    for shape, profile in (((1, 3, 4, 6), 0), ((8, 3, 8, 8), 1)):
        runner.prepare({"input": shape})
        chosen = [arguments for name, arguments in fake_tensorrt.calls if name == "set_optimization_profile_async"]
        assert chosen[-1][0] == profile
    with pytest.raises(EngineError, match=r"not built for 'input' \(3, 3, 4, 6\), but for 'input' \(1, 3, 4, 6\) to"):
        runner.prepare({"input": (3, 3, 4, 6)})


def test_preparing_again_does_nothing(fake_tensorrt: ModuleType, runner: TensorRtRunner) -> None:
    first = runner.prepare({"input": (1, 3, 8, 8)})
    fake_tensorrt.calls.clear()
    assert runner.prepare({"input": (1, 3, 8, 8)}) == first == {"out": (1, 3, 8, 8)}
    assert not fake_tensorrt.calls


def test_preparing_runs_once_so_that_a_capture_compiles_nothing(
    fake_tensorrt: ModuleType, runner: TensorRtRunner
) -> None:
    runner.prepare({"input": (1, 3, 8, 8)})
    assert names(fake_tensorrt).count("execute_async_v3") == 1
    assert runner.capturable
    asked = "is_stream_capturable" in names(fake_tensorrt)
    assert asked == (fake_tensorrt.backend == "tensorrt-rtx")


def test_contexts_bring_no_memory_of_their_own(fake_tensorrt: ModuleType, runner: TensorRtRunner) -> None:
    runner.prepare({"input": (1, 3, 8, 8)})
    own = fake_tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
    made = dict(fake_tensorrt.calls)
    if fake_tensorrt.backend == "tensorrt":
        assert made["create_execution_context"] == (own,)
    else:
        (config,) = made["create_execution_context"]
        assert made["set_execution_context_allocation_strategy"] == (own,)
        eager = fake_tensorrt.DynamicShapesKernelSpecializationStrategy.EAGER
        assert config.dynamic_shapes_kernel_specialization_strategy == eager


def test_contexts_share_scratch_memory_and_keep_it_where_graphs_have_it(
    fake_tensorrt: ModuleType, runner: TensorRtRunner
) -> None:
    given = []
    for shape in ((4, 3, 8, 8), (1, 3, 8, 8), (8, 3, 8, 8)):
        runner.prepare({"input": shape})
        given.append(next(a for name, a in reversed(fake_tensorrt.calls) if name == "set_device_memory"))
    assert given[0] == given[1]
    assert given[2][0] != given[0][0]
    assert given[2][1] == runner.scratch_bytes == 8 * 3 * 8 * 8
    assert all(address % ALIGNMENT_BYTES == 0 for address, _ in given)
    for shape in ((4, 3, 8, 8), (8, 3, 8, 8)):  # the older context still runs, in its piece
        feeds, outputs = arrays(shape)
        runner.enqueue(feeds, outputs)
        np.testing.assert_array_equal(outputs["out"], 2)


def test_another_shares_the_engine_and_nothing_else(fake_tensorrt: ModuleType, runner: TensorRtRunner) -> None:
    runner.prepare({"input": (1, 3, 8, 8)})
    other = runner.another()
    with pytest.raises(ModelError, match="not prepared"):
        other.enqueue(*arrays((1, 3, 8, 8)))
    other.prepare({"input": (1, 3, 8, 8)})
    assert names(fake_tensorrt).count("deserialize_cuda_engine") == 1
    assert names(fake_tensorrt).count("create_execution_context") == 2
    runner.close()
    feeds, outputs = arrays((1, 3, 8, 8))
    other.enqueue(feeds, outputs)
    np.testing.assert_array_equal(outputs["out"], 2)


def test_a_refused_inference_says_why(
    fake_tensorrt: ModuleType, runner: TensorRtRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner.prepare({"input": (1, 3, 8, 8)})

    def refuse(self: Any, stream_handle: int) -> bool:
        return bool(self._fail("misaligned address"))

    monkeypatch.setattr(fake_tensorrt.IExecutionContext, "execute_async_v3", refuse)
    with (
        caplog.at_level(logging.ERROR, "trt_anon"),
        pytest.raises(EngineError, match=r"doubling: TensorRT.* cannot run an inference: misaligned address$"),
    ):
        runner.enqueue(*arrays((1, 3, 8, 8)))


def test_engines_that_do_not_load(fake_tensorrt: ModuleType, networks: ModuleType) -> None:
    library = open_library(fake_tensorrt.backend)
    with pytest.raises(EngineError, match=r"cannot load the engine: .*; it is damaged or of another version; build it"):
        Engine(library, b"garbage", "m")
    other = fake_tensorrt.plan(networks.scaled().SerializeToString(), [SMALL], target="sm_75")
    with pytest.raises(EngineError, match=r"cannot run on this GPU.*; the engine is for other GPUs; build it for this"):
        Engine(library, other, "m")


@pytest.mark.parametrize(("method", "value", "reason"), [
    ("get_tensor_location", "TensorLocation.HOST", "lies in host memory"),
    ("get_tensor_format", "TensorFormat.CHW2", "not row by row"),
    ("get_tensor_dtype", "DataType.BF16", "not supported"),
])  # fmt: skip
def test_tensors_that_a_runner_cannot_bind(
    fake_tensorrt: ModuleType,
    networks: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    value: str,
    reason: str,
) -> None:
    kind, _, member = value.partition(".")
    found = getattr(getattr(fake_tensorrt, kind), member)
    monkeypatch.setattr(fake_tensorrt.ICudaEngine, method, lambda self, name: found)
    plan = fake_tensorrt.plan(networks.scaled().SerializeToString(), [SMALL])
    with pytest.raises(EngineError, match=reason):
        Engine(open_library(fake_tensorrt.backend), plan, "m")


def test_a_library_that_is_too_old(fake_tensorrt: ModuleType) -> None:
    fake_tensorrt.__version__ = {"tensorrt": "10.2.0", "tensorrt-rtx": "1.3.9"}[fake_tensorrt.backend]
    with pytest.raises(UsageError, match=r"TensorRT\S* \S+ is too old: TensorRT\S* (10\.3|1\.4) or later is needed"):
        open_library(fake_tensorrt.backend)


def test_the_library_is_opened_once(fake_tensorrt: ModuleType) -> None:
    assert open_library(fake_tensorrt.backend) is open_library(fake_tensorrt.backend)
    assert isinstance(open_library(fake_tensorrt.backend), library_module.Library)


def test_full_tensorrt_builds_for_the_gpu_at_hand_only(fake_tensorrt: ModuleType, tmp_path: Path) -> None:
    expected = () if fake_tensorrt.backend == "tensorrt" else ("sm_75", "sm_86", "sm_89", "sm_120")
    assert open_library(fake_tensorrt.backend).targets == expected


class OnTheGpu:
    def __init__(self, address: int, **changes: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": (2, 3),
            "typestr": "<f4",
            "data": (address, False),
            "strides": None,
            "version": 3,
            **changes,
        }


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (OnTheGpu(4096), None),
        (OnTheGpu(4096, strides=(12, 4)), None),
        (OnTheGpu(4096, strides=(16, 4)), "not C-contiguous"),
        (OnTheGpu(4096 + 128), "no multiple of 256 bytes"),
        (OnTheGpu(4096, data=(4096, True)), "read-only"),
        (OnTheGpu(4096, typestr="<f2"), "is float32, was given float16"),
        (np.zeros((2, 3), np.float32), "lies in host memory"),
    ],
)
def test_arrays_of_a_gpu(array: Any, reason: str | None) -> None:
    spec = TensorSpec("x", np.dtype(np.float32), (None, 3))
    shapes = PreparedShapes("m", [spec], [TensorSpec("y", spec.dtype, (None, 3))], "cuda", alignment_bytes=256)
    shapes.add(shapes.key({"x": (2, 3)}), {"y": (2, 3)})
    if reason is None:
        taken, given = shapes.places({"x": OnTheGpu(512)}, {"y": array})
        assert (taken[0].address, given[0].address) == (512, 4096)
    else:
        with pytest.raises(ModelError, match=reason):
            shapes.places({"x": OnTheGpu(512)}, {"y": array})


def test_shapes_that_cannot_be_inferred(
    fake_tensorrt: ModuleType, runner: TensorRtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any) -> list[str]:
        self._fail("conflicting shapes")
        raise RuntimeError("inferShapes")

    monkeypatch.setattr(fake_tensorrt.IExecutionContext, "infer_shapes", fail)
    with pytest.raises(EngineError, match=r"cannot run inputs of .*: conflicting shapes"):
        runner.prepare({"input": (1, 3, 8, 8)})
