"""Small ONNX networks, made when a test wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]


def constant(name: str, value: Any, dtype: type[np.generic] = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def network(
    nodes: Sequence[onnx.NodeProto],
    initializers: Sequence[onnx.TensorProto],
    outputs: dict[str, Shape],
    *,
    shape: Shape = (1, 3, 32, 32),
    opset: int = 13,
    ir_version: int = 8,
    element: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A network of one input `input`."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("input", element, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    model.producer_name = "tests"
    return model


def convolution(seed: int = 0, channels: int = 4) -> onnx.TensorProto:
    weights = np.random.default_rng(seed).normal(size=(channels, 3, 3, 3)) / 50
    return constant("weights", weights, np.float32)


def grid_head(side: int = 32, batch: int = 1) -> onnx.ModelProto:
    """Like a detector's head: a convolution of stride 2, channels last, one row per cell, all of a fixed size."""
    cells = (side // 2) ** 2
    return network(
        [
            helper.make_node("Conv", ["input", "weights"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", ["t", "target"], ["out"]),
        ],
        [convolution(), constant("target", [batch, -1, 4])],
        {"out": (batch, cells, 4)},
        shape=(batch, 3, side, side),
    )


def mixing() -> onnx.ModelProto:
    """Subtracts from every picture the mean of the batch."""
    return network(
        [
            helper.make_node("ReduceMean", ["input"], ["m"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["input", "m"], ["out"]),
        ],
        [],
        {"out": (None, 3, None, None)},
        shape=("N", 3, "H", "W"),
    )


def scaled(factor: float = 2.0) -> onnx.ModelProto:
    """out = input * factor, of any size."""
    return network(
        [helper.make_node("Mul", ["input", "factor"], ["out"])],
        [constant("factor", factor, np.float32)],
        {"out": ("N", 3, "H", "W")},
        shape=("N", 3, "H", "W"),
    )


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
