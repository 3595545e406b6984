"""Equalization changes no output by a single bit, and makes ranges even."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from trt_anon.build.quantize.collect import collect_channels
from trt_anon.build.quantize.equalize import equalized, factors_for, find_pairs
from trt_anon.build.quantize.layers import find_layers
from trt_anon.build.quantize.network import Reference
from trt_anon.build.quantize.tune import helpful_factors
from trt_anon.errors import ModelError


def channels_of(model, layers, feeds):
    return collect_channels(model, {layer.data: layer.data_axis for layer in layers.values()}, feeds)


def test_pairs_are_found_where_only_layers_read_a_result(nets):
    model = nets.chain()
    pairs = find_pairs(model, find_layers(model))
    assert [(pair.first, pair.value, pair.readers) for pair in pairs] == [
        ("a", "ra", ("b",)), ("b", "rb", ("c",)), ("c", "rc", ("d",)), ("d", "d", ("e",)),
    ]  # fmt: skip


@pytest.mark.parametrize("between", ["Sigmoid", "output", "Add", "Clip"])
def test_there_is_no_pair_across_what_does_not_keep_factors(nets, between):
    nodes = [helper.make_node("Conv", ["input", "wa"], ["a"], pads=[1] * 4)]
    if between in ("Sigmoid", "Clip"):
        nodes.append(helper.make_node(between, ["a"], ["m"]))
    elif between == "Add":
        nodes.append(helper.make_node("Add", ["a", "a"], ["m"]))
    source = "a" if between == "output" else "m"
    nodes.append(helper.make_node("Conv", [source, "wb"], ["out"]))
    outputs = {"out": [None] * 4} | ({"a": [None] * 4} if between == "output" else {})
    model = nets.net(nodes, [nets.weights("wa", 16, 3, 3, 3), nets.weights("wb", 16, 16, 1, 1)], outputs)
    assert find_pairs(model, find_layers(model)) == []


def test_outputs_stay_bit_by_bit_and_ranges_become_even(nets, run):
    model = nets.chain(spread=30)
    layers, feeds = find_layers(model), nets.feeds()
    before = channels_of(model, layers, feeds)
    pairs = find_pairs(model, layers)
    factors = {pair.first: tuple(factors_for(pair, layers, before[pair.value].largest)) for pair in pairs}
    assert any(set(vector) != {1.0} for vector in factors.values())
    changed = equalized(model, layers, factors)
    np.testing.assert_array_equal(run(changed, feeds[0])["e"], run(model, feeds[0])["e"])
    after = channels_of(changed, find_layers(changed), feeds)

    def unevenness(channels, value):
        largest = channels[value].largest
        return np.log2(largest[largest > 0]).std()

    assert unevenness(after, "ra") < 0.8 * unevenness(before, "ra")


def test_transposed_and_grouped_convolutions_take_factors_too(nets, run):
    nodes = [
        helper.make_node("Conv", ["input", "wi"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("ConvTranspose", ["ra", "wt"], ["b"], strides=[2, 2], group=2),
        helper.make_node("MaxPool", ["b"], ["pb"], kernel_shape=[2, 2]),
        helper.make_node("Conv", ["pb", "wg"], ["c"], group=4),
        helper.make_node("Conv", ["c", "wo"], ["out"]),
    ]
    constants = [
        nets.weights("wi", 16, 3, 3, 3, spread=30), nets.weights("wt", 16, 8, 2, 2, spread=30),
        nets.weights("wg", 16, 4, 1, 1, spread=30), nets.weights("wo", 16, 16, 1, 1),
    ]  # fmt: skip
    model = nets.net(nodes, constants, {"out": [None] * 4}, shape=(1, 3, 24, 24))
    layers, feeds = find_layers(model), nets.feeds()
    pairs = find_pairs(model, layers)
    assert [pair.first for pair in pairs] == ["a", "b", "c"]
    seen = channels_of(model, layers, feeds)
    factors = {pair.first: tuple(factors_for(pair, layers, seen[pair.value].largest)) for pair in pairs}
    changed = equalized(model, layers, factors)
    np.testing.assert_array_equal(run(changed, feeds[0])["out"], run(model, feeds[0])["out"])


def test_it_is_kept_where_it_helps_only(nets):
    even, uneven = nets.chain(), nets.chain(spread=200)
    feeds = nets.feeds()
    kept = {}
    for name, model in (("even", even), ("uneven", uneven)):
        layers = find_layers(model)
        kept[name] = helpful_factors(model, layers, channels_of(model, layers, feeds), feeds, Reference(model, feeds))
    assert len(kept["even"]) < len(kept["uneven"])
    assert kept["uneven"]


def test_factors_of_another_network_are_refused(nets):
    model = nets.chain()
    for wrong in ({"nobody": (2.0,)}, {"a": (2.0, 2.0)}):
        with pytest.raises(ModelError, match="another network"):
            equalized(model, find_layers(model), wrong)
