"""Where QuantizeLinear and DequantizeLinear go, by the rules that TensorRT fuses best and the other runtimes accept.

- Before the data of every layer that is to run in INT8, and nowhere else: never between a convolution and its
  activation (Relu, or Sigmoid and Mul, as one unit with it), never on an output of the network, never on a bias.
- On a residual Add, on the input that is not the convolution's own result: convolution, addition and activation are
  then one kernel that writes INT8.
- Values that are only moved (Concat, MaxPool, Reshape, nearest Resize ...) keep one scale: then the move itself runs in
  INT8, and nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trt_anon.build.quantize.layers import Layer
from trt_anon.build.tidy import attributes_of, consumers_of

if TYPE_CHECKING:
    import onnx

_MOVES = frozenset({
    "Concat", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather",
    "SpaceToDepth", "DepthToSpace", "Expand", "Tile",
})  # fmt: skip
_DATA_FIRST = _MOVES - {"Concat"}  # their other inputs say how to move
_ACTIVATIONS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Elu", "Mish", "Gelu",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placement:
    """Which values are quantized.

    readers: for each of them the nodes, by name, that read the quantized value; all others read it as it was. groups:
    values that share a scale, by a value that stands for all of them; a value of a group need not be quantized itself.
    """

    readers: Mapping[str, tuple[str, ...]]
    groups: Mapping[str, tuple[str, ...]]


def place(model: onnx.ModelProto, layers: Mapping[str, Layer], quantized: Collection[str]) -> Placement:
    """Where to quantize so that the layers of these names run in INT8; the model is one of `tidy`."""
    graph = model.graph
    wanted = [layers[name] for name in layers if name in quantized]
    readers: dict[str, list[str]] = {}
    for layer in wanted:
        readers.setdefault(layer.data, []).append(layer.node)
    consumers = consumers_of(graph)
    makers = {name: node for node in graph.node for name in node.output}
    names = {layer.name for layer in wanted}
    for node in graph.node:
        if node.op_type == "Add":
            residual = _residual(node, names, makers, consumers, readers)
            if residual is not None:
                readers.setdefault(residual, []).append(node.name)
    return _grouped(graph, readers)


def everywhere(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> Placement:
    """Every value that `place` may quantize for any set of layers, with all who may read it so."""
    readers: dict[str, list[str]] = {}
    for layer in layers.values():
        readers.setdefault(layer.data, []).append(layer.node)
    made = {name for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Add" and any(name in layers for name in node.input):
            for name in dict.fromkeys(node.input):
                if name in made:
                    readers.setdefault(name, []).append(node.name)
    return _grouped(model.graph, readers)


def _grouped(graph: onnx.GraphProto, readers: Mapping[str, list[str]]) -> Placement:
    shared = _shared(graph)
    groups: dict[str, list[str]] = {}
    for value in readers:
        groups.setdefault(shared.get(value, value), []).append(value)
    return Placement({k: tuple(v) for k, v in readers.items()}, {k: tuple(v) for k, v in groups.items()})


def _residual(
    add: onnx.NodeProto,
    quantized: Collection[str],
    makers: Mapping[str, onnx.NodeProto],
    consumers: Mapping[str, list[onnx.NodeProto]],
    readers: Mapping[str, list[str]],
) -> str | None:
    """The input of an Add to quantize so that it is part of the convolution that makes the other; None for none."""
    if add.input[0] == add.input[1] or not _result_is_quantized(add.output[0], consumers, readers):
        return None  # written as floats anyhow
    makes = [_unit_of(name, quantized, makers, consumers) for name in add.input]
    other = [name in makers for name in add.input]
    for own, residual in ((0, 1), (1, 0)):
        if makes[own] and other[residual] and not makes[residual]:
            return str(add.input[residual])
    if all(makes):  # both are convolutions' own results: one is computed first, and is the other's residual
        return str(add.input[1])
    return None


def _unit_of(
    value: str,
    quantized: Collection[str],
    makers: Mapping[str, onnx.NodeProto],
    consumers: Mapping[str, list[onnx.NodeProto]],
) -> bool:
    """Whether a quantized layer makes this value for one reader only."""
    return value in quantized and len(consumers.get(value, ())) == 1 and value in makers


def _result_is_quantized(
    value: str, consumers: Mapping[str, list[onnx.NodeProto]], readers: Mapping[str, list[str]]
) -> bool:
    """Whether a value, or what its activations and moves make of it, is read as INT8 by anyone."""
    waiting, seen = [value], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in readers:
            return True
        for node in consumers.get(name, ()):
            if node.op_type in _ACTIVATIONS or node.op_type in _MOVES or node.op_type == "Mul":
                waiting.extend(node.output)
    return False


def _shared(graph: onnx.GraphProto) -> dict[str, str]:
    """For each value that is moved, the one that stands for all that it is moved to and from."""
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while roots.setdefault(name, name) != name:
            name = roots[name]
        return name

    made = {name for node in graph.node for name in node.output} | {i.name for i in graph.input}
    for node in graph.node:
        if not _moves(node):
            continue
        sources = [node.input[0]] if node.op_type in _DATA_FIRST or node.op_type == "Resize" else list(node.input)
        for name in (*sources, *node.output):
            if name in made:
                first, second = sorted((root(node.output[0]), root(name)))
                roots[second] = first
    return {name: root(name) for name in roots}


def _moves(node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        return bool(attributes_of(node).get("mode", b"nearest") == b"nearest")
    return node.op_type in _MOVES
