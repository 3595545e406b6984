from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon._optional import available, require
from trt_anon.errors import DeviceMissing, ModelError
from trt_anon.runtime import openvino as runtime_openvino
from trt_anon.runtime.openvino import OpenVinoRunner

if not available("openvino"):
    pytest.skip("OpenVINO is not installed", allow_module_level=True)


def picture(value: float, side: int) -> np.ndarray:
    return np.full((1, 3, side, side), value, np.float32)


@pytest.fixture
def doubling(networks: ModuleType, tmp_path: Path) -> Path:
    path: Path = networks.save(networks.scaled(2.0), tmp_path / "doubling.onnx")
    return path


def run(runner: OpenVinoRunner, side: int, times: int = 1) -> None:
    for value in range(times):
        np.testing.assert_array_equal(runner.run({"input": picture(value, side)})["out"], picture(2 * value, side))


def sides(runner: OpenVinoRunner) -> set[int]:
    return {shapes[0][-1] for shapes in runner.static_shapes}


def prepare(runner: OpenVinoRunner, side: int) -> None:
    runner.prepare({"input": picture(0, side).shape})


def test_a_prepared_size_is_compiled_on_its_own(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling)
    run(runner, 8, 100)
    assert sides(runner) == set()  # what came before never changes what a picture gives
    prepare(runner, 8)
    prepare(runner, 8)
    run(runner, 8, 3)
    run(runner, 9, 3)
    assert sides(runner) == {8}


def test_prepared_sizes_are_bounded_and_the_one_unused_for_longest_goes(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling, static_models=2)
    prepare(runner, 8)
    prepare(runner, 16)
    run(runner, 16)
    run(runner, 8)
    prepare(runner, 24)
    assert sides(runner) == {8, 24}
    for side in (8, 16, 24):
        run(runner, side)


def test_none_may_be_compiled(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling, static_models=0)
    prepare(runner, 8)
    run(runner, 8, 5)
    assert sides(runner) == set()


def test_a_fixed_size_needs_no_second_compilation(networks: ModuleType, tmp_path: Path) -> None:
    runner = OpenVinoRunner(networks.save(networks.grid_head(), tmp_path / "m.onnx"))
    prepare(runner, 32)
    runner.run({"input": picture(1, 32)})
    assert runner.static_shapes == ()


def test_threads_while_sizes_are_compiled_and_dropped(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling, static_models=1)

    def work(number: int) -> None:
        side = 8 * (1 + number % 3)
        for _ in range(5):
            prepare(runner, side)
            run(runner, side, 6)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert len(runner.static_shapes) <= 1


def test_threads_are_those_asked_for(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling, threads=1)
    assert runner.concurrency == 1
    assert int(runner._general.model.get_property("INFERENCE_NUM_THREADS")) == 1


def test_arithmetic_is_exact_unless_asked_otherwise(doubling: Path) -> None:
    runner = OpenVinoRunner(doubling)
    openvino = require("openvino", "tests")
    assert runner._general.model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    value = 1 + 2.0**-20  # lost in bf16
    assert runner.run({"input": picture(value, 8)})["out"].max() == 2 * value


def test_bf16_is_refused_where_the_cpu_has_none(doubling: Path) -> None:
    if "BF16" in require("openvino", "tests").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        OpenVinoRunner(doubling, precision="bf16").run({"input": picture(1, 8)})
    else:
        with pytest.raises(DeviceMissing, match="no bf16"):
            OpenVinoRunner(doubling, precision="bf16")


def asymmetric(networks: ModuleType, tmp_path: Path) -> Path:
    """A quantized convolution of an input with a zero point: no bf16 implementation in OpenVINO 2026.4."""
    import onnx

    scalars = {"scale": np.float32(0.02), "out_scale": np.float32(0.05)}
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
        onnx.helper.make_node(
            "QLinearConv", ["q", "scale", "zero", "w", "scale", "none", "out_scale", "none"], ["c"], pads=[1, 1, 1, 1]
        ),
        onnx.helper.make_node("DequantizeLinear", ["c", "out_scale", "none"], ["out"]),
    ]
    weights = np.random.default_rng(0).integers(-100, 100, (16, 3, 3, 3))
    constants = [networks.constant(name, value, np.float32) for name, value in scalars.items()]
    constants += [networks.constant(n, v, np.int8) for n, v in (("zero", -128), ("none", 0), ("w", weights))]
    path: Path = networks.save(networks.network(nodes, constants, {"out": (1, 16, 32, 32)}), tmp_path / "a.onnx")
    return path


def test_a_model_that_has_no_bf16_implementation_runs_anyway(networks: ModuleType, tmp_path: Path) -> None:
    path = asymmetric(networks, tmp_path)
    feeds = {"input": np.random.default_rng(0).random((1, 3, 32, 32), np.float32) * 5}
    wanted = OpenVinoRunner(path, precision="f32").run(feeds)["out"]
    found = OpenVinoRunner(path, precision="auto").run(feeds)["out"]
    np.testing.assert_allclose(found, wanted, atol=0.06)  # a level, and what bf16 leaves of it


class Picky:
    """A Core that compiles for float32 only, or for nothing."""

    def __init__(self, core: Any, *, refuses_f32: bool = False) -> None:
        self._core, self._refuses_f32, self.refused = core, refuses_f32, 0

    def compile_model(self, model: Any, device: str, properties: dict[str, Any]) -> Any:
        if self._refuses_f32 or properties.get("INFERENCE_PRECISION_HINT") != "f32":
            self.refused += 1
            raise RuntimeError(f"no suitable implementations, {self.refused}")
        return self._core.compile_model(model, device, properties)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


def test_auto_falls_back_to_f32_and_says_so_once(
    doubling: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    picky = Picky(runtime_openvino._shared_core())
    monkeypatch.setattr(runtime_openvino, "_shared_core", lambda: picky)
    runner = OpenVinoRunner(doubling, precision="auto")
    prepare(runner, 8)
    run(runner, 8)
    assert picky.refused == 1
    assert [record.message.split(": ")[-1] for record in caplog.records] == ["running in f32"]


def test_what_cannot_be_compiled_at_all_is_refused_with_the_first_reason(
    doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = Picky(runtime_openvino._shared_core(), refuses_f32=True)
    monkeypatch.setattr(runtime_openvino, "_shared_core", lambda: picky)
    with pytest.raises(ModelError, match="cannot load it: no suitable implementations, 1"):
        OpenVinoRunner(doubling, precision="auto")
    with pytest.raises(ModelError, match="implementations, 3"):
        OpenVinoRunner(doubling, precision="f32")


def test_nothing_is_sent_anywhere(doubling: Path, tmp_path: Path) -> None:
    """`import openvino` as such reports to Google, from a process of its own, and writes an identifier to the home."""
    code = f"""
import sys
seen = []
def hook(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")):
        seen.append(event)
sys.addaudithook(hook)
from pathlib import Path
import numpy as np
from trt_anon.runtime.openvino import OpenVinoRunner
runner = OpenVinoRunner(Path({str(doubling)!r}))
runner.run({{"input": np.zeros((1, 3, 8, 8), np.float32)}})
runner.close()
assert not seen, seen
assert not [m for m in sys.modules if m.startswith("openvino_telemetry")]
import openvino  # still the whole package
assert openvino.convert_model
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
