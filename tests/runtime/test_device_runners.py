"""One body for every runner that works on the caller's arrays; TensorRT's on a stand-in for the library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from onnx import TensorProto, helper

from trt_anon.errors import ModelError
from trt_anon.runtime.base import DeviceRunner
from trt_anon.runtime.runner_memory import HostRunnerMemory

pytest.importorskip("onnxruntime")

from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
from trt_anon.runtime.onnxruntime_device import HostDeviceRunner
from trt_anon.runtime.tensorrt import TensorRtRunner
from trt_anon.runtime.trt.executing import Engine
from trt_anon.runtime.trt.library import open_library

Open = Callable[[Path], DeviceRunner]
PROFILE = {"input": [(1, 3, 1, 1), (2, 3, 8, 8), (4, 3, 64, 64)]}


@pytest.fixture(params=["onnxruntime", "tensorrt", "tensorrt-rtx"])
def opened(request: pytest.FixtureRequest, fake_tensorrt_of: Callable[[str], ModuleType]) -> Open:
    def open_runner(path: Path) -> DeviceRunner:
        if request.param == "onnxruntime":
            return HostDeviceRunner(path, threads=1)
        plan = fake_tensorrt_of(request.param).plan(path.read_bytes(), [PROFILE])
        return TensorRtRunner(Engine(open_library(request.param), plan, path.name), HostRunnerMemory())

    return open_runner


@pytest.fixture
def runner(opened: Open, networks: ModuleType, tmp_path: Path) -> Iterator[DeviceRunner]:
    made = opened(networks.save(networks.scaled(2.0), tmp_path / "doubling.onnx"))
    yield made
    made.close()


def picture(value: float, batch: int = 1, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((batch, 3, height, width), value, np.float32)


def test_specifications(runner: DeviceRunner) -> None:
    assert [(i.name, i.dtype, i.shape) for i in runner.inputs] == [("input", np.float32, (None, 3, None, None))]
    assert [(o.name, o.dtype, o.shape) for o in runner.outputs] == [("out", np.float32, (None, 3, None, None))]


def test_outputs_are_written_into_the_callers_arrays(runner: DeviceRunner) -> None:
    assert runner.prepare({"input": (2, 3, 4, 6)}) == {"out": (2, 3, 4, 6)}
    around = np.full((4, 3, 4, 6), np.nan, np.float32)
    feed = picture(0, 2)
    for value in range(5):  # the same arrays, and so the same binding
        feed[:] = value
        runner.enqueue({"input": feed}, {"out": around[1:3]})
        np.testing.assert_array_equal(around[1:3], picture(2 * value, 2))
    assert np.isnan(around[[0, 3]]).all()


def test_several_shapes_are_prepared(runner: DeviceRunner) -> None:
    for batch in (1, 3):
        runner.prepare({"input": (batch, 3, 4, 6)})
    for batch in (3, 1, 3):
        out = np.empty((batch, 3, 4, 6), np.float32)
        runner.enqueue({"input": picture(batch, batch)}, {"out": out})
        np.testing.assert_array_equal(out, picture(2 * batch, batch))


def test_as_the_runner_of_host_tensors(opened: Open, networks: ModuleType, tmp_path: Path) -> None:
    path = networks.save(networks.grid_head(batch=2), tmp_path / "head.onnx")
    feed = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    plain, bound = OnnxRuntimeRunner(path, threads=1), opened(path)
    out = {name: np.empty(shape, np.float32) for name, shape in bound.prepare({"input": feed.shape}).items()}
    bound.enqueue({"input": feed}, out)
    expected = plain.run({"input": feed})
    assert set(out) == set(expected)
    np.testing.assert_array_equal(out["out"], expected["out"])
    plain.close()


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"input": (1, 4, 4, 6)}, r"takes \(any, 3, any, any\), not \(1, 4, 4, 6\)"),
        ({"input": (0, 3, 4, 6)}, "takes"),
        ({"input": (1, 3, 4)}, "takes"),
        ({"other": (1, 3, 4, 6)}, r"has the inputs \['input'\], not \['other'\]"),
        ({}, "has the inputs"),
    ],
)
def test_shapes_that_the_model_does_not_take(
    runner: DeviceRunner, shapes: dict[str, tuple[int, ...]], reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        runner.prepare(shapes)


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


class _OnTheGpu:
    def __init__(self) -> None:
        self.__cuda_array_interface__ = {"shape": (1, 3, 4, 6), "typestr": "<f4", "data": (4096, False), "version": 3}


@pytest.mark.parametrize(
    ("feed", "out", "reason"),
    [
        (picture(1, 2), picture(0, 2), r"was not prepared for 'input' \(2, 3, 4, 6\)"),
        (picture(1), picture(0, 2), r"output 'out' has the shape \(1, 3, 4, 6\)"),
        (picture(1).astype(np.float64), picture(0), "input 'input' is float32, was given float64"),
        (picture(1), picture(0).astype(np.float16), "output 'out' is float32, was given float16"),
        (picture(1, 1, 6, 4).transpose(0, 1, 3, 2), picture(0), "input 'input' is not C-contiguous"),
        (picture(1), picture(0, 1, 4, 12)[..., ::2], "output 'out' is not C-contiguous"),
        (picture(1), _read_only(picture(0)), "output 'out' is read-only"),
        (_OnTheGpu(), picture(0), "input 'input' lies on the GPU"),
        ([1.0], picture(0), "no array of NumPy, CuPy or the like, but list"),
    ],
)
def test_arrays_that_do_not_fit(runner: DeviceRunner, feed: object, out: object, reason: str) -> None:
    runner.prepare({"input": (1, 3, 4, 6)})
    with pytest.raises(ModelError, match=reason):
        runner.enqueue({"input": feed}, {"out": out})


def test_missing_and_unknown_arrays(runner: DeviceRunner) -> None:
    runner.prepare({"input": (1, 3, 4, 6)})
    for feeds, outputs in (({}, {"out": picture(0)}), ({"input": picture(0)}, {"out": picture(0), "more": picture(0)})):
        with pytest.raises(ModelError, match=r"has the inputs \['input'\] and the outputs \['out'\]"):
            runner.enqueue(feeds, outputs)


def test_an_output_whose_shape_depends_on_the_picture_is_refused(
    opened: Open, networks: ModuleType, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("NonZero", ["input"], ["where"]),
        helper.make_node("Cast", ["where"], ["out"], to=TensorProto.FLOAT),
    ]
    path = networks.save(networks.network(nodes, [], {"out": (4, None)}), tmp_path / "nonzero.onnx")
    with pytest.raises(ModelError, match="the shape of output 'out' depends on what is in the picture"):
        opened(path).prepare({"input": (1, 3, 32, 32)})


def test_another_works_beside_the_first_and_outlives_it(runner: DeviceRunner) -> None:
    others = [runner.another() for _ in range(3)]
    runner.close()
    with pytest.raises(ModelError, match="was closed"):
        runner.prepare({"input": (1, 3, 4, 6)})

    def work(number: int) -> None:
        others[number].prepare({"input": (number + 1, 3, 64, 64)})
        out = np.empty((number + 1, 3, 64, 64), np.float32)
        for value in range(20):
            others[number].enqueue({"input": picture(value + number, number + 1, 64, 64)}, {"out": out})
            np.testing.assert_array_equal(out, 2.0 * (value + number))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))


def test_a_closed_runner_refuses(runner: DeviceRunner) -> None:
    runner.prepare({"input": (1, 3, 4, 6)})
    runner.close()
    runner.close()
    with pytest.raises(ModelError, match="was closed"):
        runner.enqueue({"input": picture(0)}, {"out": picture(0)})
    with pytest.raises(ModelError, match="was closed"):
        runner.another()


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"m\.onnx: ONNX Runtime cannot load it"):
        HostDeviceRunner(tmp_path / "m.onnx")
