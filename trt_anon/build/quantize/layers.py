"""The layers of a network that can be quantized, and which of them start outside of INT8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.tidy import attributes_of

if TYPE_CHECKING:
    import onnx

FEW_CHANNELS = 8
"""Layers with fewer channels in or out gain nothing from INT8: kernels work on blocks of 16 or 32."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A convolution or product with constant weights.

    name: of the value that it gives, which is the same in every form of the network. node: its node's name. data: the
    value that it reads. weights: float32. axis: of the output channels in the weights. last: no other layer follows.
    outside: why it starts in high precision, None if it does not.
    """

    name: str
    node: str
    operator: str
    data: str
    weights_name: str
    bias_name: str | None
    weights: NDArray[np.float32]
    axis: int
    group: int
    stride_area: int
    last: bool
    outside: str | None

    @property
    def channels(self) -> int:
        """How many weights scales there are."""
        return int(self.weights.shape[self.axis])

    @property
    def outputs(self) -> int:
        """How many channels it gives; of a transposed convolution with groups several share a scale."""
        return self.channels * self.group if self.operator == "ConvTranspose" else self.channels

    @property
    def data_axis(self) -> int:
        """Of the channels in the data."""
        return -1 if self.operator == "MatMul" else 1

    def __repr__(self) -> str:
        return f"Layer({self.operator} {self.name!r} {self.weights.shape})"


def find_layers(model: onnx.ModelProto) -> dict[str, Layer]:
    """The layers of a tidied network by name, in its order."""
    lib = require("onnx", "quantizing a model")
    arrays = {t.name: lib.numpy_helper.to_array(t) for t in model.graph.initializer}
    last = _last_weighted(model.graph, arrays)
    found = {}
    for node in model.graph.node:
        axis = _output_axis(node)
        if axis is None or node.input[1] not in arrays or arrays[node.input[1]].dtype != np.float32:
            continue
        attributes = attributes_of(node)
        if any(attributes.get(name, plain) != plain for name, plain in (("transA", 0), ("alpha", 1.0), ("beta", 1.0))):
            continue
        bias = node.input[2] if len(node.input) > 2 and node.input[2] in arrays else None
        if bias is None and len(node.input) > 2 and node.input[2]:
            continue  # a bias that is computed
        weights = arrays[node.input[1]]
        group = int(attributes.get("group", 1))
        name = node.output[0]
        found[name] = Layer(
            name=name,
            node=node.name,
            operator=node.op_type,
            data=node.input[0],
            weights_name=node.input[1],
            bias_name=bias,
            weights=weights,
            axis=axis,
            group=group,
            stride_area=int(np.prod(attributes.get("strides", (1,)))),
            last=name in last,
            outside=_outside(node.op_type, weights, axis, group, name in last),
        )
    return found


def multiply_adds(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> dict[str, int]:
    """How many multiply-adds each layer takes; the model's input must have a fixed size."""
    lib = require("onnx", "quantizing a model")
    inferred = lib.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    }
    counts = {}
    for layer in layers.values():
        # Each weight is used once for each place of the output, or of the input of a transposed convolution.
        places = shapes.get(layer.data if layer.operator == "ConvTranspose" else layer.name, ())
        spatial = places[2:] if layer.operator in ("Conv", "ConvTranspose") else places[:-1]
        counts[layer.name] = int(layer.weights.size * np.prod(spatial, dtype=np.int64)) if len(places) else 0
    return counts


def _output_axis(node: onnx.NodeProto) -> int | None:
    if node.op_type in ("Conv", "ConvTranspose"):
        return 0 if node.op_type == "Conv" else 1
    if node.op_type == "Gemm":
        return 0 if attributes_of(node).get("transB") else 1
    return 1 if node.op_type == "MatMul" else None


def _outside(operator: str, weights: NDArray[np.float32], axis: int, group: int, last: bool) -> str | None:
    if operator in ("Gemm", "MatMul") and weights.ndim != 2:
        return "weights of more than two dimensions"
    if operator == "ConvTranspose":
        return "transposed"
    if group > 1 and weights.shape[1] < FEW_CHANNELS:
        return "depthwise"
    if last:
        return "head"
    given = weights.shape[1 - axis]
    if min(given, weights.shape[axis]) < FEW_CHANNELS:
        return "few channels"
    return None


def _last_weighted(graph: onnx.GraphProto, arrays: Mapping[str, NDArray[np.generic]]) -> set[str]:
    """Names of the layers that no other layer follows."""
    followed: set[str] = set()
    last = set()
    for node in reversed(graph.node):
        weighted = _output_axis(node) is not None and node.input[1] in arrays
        follows = bool(followed.intersection(node.output))
        if weighted and not follows:
            last.add(node.output[0])
        if weighted or follows:
            followed.update(name for name in node.input if name)
    return last
