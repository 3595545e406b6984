"""Writing QuantizeLinear and DequantizeLinear into a network.

Codes are symmetric, of a zero point 0, which TensorRT demands: INT8 from -127 to 127, FP8 (E4M3) from -448 to 448.
Weights are stored as codes with a scale for each output channel, FP8 ones with one scale for all, and dequantized
where they are used. Scales are numbers that halves hold, rounded up, so that a network whose other parts are in halves
has the very same codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.load import check_model
from trt_anon.build.patch import drop_unused_initializers
from trt_anon.build.quantize.layers import Layer
from trt_anon.build.quantize.placement import Placement

if TYPE_CHECKING:
    import onnx

Codes = Literal["int8", "fp8"]

LARGEST_CODE: dict[Codes, float] = {"int8": 127.0, "fp8": 448.0}

_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_subnormal)


@dataclass(frozen=True, slots=True)
class Clips:
    """The largest magnitudes that codes stand for: of each quantized value, and of each output channel of weights."""

    values: Mapping[str, float]
    weights: Mapping[str, NDArray[np.float64]]


def scale_of(clip: NDArray[np.float64] | float, codes: Codes = "int8") -> NDArray[np.float32]:
    """The step between two codes (FP8: at the value 1) for a largest magnitude; a number that a half holds."""
    exact = np.asarray(clip, np.float64) / LARGEST_CODE[codes]
    exact = np.where(exact > 0, exact, 1.0 / LARGEST_CODE[codes])  # of nothing but zeros: any
    largest = np.finfo(np.float16).max
    rounded = np.minimum(exact, float(largest)).astype(np.float16)
    low = rounded.astype(np.float64) < exact
    rounded = np.where(low, np.nextafter(rounded, largest), rounded)
    return np.asarray(np.maximum(rounded.astype(np.float32), _SMALLEST_SCALE), np.float32)


def codes_of(values: NDArray[np.floating], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """INT8 codes of values, rounded half to even, as QuantizeLinear does."""
    codes: NDArray[np.int8] = np.clip(np.rint(values.astype(np.float32) / scale), -127, 127).astype(np.int8)
    return codes


def per_channel(vector: NDArray[Any], axis: int, ndim: int) -> NDArray[Any]:
    """A vector of output channels, shaped to go with weights."""
    shape = [1] * ndim
    shape[axis] = -1
    return vector.reshape(shape)


def write_qdq(
    model: onnx.ModelProto,
    layers: Mapping[str, Layer],
    placement: Placement,
    clips: Clips,
    codes: Codes = "int8",
    where: str = "model",
) -> onnx.ModelProto:
    """A copy of a tidied network in which the layers that `clips` has weights for are quantized.

    Raises ModelError where the result breaks the rules of ONNX.
    """
    lib = require("onnx", "quantizing a model")
    written: onnx.ModelProto = lib.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    kind = lib.TensorProto.INT8 if codes == "int8" else lib.TensorProto.FLOAT8E4M3FN
    nothing = "qdq/zero"
    graph.initializer.append(lib.helper.make_tensor(nothing, kind, [], [0]))
    before: dict[str, list[onnx.NodeProto]] = {}  # by the node that they come before
    nodes = {node.name: node for node in graph.node}

    for value, readers in placement.readers.items():
        scale = f"{value}/scale"
        graph.initializer.append(lib.numpy_helper.from_array(scale_of(clips.values[value], codes), scale))
        quantized, restored = f"{value}/quantized", f"{value}/dequantized"
        pair = [
            lib.helper.make_node("QuantizeLinear", [value, scale, nothing], [quantized], name=f"Quantize:{value}"),
            lib.helper.make_node(
                "DequantizeLinear", [quantized, scale, nothing], [restored], name=f"Dequantize:{value}"
            ),
        ]
        first = next(node.name for node in graph.node if node.name in readers)
        before.setdefault(first, []).extend(pair)
        for reader in readers:
            _replace_input(nodes[reader], value, restored)
    for name, clip in clips.weights.items():
        node = nodes[layers[name].node]
        before.setdefault(node.name, []).append(_stored_weights(written, layers[name], node, clip, codes, nothing))

    rest = list(graph.node)
    ordered = [one for node in rest for one in (*before.get(node.name, ()), node)]
    del graph.node[:]
    graph.node.extend(ordered)
    drop_unused_initializers(graph)
    del graph.value_info[:]
    inferred: onnx.ModelProto = lib.shape_inference.infer_shapes(written, data_prop=True)
    check_model(inferred, where)
    return inferred


def _stored_weights(
    model: onnx.ModelProto,
    layer: Layer,
    node: onnx.NodeProto,
    clip: NDArray[np.float64],
    codes: Codes,
    nothing: str,
) -> onnx.NodeProto:
    """Store a layer's weights as codes; gives the node that restores them."""
    lib = require("onnx", "quantizing a model")
    stored, scale_name, restored = (f"{layer.name}/weights_{what}" for what in ("codes", "scale", "dequantized"))
    graph = model.graph
    node.input[1] = restored
    inputs = [stored, scale_name]
    attributes: dict[str, int] = {}
    if codes == "int8":
        scale = scale_of(clip)
        array = codes_of(layer.weights, per_channel(scale, layer.axis, layer.weights.ndim))
        graph.initializer.append(lib.numpy_helper.from_array(array, stored))
        zero = f"{layer.name}/weights_zero"
        graph.initializer.append(lib.numpy_helper.from_array(np.zeros(scale.shape, np.int8), zero))
        inputs.append(zero)
        attributes["axis"] = layer.axis
    else:
        scale = scale_of(float(np.max(clip)), codes)
        values = (layer.weights / scale).clip(-LARGEST_CODE[codes], LARGEST_CODE[codes])
        graph.initializer.append(
            lib.helper.make_tensor(stored, lib.TensorProto.FLOAT8E4M3FN, values.shape, values.ravel().tolist())
        )
        inputs.append(nothing)
    graph.initializer.append(lib.numpy_helper.from_array(scale, scale_name))
    made: onnx.NodeProto = lib.helper.make_node(
        "DequantizeLinear", inputs, [restored], name=f"Dequantize:{layer.name}/weights", **attributes
    )
    return made


def _replace_input(node: onnx.NodeProto, old: str, new: str) -> None:
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
