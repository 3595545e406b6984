"""The front of a network as TensorRT wants it: a uint8 input is read by a Cast, before anything moves its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trt_anon._optional import require
from trt_anon.build.load import check_model
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

# They move values without computing any, so that they may as well follow the conversion to float.
_MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def cast_first(model: onnx.ModelProto, where: str = "model") -> onnx.ModelProto:
    """A copy in which a uint8 input goes straight into its Cast; other networks are copied as they are.

    `patch.fold_input` puts a Reshape around its Cast, in the form that OpenVINO likes; TensorRT refuses a Reshape of
    uint8. Computes the same values. Raises ModelError where the input is used otherwise than by one chain that ends in
    a Cast.
    """
    lib = require("onnx", "building an engine")
    changed: onnx.ModelProto = lib.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    constants = {t.name for t in graph.initializer}
    sources = [i for i in graph.input if i.name not in constants]
    for source in sources:
        if source.type.tensor_type.elem_type == lib.TensorProto.UINT8:
            _move_cast(graph, source.name, where)
    check_model(changed, where)
    return changed


def _move_cast(graph: onnx.GraphProto, source: str, where: str) -> None:
    lib = require("onnx", "building an engine")
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    chain: list[onnx.NodeProto] = []
    value, cast = source, None
    while cast is None:
        users = readers.get(value, [])
        if len(users) != 1 or users[0].op_type not in (*_MOVING, "Cast") or users[0].input[0] != value:
            what = ", ".join(sorted({node.op_type for node in users})) or "nothing"
            raise ModelError(f"{where}: its uint8 input {source!r} is read by {what}; TensorRT wants one Cast to float")
        if users[0].op_type == "Cast":
            cast = users[0]
        else:
            chain.append(users[0])
            value = users[0].output[0]
    if not chain:
        return
    # source -> chain -> cast -> result becomes source -> cast -> chain -> result
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    converted = f"{source}_converted"
    while converted in taken:
        converted += "_"
    result = cast.output[0]
    first, last = chain[0], chain[-1]
    moved = lib.NodeProto()
    moved.CopyFrom(cast)
    moved.input[0], moved.output[0] = source, converted
    first.input[0] = converted
    last.output[0] = result
    in_front = {id(node) for node in (*chain, cast)}
    nodes = [moved, *chain, *(node for node in graph.node if id(node) not in in_front)]
    copies = [lib.NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(copies)
