"""A network whose arithmetic is in halves (FP16), spelled out by its types: what strongly typed engines are built from.

What halves cannot hold stays in float32, with a Cast on every edge between the two: values beyond or near 65504, small
constants that would vanish, operators that add up, raise or divide, whatever an operator's definition wants as float32,
and all that comes after the last convolution or product, where scores and boxes are made: halves have 11 bits, so that
a coordinate of 1200 px would be rounded to a whole pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.build.load import check_model
from trt_anon.build.tidy import attributes_of

if TYPE_CHECKING:
    import onnx

LARGEST = float(np.finfo(np.float16).max) / 2
"""Nodes with larger values stay in float32: pictures that were not measured may give twice as much."""

_SMALLEST = float(np.finfo(np.float16).tiny)
"""Below it halves lose precision."""

_DEAD = float(np.finfo(np.float16).smallest_subnormal) / float(np.finfo(np.float16).max)
"""A factor below it makes nothing of any half."""

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

SENSITIVE = frozenset({
    "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Div", "Softmax", "LogSoftmax", "Softplus", "CumSum", "Range",
    "ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum",
    "ReduceLogSumExp", "LpNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
    "BatchNormalization", "NonMaxSuppression", "RoiAlign", "MaxRoiPool", "GridSample",
})  # fmt: skip
"""Operators that stay in float32 wherever they are."""

_FACTORS = WEIGHTED | {"Mul", "PRelu", "LeakyRelu"}  # what these multiply by may vanish
_SCALED = frozenset({"QuantizeLinear", "DequantizeLinear"})


def to_half(
    model: onnx.ModelProto,
    largest: Mapping[str, float],
    *,
    half_io: bool = False,
    keep: Collection[str] = (),
    where: str = "model",
) -> onnx.ModelProto:
    """A copy of a tidied network in halves.

    largest: the largest absolute value of each value of the network (see `measure.largest_values`). half_io: float32
    inputs and outputs become halves, too. keep: names of nodes that stay in float32. Scales of quantized values become
    halves with what is dequantized by them. Raises ModelError where the result breaks the rules of ONNX.
    """
    lib = require("onnx", "changing a model's precision")
    halved: onnx.ModelProto = lib.ModelProto()
    halved.CopyFrom(model)
    return _Halving(halved, largest, keep).run(half_io, where)


def nodes_kept(model: onnx.ModelProto, largest: Mapping[str, float], keep: Collection[str] = ()) -> dict[str, str]:
    """Which nodes of a tidied network `to_half` leaves in float32, and why."""
    return _Halving(model, largest, keep).kept


class _Halving:
    def __init__(self, model: onnx.ModelProto, largest: Mapping[str, float], keep: Collection[str]) -> None:
        lib = require("onnx", "changing a model's precision")
        self._lib = lib
        self._model, self._graph = model, model.graph
        self._largest, self._keep = largest, frozenset(keep)
        self._opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._arrays = {t.name: t for t in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self._floats = {v.name for v in values if v.type.tensor_type.elem_type == lib.TensorProto.FLOAT}
        self._floats |= {t.name for t in model.graph.initializer if t.data_type == lib.TensorProto.FLOAT}
        self._weighted_follows = self._before_weighted()
        self.kept = {node.name: reason for node in model.graph.node if (reason := self._reason(node))}

    def run(self, half_io: bool, where: str) -> onnx.ModelProto:
        lib, graph = self._lib, self._graph
        half = {value.name for value in graph.input if half_io and value.name in self._floats}  # what holds halves
        wanted_out = {o.name for o in graph.output if o.name in self._floats and half_io}
        shared = {o.name for o in graph.output}
        casts: dict[tuple[str, bool], str] = {}
        renamed: dict[str, str] = {}
        nodes: list[onnx.NodeProto] = []

        def as_wanted(name: str, want_half: bool) -> str:
            source = renamed.get(name, name)
            if (source in half) == want_half:
                return source
            if (source, want_half) not in casts:
                result = f"{name}/{'half' if want_half else 'single'}"
                casts[source, want_half] = result
                if source in self._arrays:
                    array = lib.numpy_helper.to_array(self._arrays[source]).astype(np.float16)
                    graph.initializer.append(lib.numpy_helper.from_array(array, result))
                else:
                    kind = lib.TensorProto.FLOAT16 if want_half else lib.TensorProto.FLOAT
                    nodes.append(lib.helper.make_node("Cast", [source], [result], name=f"Cast:{result}", to=kind))
                if want_half:
                    half.add(result)
            return casts[source, want_half]

        for node in list(graph.node):
            halves = node.name not in self.kept
            ins, outs = self._free_types(node) if halves else ((), ())
            for index, name in enumerate(node.input):
                if name in self._floats:
                    node.input[index] = as_wanted(name, index in ins)
            if halves:
                self._change_attributes(node)
            nodes.append(node)
            for index, name in enumerate(node.output):
                if name not in self._floats or index not in outs:
                    continue
                if name in shared and name not in wanted_out:
                    renamed[name] = node.output[index] = f"{name}/half_result"
                half.add(node.output[index])
        for output in graph.output:
            if output.name in self._floats:
                self._finish(output.name, renamed.get(output.name, output.name), half_io, half, nodes)
        del graph.node[:]
        graph.node.extend(nodes)
        self._declare(half_io)
        used = {name for node in graph.node for name in node.input} | shared
        kept = [t for t in graph.initializer if t.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        inferred: onnx.ModelProto = lib.shape_inference.infer_shapes(self._model, data_prop=True)
        check_model(inferred, where)
        return inferred

    def _before_weighted(self) -> set[str]:
        """Names of the nodes that a convolution or product follows."""
        leading: set[str] = set()
        before: set[str] = set()
        for node in reversed(self._graph.node):
            if node.op_type in WEIGHTED or leading.intersection(node.output):
                leading.update(name for name in node.input if name)
                before.add(node.name)
        return before

    def _reason(self, node: onnx.NodeProto) -> str | None:
        """Why a node stays in float32; None if it does not."""
        if not any(name in self._floats for name in (*node.input, *node.output)):
            return None
        if node.name in self._keep:
            return "asked for"
        if node.name not in self._weighted_follows:
            return "after the last convolution"
        if node.domain not in ("", "ai.onnx"):
            return f"operator of the domain {node.domain}"
        if node.op_type in SENSITIVE:
            return f"{node.op_type} is sensitive"
        if not any(self._free_types(node)):
            return f"{node.op_type} has no half form"
        for name in (*node.input, *node.output):
            value = self._largest.get(name, 0.0)
            if value > LARGEST:
                return f"{name!r} reaches {value:.3g}"
        for name in node.input:
            if name in self._arrays and name in self._floats and node.op_type not in _SCALED:
                reason = self._constant_reason(name, is_factor=node.op_type in _FACTORS)
                if reason:
                    return reason
        return None

    def _constant_reason(self, name: str, is_factor: bool) -> str | None:
        array = np.abs(self._lib.numpy_helper.to_array(self._arrays[name]))
        largest = float(array.max(initial=0.0))
        if largest > LARGEST:
            return f"constant {name!r} reaches {largest:.3g}"
        # A lone small number may be there to divide by; of many, the largest says whether they are all small.
        vanishes = 0 < largest < _SMALLEST and not (is_factor and largest < _DEAD)
        return f"constant {name!r} is as small as {largest:.3g}" if vanishes else None

    def _free_types(self, node: onnx.NodeProto) -> tuple[frozenset[int], frozenset[int]]:
        """Which inputs and outputs of an operator may be halves where they are float32."""
        schema = self._lib.defs.get_schema(node.op_type, self._opset, "")
        free = {
            c.type_param_str
            for c in schema.type_constraints
            if {"tensor(float16)", "tensor(float)"} <= set(c.allowed_type_strs)
        }
        if node.op_type == "Cast":  # its output is what its attribute says
            return frozenset({0}), frozenset({0})
        ins = frozenset(i for i in range(len(node.input)) if _formal(schema.inputs, i) in free)
        outs = frozenset(i for i in range(len(node.output)) if _formal(schema.outputs, i) in free)
        if node.op_type == "Resize":  # a float type of its own for the region, and scales that are always float32
            ins = frozenset({0})
        return ins, outs

    def _change_attributes(self, node: onnx.NodeProto) -> None:
        lib = self._lib
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == lib.TensorProto.FLOAT:
                attribute.i = lib.TensorProto.FLOAT16
            elif node.op_type == "ConstantOfShape" and attribute.t.data_type == lib.TensorProto.FLOAT:
                array = lib.numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(lib.numpy_helper.from_array(array))
        if node.op_type == "DequantizeLinear" and attributes_of(node).get("output_dtype") == lib.TensorProto.FLOAT:
            node.attribute.remove(next(a for a in node.attribute if a.name == "output_dtype"))

    def _finish(self, name: str, source: str, half_io: bool, half: set[str], nodes: list[onnx.NodeProto]) -> None:
        """Give an output of the network its name and the type that it is to have."""
        if (source in half) == half_io:
            return
        kind = self._lib.TensorProto.FLOAT16 if half_io else self._lib.TensorProto.FLOAT
        if source == name:  # its maker and readers take another name
            source = f"{name}/single_result"
            for node in nodes:
                for names in (node.input, node.output):
                    for index, one in enumerate(names):
                        names[index] = source if one == name else one
        nodes.append(self._lib.helper.make_node("Cast", [source], [name], name=f"Cast:{name}", to=kind))

    def _declare(self, half_io: bool) -> None:
        if half_io:
            for value in (*self._graph.input, *self._graph.output):
                if value.name in self._floats:
                    value.type.tensor_type.elem_type = self._lib.TensorProto.FLOAT16


def _formal(parameters: object, index: int) -> str:
    """The type of the parameter that an argument belongs to; the last one of some operators takes any number."""
    listed = list(parameters)  # type: ignore[call-overload]
    return str(listed[min(index, len(listed) - 1)].type_str)
