"""One body for every runtime that computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from trt_anon._optional import available
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Runner

Open = Callable[..., Runner]


@pytest.fixture(params=["openvino", "onnxruntime"])
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    if not available(request.param):
        pytest.skip(f"{request.param} is not installed")
    from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
    from trt_anon.runtime.openvino import OpenVinoRunner

    kind = {"openvino": OpenVinoRunner, "onnxruntime": OnnxRuntimeRunner}[request.param]
    runners: list[Runner] = []

    def make(path: Path, **options: object) -> Runner:
        runners.append(kind(path, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()


@pytest.fixture
def doubling(networks: ModuleType, tmp_path: Path) -> Path:
    path: Path = networks.save(networks.scaled(2.0), tmp_path / "doubling.onnx")
    return path


def picture(value: float, height: int = 8, width: int = 12) -> np.ndarray:
    return np.full((1, 3, height, width), value, np.float32)


def test_specifications(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    assert [(i.name, i.dtype, i.shape) for i in runner.inputs] == [("input", np.float32, (None, 3, None, None))]
    assert [(o.name, o.dtype, o.shape) for o in runner.outputs] == [("out", np.float32, (None, 3, None, None))]
    assert runner.concurrency >= 1


def test_results(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    found = runner.run({"input": picture(3)})
    assert list(found) == ["out"]
    np.testing.assert_array_equal(found["out"], picture(6))


def test_results_belong_to_the_caller(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    first = runner.run({"input": picture(1)})["out"]
    assert first.flags.writeable
    for value in range(2, 10):
        runner.run({"input": picture(value)})
    np.testing.assert_array_equal(first, picture(2))
    runner.close()
    np.testing.assert_array_equal(first, picture(2))


def test_the_input_may_be_reused_after_the_result(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    buffer = picture(0)
    for value in range(20):
        buffer[:] = value
        np.testing.assert_array_equal(runner.submit({"input": buffer}).result()["out"], picture(2 * value))


@pytest.mark.parametrize("threads", [1, 2])
def test_more_may_be_submitted_than_run_at_once(opened: Open, doubling: Path, threads: int) -> None:
    """One thread submits far more than there are requests, waits for none, and takes results in another order."""
    runner = opened(doubling, threads=threads)
    assert runner.concurrency <= threads
    pending = [runner.submit({"input": picture(value)}) for value in range(40)]
    for value in (*range(39, -1, -1), 5, 5):
        np.testing.assert_array_equal(pending[value].result()["out"], picture(2 * value))


def test_results_that_nobody_takes(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    for value in range(50):
        runner.submit({"input": picture(value)})
    np.testing.assert_array_equal(runner.run({"input": picture(7)})["out"], picture(14))


def test_many_threads(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    barrier = threading.Barrier(8)

    def work(number: int) -> bool:
        barrier.wait()
        right = True
        for step in range(40):
            value, width = number * 100 + step, 4 + (number + step) % 5
            found = runner.submit({"input": picture(value, width=width)}).result()["out"]
            right &= np.array_equal(found, picture(2 * value, width=width))
        return right

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_several_runners_side_by_side(opened: Open, networks: ModuleType, tmp_path: Path) -> None:
    runners = [opened(networks.save(networks.scaled(f), tmp_path / f"{f}.onnx")) for f in (2.0, 3.0)]
    pending = [(f, r.submit({"input": picture(v)}), v) for v in range(10) for f, r in zip((2, 3), runners, strict=True)]
    for factor, result, value in pending:
        np.testing.assert_array_equal(result.result()["out"], picture(factor * value))


def test_strided_and_read_only_inputs(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    whole = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
    strided = whole[::2, :, ::2, 1::3]
    np.testing.assert_array_equal(runner.run({"input": strided})["out"], strided * 2)
    whole.flags.writeable = False
    np.testing.assert_array_equal(runner.run({"input": whole})["out"], whole * 2)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'input' was not fed"),
        ({"other": picture(0)}, "has no input 'other'"),
        ({"input": picture(0), "more": picture(0)}, "has no input 'more'"),
        ({"input": picture(0).astype(np.float64)}, "was fed float64"),
        ({"input": picture(0)[0]}, r"is float32 \(any, 3, any, any\), was fed float32 \(3, 8, 12\)"),
        ({"input": np.zeros((1, 4, 8, 8), np.float32)}, r"\(1, 4, 8, 8\)"),
        ({"input": np.zeros((0, 3, 8, 8), np.float32)}, r"\(0, 3, 8, 8\)"),
    ],
)
def test_wrong_feeds(opened: Open, doubling: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    runner = opened(doubling)
    with pytest.raises(ModelError, match=message):
        runner.submit(feeds)
    np.testing.assert_array_equal(runner.run({"input": picture(1)})["out"], picture(2))


def test_a_failing_inference_raises_and_the_runner_lives_on(
    opened: Open, networks: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A Reshape to whole rows of 64 values cannot be done for every size."""
    from onnx import helper

    model = networks.network(
        [helper.make_node("Reshape", ["input", "target"], ["out"])],
        [networks.constant("target", [-1, 3, 64])],
        {"out": (None, 3, 64)},
        shape=("N", 3, "H", "W"),
    )
    runner = opened(networks.save(model, tmp_path / "m.onnx"))
    for _ in range(10):
        pending = runner.submit({"input": picture(1, 5, 7)})
        for _ in range(2):  # it stays failed
            with pytest.raises(ModelError, match="failed"):
                pending.result()
        assert runner.run({"input": picture(1, 8, 8)})["out"].shape == (1, 3, 64)
    assert capfd.readouterr().err == ""


def test_closing(opened: Open, doubling: Path) -> None:
    runner = opened(doubling)
    pending = [runner.submit({"input": picture(value)}) for value in range(3)]
    runner.close()
    runner.close()
    for value, result in enumerate(pending):
        np.testing.assert_array_equal(result.result()["out"], picture(2 * value))
    with pytest.raises(ModelError, match="was closed"):
        runner.submit({"input": picture(1)})


@pytest.mark.parametrize("data", [b"", b"no model", b"\x08\x07"])
def test_what_is_no_model(opened: Open, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"bad\.onnx: .* cannot load it"):
        opened(path)


def test_a_file_that_is_not_there(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot load it"):
        opened(tmp_path / "absent.onnx")


def test_output_names_are_those_of_the_file(opened: Open, networks: ModuleType, tmp_path: Path) -> None:
    """Identity nodes give one value several names."""
    from onnx import helper

    model = networks.network(
        [
            helper.make_node("Relu", ["input"], ["z"]),
            helper.make_node("Identity", ["z"], ["a"]),
            helper.make_node("Identity", ["z"], ["b"]),
            helper.make_node("Neg", ["z"], ["0"]),
        ],
        [],
        {"b": (1, 3, 32, 32), "0": (1, 3, 32, 32), "a": (1, 3, 32, 32), "z": (1, 3, 32, 32)},
    )
    runner = opened(networks.save(model, tmp_path / "m.onnx"))
    assert [o.name for o in runner.outputs] == ["b", "0", "a", "z"]
    found = runner.run({"input": picture(3, 32, 32)})
    assert {name: float(tensor.max()) for name, tensor in found.items()} == {"b": 3, "0": -3, "a": 3, "z": 3}
