"""A uint8 input goes straight into its Cast, and nothing changes otherwise."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trt_anon.build.engine_front import cast_first
from trt_anon.build.patch import fold_input, make_dynamic
from trt_anon.errors import ModelError

ort = pytest.importorskip("onnxruntime")


def outputs(model: onnx.ModelProto, pictures: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pictures})


@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (104.0, 117.0, 123.0)])
def test_a_folded_network_computes_the_same(networks: ModuleType, mean: tuple[float, float, float]) -> None:
    folded = fold_input(make_dynamic(networks.grid_head()), mean, (1 / 255,) * 3)
    changed = cast_first(folded)
    first = changed.graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["pixels"])
    assert [n.name for n in changed.graph.node] != [n.name for n in folded.graph.node]
    assert sorted(n.name for n in changed.graph.node) == sorted(n.name for n in folded.graph.node)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    for found, expected in zip(outputs(changed, pictures), outputs(folded, pictures), strict=True):
        np.testing.assert_array_equal(found, expected)
    # Again, there is nothing to do, and the original is as it was.
    assert cast_first(changed) == changed
    assert folded.graph.node[0].op_type == "Reshape"


def test_other_inputs_stay(networks: ModuleType) -> None:
    model = networks.grid_head()
    assert cast_first(model) == model


def test_names_that_are_taken(networks: ModuleType) -> None:
    model = networks.network(
        [
            helper.make_node("Transpose", ["input"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Cast", ["t"], ["input_converted"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["input_converted"], ["out"]),
        ],
        [],
        {"out": (1, 32, 32, 3)},
        element=TensorProto.UINT8,
    )
    changed = cast_first(model)
    assert [n.op_type for n in changed.graph.node] == ["Cast", "Transpose", "Relu"]
    pictures = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), np.uint8)
    np.testing.assert_array_equal(outputs(changed, pictures)[0], outputs(model, pictures)[0])


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("QuantizeLinear", ["input", "s"], ["out"])], "is read by QuantizeLinear"),
        (
            [
                helper.make_node("Cast", ["input"], ["a"], to=TensorProto.FLOAT),
                helper.make_node("Cast", ["input"], ["b"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["a", "b"], ["out"]),
            ],
            "is read by Cast; TensorRT wants one Cast",
        ),
        ([helper.make_node("Identity", ["s"], ["out"])], "is read by nothing"),
    ],
)
def test_inputs_used_otherwise(networks: ModuleType, nodes: list[onnx.NodeProto], reason: str) -> None:
    constants = [networks.constant("s", 1.0, np.float32)]
    model = networks.network(nodes, constants, {"out": None}, element=TensorProto.UINT8)
    with pytest.raises(ModelError, match=f"m: its uint8 input 'input' {reason}"):
        cast_first(model, "m")
