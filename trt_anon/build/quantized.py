"""Quantized networks: whether a network is one, and operators that runtimes read differently, spelled out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_anon._optional import require
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the network rounds its values to few levels: a difference of one rounding then grows to a whole level."""
    return any(n.op_type in _QUANTIZED or n.op_type.startswith(("QLinear", "QAttention")) for n in model.graph.node)


def quantizes_by_batch(model: onnx.ModelProto) -> bool:
    """Whether levels follow from the values at hand, of all pictures of a batch together (DynamicQuantizeLinear)."""
    return any(n.op_type == "DynamicQuantizeLinear" for n in model.graph.node)


def spell_out(model: onnx.ModelProto, where: str = "model") -> onnx.ModelProto:
    """A copy in which QLinearSoftmax is DequantizeLinear, Softmax and QuantizeLinear, which it is defined as.

    OpenVINO 2026.4 computes QLinearSoftmax wrongly: the two columns of LPD-YuNet's INT8 file, which are probabilities,
    then add up to between 0 and 0.3. Raises ModelError where the softmax runs over several axes.
    """
    lib = require("onnx", "patching a model")
    spelled: onnx.ModelProto = lib.ModelProto()
    spelled.CopyFrom(model)
    nodes = []
    for node in spelled.graph.node:
        if node.op_type != "QLinearSoftmax":
            nodes.append(node)
            continue
        attributes = {a.name: a.i for a in node.attribute}
        axis = attributes.get("axis", -1)
        if (
            attributes.get("opset", 13) < 13 and axis != -1
        ):  # before opset 13 a softmax ran over all axes from this one on
            raise ModelError(f"{where}: QLinearSoftmax {node.name!r} of opset {attributes['opset']} is not supported")
        data, scale, zero, out_scale, out_zero = node.input
        (result,) = node.output
        real, share = f"{result}/real", f"{result}/share"
        nodes += [
            lib.helper.make_node("DequantizeLinear", [data, scale, zero], [real], name=f"{result}/dequantize"),
            lib.helper.make_node("Softmax", [real], [share], name=f"{result}/softmax", axis=axis),
            lib.helper.make_node("QuantizeLinear", [share, out_scale, out_zero], [result], name=f"{result}/quantize"),
        ]
    del spelled.graph.node[:]
    spelled.graph.node.extend(nodes)
    return spelled
