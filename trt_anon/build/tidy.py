"""Bringing a network into one form before its precision is changed: what reads alike is then quantized alike.

Constants are initializers, what follows from constants alone is computed, batch normalizations are part of the
convolutions before them, operators that do nothing are gone, and every node has a name. Values keep their names, so
that what was measured on one form of a network (with its picture input folded in, of another size) holds for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.load import check_model
from trt_anon.build.patch import drop_initializer_inputs, drop_unused_initializers
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

OPSET = 19
"""The first in which scales may be halves and values of 8-bit floats; TensorRT 10, 11 and RTX read it."""

_IR_VERSION = 9

_WEIGHTED = ("Conv", "ConvTranspose")
_NOTHING = ("Identity", "Dropout")
_LARGEST_CONSTANT_BYTES = 64 << 20
_NOT_FOLDED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})


def tidy(model: onnx.ModelProto, *, where: str = "model") -> onnx.ModelProto:
    """A copy that computes the same and is in that form, of opset 19 or later.

    Raises ModelError for networks with branches or loops, and for those that cannot be brought to that opset.
    """
    lib = require("onnx", "reading a model")
    tidied: onnx.ModelProto = lib.ModelProto()
    tidied.CopyFrom(model)
    if any(a.HasField("g") or a.graphs for node in tidied.graph.node for a in node.attribute):
        raise ModelError(f"{where}: has branches or loops (If, Loop, Scan); its precision cannot be changed")
    drop_initializer_inputs(tidied)
    tidied = _raised(tidied, where)
    _lift_constants(tidied.graph)
    _drop_nothings(tidied.graph)
    _fold_constants(tidied, where)
    _fold_batch_norms(tidied.graph)
    _name_nodes(tidied.graph)
    drop_unused_initializers(tidied.graph)
    del tidied.graph.value_info[:]
    inferred: onnx.ModelProto = lib.shape_inference.infer_shapes(tidied, data_prop=True)
    check_model(inferred, where)
    return inferred


def network_sha256(model: onnx.ModelProto) -> str:
    """The hash of what a tidied network computes with: its convolutions and products, their weights and attributes.

    It is the same whatever its input's form and size.
    """
    lib = require("onnx", "reading a model")
    constants = {t.name: t for t in model.graph.initializer}
    digest = hashlib.sha256()
    for node in model.graph.node:
        if node.op_type not in (*_WEIGHTED, "Gemm", "MatMul"):
            continue
        digest.update(f"{node.op_type} {' '.join(node.output)}\n".encode())
        for attribute in sorted(node.attribute, key=lambda a: str(a.name)):
            digest.update(f"{attribute.name}={lib.helper.get_attribute_value(attribute)}\n".encode())
        for name in node.input:
            if name in constants:
                array = lib.numpy_helper.to_array(constants[name])
                digest.update(f"{array.dtype} {array.shape}\n".encode() + array.tobytes())
    return digest.hexdigest()


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as plain values."""
    lib = require("onnx", "reading a model")
    return {a.name: lib.helper.get_attribute_value(a) for a in node.attribute}


def consumers_of(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each value."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                found.setdefault(name, []).append(node)
    return found


def _raised(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    lib = require("onnx", "reading a model")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    raised: onnx.ModelProto = model
    if opset < OPSET:
        converter = require("onnx.version_converter", "raising a model's opset")
        try:
            raised = converter.convert_version(model, OPSET)
        except (RuntimeError, converter.ConvertError, lib.checker.ValidationError) as error:
            raise ModelError(f"{where}: opset {opset} cannot be raised to {OPSET}: {error}; export it again") from error
        del raised.metadata_props[:]
        raised.metadata_props.extend(model.metadata_props)
    raised.ir_version = max(raised.ir_version, _IR_VERSION)
    return raised


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers."""
    lib = require("onnx", "reading a model")
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1:
            (attribute,) = node.attribute
            if attribute.name == "value":
                tensor = lib.TensorProto()
                tensor.CopyFrom(attribute.t)
                tensor.name = node.output[0]
                graph.initializer.append(tensor)
                continue
            kinds: dict[str, type[np.generic]] = {
                "value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32,
            }  # fmt: skip
            if attribute.name in kinds:
                array = np.asarray(lib.helper.get_attribute_value(attribute), kinds[attribute.name])
                graph.initializer.append(lib.numpy_helper.from_array(array, node.output[0]))
                continue
        kept.append(node)
    _replace_nodes(graph, kept)


def _drop_nothings(graph: onnx.GraphProto) -> None:
    """Identity and Dropout go; where one gives an output of the network, what it repeats takes that name."""
    outputs, inputs = {o.name for o in graph.output}, {i.name for i in graph.input}
    made = {name for node in graph.node for name in node.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type not in _NOTHING or any(node.output[1:]):
            kept.append(node)
            continue
        source, result = renamed.get(node.input[0], node.input[0]), node.output[0]
        if result not in outputs:
            _rename(renamed, result, source)
        elif source in made and source not in outputs and source not in inputs:
            _rename(renamed, source, result)
        else:
            kept.append(node)
    for node in kept:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = renamed.get(name, name)
    _replace_nodes(graph, kept)


def _rename(renamed: dict[str, str], old: str, new: str) -> None:
    for name, target in list(renamed.items()):
        if target == old:
            renamed[name] = new
    renamed[old] = new


def _fold_constants(model: onnx.ModelProto, where: str) -> None:
    """Compute what depends on constants alone."""
    lib = require("onnx", "reading a model")
    evaluator = require("onnx.reference", "folding constants").ReferenceEvaluator
    graph = model.graph
    constants = {t.name: lib.numpy_helper.to_array(t) for t in graph.initializer}
    outputs = {o.name for o in graph.output}
    kept = []
    for node in graph.node:
        names = [name for name in node.input if name]
        foldable = names and all(name in constants for name in names) and not outputs.intersection(node.output)
        if not foldable or node.op_type in _NOT_FOLDED or node.op_type.startswith("Random") or node.domain:
            kept.append(node)
            continue
        single = lib.helper.make_graph(
            [node], "constant", [], [lib.helper.make_empty_tensor_value_info(name) for name in node.output if name],
            [lib.numpy_helper.from_array(constants[name], name) for name in dict.fromkeys(names)],
        )  # fmt: skip
        runnable = lib.helper.make_model(single, opset_imports=model.opset_import, ir_version=model.ir_version)
        try:
            values = evaluator(runnable).run(None, {})
        except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, KeyError) as error:
            raise ModelError(f"{where}: {node.op_type} {node.output[0]!r} of constants fails: {error}") from error
        if sum(np.asarray(value).nbytes for value in values) > _LARGEST_CONSTANT_BYTES:
            kept.append(node)
            continue
        for name, value in zip((name for name in node.output if name), values, strict=True):
            constants[name] = np.asarray(value)
            graph.initializer.append(lib.numpy_helper.from_array(constants[name], name))
    _replace_nodes(graph, kept)


def _fold_batch_norms(graph: onnx.GraphProto) -> None:
    """A batch normalization of nothing but a convolution's result becomes part of that convolution."""
    lib = require("onnx", "reading a model")
    constants = {t.name: lib.numpy_helper.to_array(t) for t in graph.initializer}
    outputs = {o.name for o in graph.output}
    readers, makers = consumers_of(graph), {node.output[0]: node for node in graph.node}
    gone = []
    for node in graph.node:
        if node.op_type != "BatchNormalization" or not all(name in constants for name in node.input[1:]):
            continue
        conv = makers.get(node.input[0])
        alone = len(readers.get(node.input[0], ())) == 1 and node.input[0] not in outputs
        if conv is None or conv.op_type not in _WEIGHTED or not alone or conv.input[1] not in constants:
            continue
        if len(conv.input) > 2 and conv.input[2] and conv.input[2] not in constants:
            continue
        epsilon = attributes_of(node).get("epsilon", 1e-5)
        gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:5])
        factor = gamma / np.sqrt(variance + epsilon)
        weights = constants[conv.input[1]]
        scaled = _scaled_outputs(weights, factor, conv)
        bias = constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 and conv.input[2] else 0.0
        shifted = ((bias - mean) * factor + beta).astype(weights.dtype)
        names = (f"{node.output[0]}/weights", f"{node.output[0]}/bias")
        for name, array in zip(names, (scaled, shifted), strict=True):
            graph.initializer.append(lib.numpy_helper.from_array(array, name))
            constants[name] = array
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = node.output[0]
        makers[node.output[0]] = conv
        gone.append(node.output[0])
    kept = [n for n in graph.node if not (n.op_type == "BatchNormalization" and n.output[0] in gone)]
    _replace_nodes(graph, kept)


def _scaled_outputs(weights: NDArray[Any], factor: NDArray[np.float64], conv: onnx.NodeProto) -> NDArray[Any]:
    """The weights with each output channel multiplied by its factor."""
    spatial = (1,) * (weights.ndim - 2)
    if conv.op_type == "Conv":
        return (weights * factor.reshape(-1, 1, *spatial)).astype(weights.dtype)
    group = int(attributes_of(conv).get("group", 1))
    grouped = weights.reshape(group, weights.shape[0] // group, *weights.shape[1:])
    return (grouped * factor.reshape(group, 1, -1, *spatial)).reshape(weights.shape).astype(weights.dtype)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Nodes without a name, or with one that another has, get one from what they give."""
    taken: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in taken:
            node.name = _unique(f"{node.op_type}:{next(name for name in node.output if name)}", taken)
        taken.add(node.name)


def _unique(wish: str, taken: set[str]) -> str:
    return next(name for name in _numbered(wish) if name not in taken)


def _numbered(wish: str) -> Iterator[str]:
    yield wish
    number = 0
    while True:
        number += 1
        yield f"{wish}_{number}"


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
