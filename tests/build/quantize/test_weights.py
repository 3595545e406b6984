"""Ranges of weights, and what rounding them moves."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from trt_anon.build.quantize.layers import find_layers
from trt_anon.build.quantize.weights import largest_weights, rounded, searched, shift, spread_over_weights


@pytest.fixture
def one(nets, networks):
    """A network of one layer, and the layer; with outliers in its weights."""

    def made(operator, shape, group=1, stride=1):
        weights = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
        weights.reshape(-1)[:: weights.size // 7] *= 6
        channels = shape[0] if operator == "ConvTranspose" else shape[1] * group
        node = helper.make_node(operator, ["input", "w"], ["out"], group=group, strides=[stride] * 2)
        model = nets.net(
            [node], [networks.constant("w", weights, np.float32)], {"out": [None] * 4}, shape=(1, channels, 40, 40)
        )
        return model, find_layers(model)["out"]

    return made


SHAPES = [
    ("Conv", (16, 8, 3, 3), 1, 1), ("Conv", (16, 4, 3, 3), 4, 2), ("Conv", (16, 1, 3, 3), 16, 1),
    ("ConvTranspose", (8, 12, 2, 2), 1, 2), ("ConvTranspose", (8, 3, 4, 4), 4, 2),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "shape", "group", "stride"), SHAPES)
def test_searched_ranges_round_no_worse(one, operator, shape, group, stride):
    _, layer = one(operator, shape, group, stride)
    channels = shape[0] if operator == "ConvTranspose" else shape[1] * group
    importance = np.random.default_rng(1).uniform(0.01, 4, channels)

    def error(clip):
        difference = (rounded(layer, clip) - layer.weights).astype(np.float64)
        return (np.square(difference) * spread_over_weights(layer, importance)).sum()

    whole, found = largest_weights(layer), searched(layer, importance)
    assert found.shape == whole.shape == (layer.channels,)
    assert (found <= whole).all()
    assert error(found) <= error(whole)
    if operator == "Conv" and group == 1:
        assert error(found) < error(whole)


@pytest.mark.parametrize(("operator", "shape", "group", "stride"), SHAPES)
def test_the_shift_is_what_rounding_moves_on_average(one, run, operator, shape, group, stride):
    """Measured on data that is constant in each channel, away from borders."""
    model, layer = one(operator, shape, group, stride)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    mean = np.random.default_rng(2).uniform(-1, 3, channels)
    data = np.broadcast_to(mean.reshape(1, -1, 1, 1), (1, channels, 40, 40)).astype(np.float32)
    clip = largest_weights(layer) * 0.7
    changed = type(model)()
    changed.CopyFrom(model)
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(rounded(layer, clip), layer.weights_name))
    before, after = (run(m, {"input": data})["out"][0] for m in (model, changed))
    inner = (after - before)[:, 8:-8, 8:-8]
    measured = inner[:, : inner.shape[1] // 2 * 2, : inner.shape[2] // 2 * 2].mean(axis=(1, 2))
    assert np.abs(measured).max() > 0.01
    np.testing.assert_allclose(shift(layer, clip, mean), measured, atol=1e-4)


def test_products_count_each_input(nets, networks):
    weights = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["input", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["out"], transB=1),
    ]
    constants = [networks.constant("w", weights, np.float32), networks.constant("flat", [1, -1])]
    layer = find_layers(nets.net(nodes, constants, {"out": (1, 12)}, shape=(1, 1, 4, 4)))["out"]
    mean, clip = np.arange(16.0), largest_weights(layer) * 0.5
    np.testing.assert_allclose(shift(layer, clip, mean), (rounded(layer, clip) - weights) @ mean, atol=1e-5)
