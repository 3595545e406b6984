"""Cross-layer equalization: the channels between two layers are scaled so that they fill one range evenly.

A channel that is a hundred times smaller than its neighbour gets a hundredth of the codes. Between a layer and those
that read its result, through operators that keep factors (Relu, LeakyRelu, PRelu, MaxPool), each channel may be divided
by a factor that the next weights are multiplied by: the network computes the same (Nagel et al., Data-Free
Quantization, 2019). The factors follow the data's largest values and the next weights, half each (Xiao et al.,
SmoothQuant, 2023), since weights have a range for each output channel, which dividing does not change, but data has one
range for all. They are powers of two, so that not even the last digit changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.quantize.layers import Layer
from trt_anon.build.tidy import consumers_of
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

_KEEPS_FACTORS = frozenset({"Relu", "LeakyRelu", "PRelu", "MaxPool"})
_MOST = 64.0
"""A channel is not made larger or smaller by more than this."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer, and all the layers that read its result; `value` is what they read."""

    first: str
    value: str
    readers: tuple[str, ...]


def find_pairs(model: onnx.ModelProto, layers: Mapping[str, Layer]) -> list[Pair]:
    """Where channels can be scaled, in the order of the network."""
    graph = model.graph
    consumers = consumers_of(graph)
    outputs = {o.name for o in graph.output}
    by_node = {layer.node: layer for layer in layers.values()}
    pairs = []
    for layer in layers.values():
        if layer.operator not in ("Conv", "ConvTranspose"):
            continue
        value = layer.name
        while value not in outputs:
            nodes = consumers.get(value, [])
            if len(nodes) != 1 or nodes[0].op_type not in _KEEPS_FACTORS or nodes[0].input[0] != value:
                break
            value = nodes[0].output[0]
        readers = [by_node.get(node.name) for node in consumers.get(value, [])]
        scalable = [one for one in readers if one is not None and one.operator in ("Conv", "ConvTranspose")]
        reads_data = all(one.data == value for one in scalable)
        if value not in outputs and readers and len(scalable) == len(readers) and reads_data:
            pairs.append(Pair(layer.name, value, tuple(one.name for one in scalable)))
    return pairs


def factors_for(pair: Pair, layers: Mapping[str, Layer], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """By what to divide each channel of the pair's value; `largest`: the largest magnitude of each channel."""
    weights = np.max([_largest_by_input(layers[name], len(largest)) for name in pair.readers], axis=0)
    there = (largest > 0) & (weights > 0)
    factors = np.ones_like(largest)
    factors[there] = np.sqrt(largest[there] / weights[there])
    if there.any():
        factors[there] /= np.exp(np.log(factors[there]).mean())
    # Powers of two change no digit of a weight.
    return np.asarray(np.exp2(np.rint(np.log2(np.clip(factors, 1 / _MOST, _MOST)))), np.float64)


def equalized(
    model: onnx.ModelProto, layers: Mapping[str, Layer], factors: Mapping[str, Sequence[float]], where: str = "model"
) -> onnx.ModelProto:
    """A copy of a tidied network with the channels after the layers of these names divided by their factors.

    Raises ModelError where the network is another than the factors are for.
    """
    lib = require("onnx", "quantizing a model")
    changed: onnx.ModelProto = lib.ModelProto()
    changed.CopyFrom(model)
    if not factors:
        return changed
    pairs = {pair.first: pair for pair in find_pairs(model, layers)}
    arrays = {t.name: lib.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = {layer.name: layer.weights for layer in layers.values()}
    biases = {layer.name: arrays[layer.bias_name] for layer in layers.values() if layer.bias_name}
    for name, vector in factors.items():
        by = np.array(vector, np.float32)
        if name not in pairs or by.shape != (layers[name].outputs,):
            raise ModelError(
                f"{where}: cannot scale the channels after {name!r}; is the calibration of another network?"
            )
        weights[name] = _by_output(layers[name], weights[name], np.float32(1) / by)
        if name in biases:
            biases[name] = (biases[name] / by).astype(np.float32)
        for reader in pairs[name].readers:
            weights[reader] = _by_input(layers[reader], weights[reader], by)
    replaced = set()
    for name, layer in layers.items():
        node = next(n for n in changed.graph.node if n.name == layer.node)
        for index, array in ((1, weights[name]), (2, biases.get(name))):
            if array is not None and not np.array_equal(array, arrays[node.input[index]]):
                fresh = f"{name}/{'weights' if index == 1 else 'bias'}_equalized"
                replaced.add(node.input[index])
                node.input[index] = fresh
                changed.graph.initializer.append(lib.numpy_helper.from_array(array.astype(np.float32), fresh))
    still = {name for node in changed.graph.node for name in node.input}
    kept = [t for t in changed.graph.initializer if t.name in still or t.name not in replaced]
    del changed.graph.initializer[:]
    changed.graph.initializer.extend(kept)
    return changed


def _largest_by_input(layer: Layer, channels: int) -> NDArray[np.float64]:
    """The largest magnitude of the weights that each channel of the data is multiplied by."""
    weights = np.abs(layer.weights)
    if layer.operator == "ConvTranspose":
        return np.asarray(weights.max(axis=tuple(range(1, weights.ndim))), np.float64)
    by_group = weights.max(axis=tuple(range(2, weights.ndim)))  # (outputs, inputs of a group)
    grouped = by_group.reshape(layer.group, -1, by_group.shape[1]).max(axis=1)
    return np.asarray(grouped.reshape(channels), np.float64)


def _by_input(layer: Layer, weights: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    trailing = (1,) * (weights.ndim - 2)
    if layer.operator == "ConvTranspose":
        return weights * factors.reshape(-1, 1, *trailing)
    outputs, inputs = weights.shape[:2]
    per_group = factors.reshape(layer.group, 1, inputs).repeat(outputs // layer.group, axis=1)
    return weights * per_group.reshape(outputs, inputs, *trailing)


def _by_output(layer: Layer, weights: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    trailing = (1,) * (weights.ndim - 2)
    if layer.operator == "Conv":
        return weights * factors.reshape(-1, 1, *trailing)
    inputs, outputs = weights.shape[:2]
    per_group = factors.reshape(layer.group, 1, outputs).repeat(inputs // layer.group, axis=1)
    return weights * per_group.reshape(inputs, outputs, *trailing)
