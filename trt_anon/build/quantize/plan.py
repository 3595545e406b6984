"""A network made ready to be quantized: any set of its layers can then be put into INT8 or FP8."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.calibration import Calibration
from trt_anon.build.patch import drop_unused_initializers
from trt_anon.build.quantize.equalize import equalized
from trt_anon.build.quantize.layers import Layer, find_layers
from trt_anon.build.quantize.placement import place
from trt_anon.build.quantize.write import Clips, Codes, write_qdq
from trt_anon.build.tidy import network_sha256
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Plan:
    """A tidied (and equalized) network, its layers, the ranges of values and weights, and what is added to biases."""

    model: onnx.ModelProto
    layers: Mapping[str, Layer]
    clips: Clips
    bias: Mapping[str, NDArray[np.float64]]

    def quantized(self, names: Collection[str], codes: Codes = "int8", where: str = "model") -> onnx.ModelProto:
        """The network with the layers of these names quantized."""
        names = [name for name in self.layers if name in names]
        shifts = {name: self.bias[name] for name in names if name in self.bias and codes == "int8"}
        chosen = Clips(self.clips.values, {name: self.clips.weights[name] for name in names})
        model = with_bias(self.model, self.layers, shifts)
        return write_qdq(model, self.layers, place(model, self.layers, names), chosen, codes, where)


def plan_of(model: onnx.ModelProto, calibration: Calibration, codes: Codes = "int8", where: str = "model") -> Plan:
    """The plan that a calibration holds for a tidied network.

    FP8 has the same relative precision everywhere, so nothing is cut off: its ranges are the largest values. Raises
    ModelError for another network than the one calibrated.
    """
    if network_sha256(model) != calibration.network_sha256:
        raise ModelError(
            f"{where}: the calibration is of another network (by its layers and weights); calibrate this one"
        )
    changed = equalized(model, find_layers(model), calibration.equalized, where)
    layers = find_layers(changed)
    missing = [name for name in calibration.weights if name not in layers]
    if missing:
        raise ModelError(f"{where}: has no layer {missing[0]!r}, which the calibration names")
    if codes == "int8":
        values = dict(calibration.ranges)
        weights = {name: np.array(vector, np.float64) for name, vector in calibration.weights.items()}
    else:
        values = {name: calibration.largest.get(name, clip) for name, clip in calibration.ranges.items()}
        weights = {name: np.abs(layers[name].weights).max().astype(np.float64) for name in calibration.weights}
    bias = {name: np.array(vector, np.float64) for name, vector in calibration.bias.items()}
    return Plan(changed, layers, Clips(values, weights), bias)


def with_bias(
    model: onnx.ModelProto, layers: Mapping[str, Layer], shifts: Mapping[str, NDArray[np.float64]]
) -> onnx.ModelProto:
    """A copy with these vectors added to the biases of layers."""
    lib = require("onnx", "quantizing a model")
    changed: onnx.ModelProto = lib.ModelProto()
    changed.CopyFrom(model)
    arrays = {t.name: t for t in model.graph.initializer}
    nodes = {node.name: node for node in changed.graph.node}
    for name, vector in shifts.items():
        layer = layers[name]
        node = nodes[layer.node]
        old = lib.numpy_helper.to_array(arrays[layer.bias_name]).astype(np.float64) if layer.bias_name else 0.0
        fresh = f"{name}/bias_corrected"
        changed.graph.initializer.append(lib.numpy_helper.from_array((old + vector).astype(np.float32), fresh))
        del node.input[2:]
        node.input.append(fresh)
    drop_unused_initializers(changed.graph)
    return changed
