"""How much of each output channel's weights INT8 shall stand for, and what their rounding adds to the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.quantize.layers import Layer
from trt_anon.build.quantize.write import codes_of, per_channel, scale_of

_SHARES = np.linspace(1.0, 0.5, 51)
"""Of the largest weight of a channel, to be tried."""


def largest_weights(layer: Layer) -> NDArray[np.float64]:
    """The largest magnitude of each output channel."""
    return np.asarray(np.abs(layer.weights).max(axis=_other_axes(layer)), np.float64)


def searched(layer: Layer, mean_square: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """For each output channel the range at which rounding its weights changes the layer's result least.

    mean_square: of each channel of the layer's data; weights count as much as what they are multiplied by. None takes
    all alike.
    """
    largest = largest_weights(layer)
    importance = 1.0 if mean_square is None else spread_over_weights(layer, mean_square)
    best, least = largest.copy(), np.full(largest.shape, np.inf)
    for share in _SHARES:
        difference = rounded(layer, largest * share).astype(np.float64) - layer.weights
        error = (np.square(difference) * importance).sum(axis=_other_axes(layer))
        better = error < least
        best[better], least[better] = largest[better] * share, error[better]
    return best


def rounded(layer: Layer, clip: NDArray[np.float64]) -> NDArray[np.float32]:
    """The weights as they are when dequantized."""
    scale = per_channel(scale_of(clip), layer.axis, layer.weights.ndim)
    restored: NDArray[np.float32] = codes_of(layer.weights, scale) * scale
    return restored


def shift(layer: Layer, clip: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much rounded weights move the mean of each output channel, for data of this mean of each channel.

    What is to be subtracted from the biases (Nagel et al., Data-Free Quantization, 2019, equation 17). Borders, where
    data is padded, count as the rest.
    """
    difference = rounded(layer, clip).astype(np.float64) - layer.weights
    moved = difference * spread_over_weights(layer, mean)
    if layer.operator != "ConvTranspose":
        total: NDArray[np.float64] = moved.sum(axis=_other_axes(layer))
        return total
    # Each input place gives to each output place within the kernel once for every stride's worth of places: the mean
    # over output places is the sum over the kernel divided by the area of the stride.
    grouped = moved.reshape(layer.group, -1, *moved.shape[1:])
    return np.asarray(grouped.sum(axis=(1, *range(3, grouped.ndim))).ravel() / layer.stride_area)


def spread_over_weights(layer: Layer, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """A figure of each channel of the data, shaped to go with the weights that multiply it."""
    shape = layer.weights.shape
    trailing = (1,) * (len(shape) - 2)
    if layer.operator == "Conv":
        outputs, inputs = shape[:2]
        grouped = vector.reshape(layer.group, 1, inputs).repeat(outputs // layer.group, axis=1)
        return grouped.reshape(outputs, inputs, *trailing)
    if layer.operator == "ConvTranspose":
        return vector.reshape(-1, 1, *trailing)
    return per_channel(vector, 1 - layer.axis, 2)


def _other_axes(layer: Layer) -> tuple[int, ...]:
    return tuple(axis for axis in range(layer.weights.ndim) if axis != layer.axis)
