"""Where Q/DQ go: each rule on a small network."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from trt_anon.build.quantize.layers import find_layers, multiply_adds
from trt_anon.build.quantize.placement import everywhere, place

PADS = [1, 1, 1, 1]


def conv(source, weights, result, **attributes):
    return helper.make_node("Conv", [source, weights], [result], name=result, pads=PADS, **attributes)


def node(operator, sources, result, **attributes):
    return helper.make_node(operator, sources, [result], name=result, **attributes)


@pytest.fixture
def wide(nets):
    """A network of a convolution to 16 channels, `x`, and of these nodes after it; w0 to w4 are weights."""

    def made(nodes, result="out", constants=()):
        weights = [nets.weights(f"w{i}", 16, 16, 3, 3) for i in range(5)]
        first = [conv("input", "wi", "x0"), node("Relu", ["x0"], "x")]
        model = nets.net(
            [*first, *nodes], [nets.weights("wi", 16, 3, 3, 3), *weights, *constants], {result: [None] * 4}
        )
        return model, find_layers(model)

    return made


def test_layers_start_outside_for_a_reason(nets):
    model = nets.chain()
    layers = find_layers(model)
    assert {name: layer.outside for name, layer in layers.items()} == {
        "a": "few channels", "b": None, "c": "depthwise", "d": None, "e": "head",
    }  # fmt: skip
    assert [name for name, layer in layers.items() if layer.last] == ["e"]


def test_multiply_adds_are_counted(nets):
    model = nets.chain(side=24)
    counts = multiply_adds(model, find_layers(model))
    places = 24 * 24
    assert counts == {
        "a": 16 * 3 * 9 * places, "b": 16 * 16 * 9 * places, "c": 16 * 9 * places, "d": 16 * 16 * places,
        "e": 10 * 16 * places,
    }  # fmt: skip


def test_only_what_quantized_layers_read_is_quantized(nets):
    model = nets.chain()
    layers = find_layers(model)
    assert place(model, layers, ["b", "d"]).readers == {"ra": ("b",), "rc": ("d",)}
    assert place(model, layers, []).readers == {}


def test_a_convolution_and_its_activation_are_one_unit(wide):
    model, layers = wide([
        conv("x", "w0", "c"), node("Sigmoid", ["c"], "s"), node("Mul", ["c", "s"], "silu"), conv("silu", "w1", "out"),
    ])  # fmt: skip
    assert set(place(model, layers, ["c", "out"]).readers) == {"x", "silu"}


def test_of_a_residual_addition_the_other_input_is_quantized(wide):
    model, layers = wide([
        conv("x", "w0", "c"), node("Relu", ["c"], "rc"), conv("rc", "w1", "d"), node("Add", ["d", "x"], "sum"),
        node("Relu", ["sum"], "rs"), conv("rs", "w2", "out"),
    ])  # fmt: skip
    every = place(model, layers, ["c", "d", "out"])
    assert every.readers == {"x": ("c", "sum"), "rc": ("d",), "rs": ("out",)}
    assert place(model, layers, ["c", "d"]).readers == {"x": ("c",), "rc": ("d",)}, "the sum is written as floats"
    assert place(model, layers, ["c", "out"]).readers == {"x": ("c",), "rs": ("out",)}, "d is not quantized"


def test_of_two_convolutions_that_are_added_the_second_is_the_residual(wide):
    model, layers = wide([
        conv("x", "w0", "c"), conv("x", "w1", "d"), node("Add", ["c", "d"], "sum"), conv("sum", "w2", "out"),
    ])  # fmt: skip
    assert place(model, layers, ["c", "d", "out"]).readers == {"x": ("c", "d"), "d": ("sum",), "sum": ("out",)}
    assert place(model, layers, ["d", "out"]).readers == {"x": ("d",), "c": ("sum",), "sum": ("out",)}


def test_a_value_added_to_itself_is_no_residual(wide):
    model, layers = wide([conv("x", "w0", "c"), node("Add", ["c", "c"], "sum"), conv("sum", "w1", "out")])
    assert place(model, layers, ["c", "out"]).readers == {"x": ("c",), "sum": ("out",)}


def test_values_that_are_joined_or_moved_share_a_scale(wide, networks):
    constants = [networks.constant("twice", [1, 1, 2, 2], np.float32)]
    model, layers = wide(
        [
            conv("x", "w0", "c"), node("Relu", ["c"], "rc"), conv("rc", "w1", "d"), node("Relu", ["d"], "rd"),
            conv("rd", "w2", "e"), node("Concat", ["rc", "rd"], "both", axis=2),
            node("MaxPool", ["both"], "pooled", kernel_shape=[2, 2], strides=[2, 2]),
            node("Resize", ["pooled", "", "twice"], "large", mode="nearest"), conv("large", "w3", "out"),
        ],
        constants=constants,
    )  # fmt: skip
    placement = place(model, layers, ["d", "e", "out"])
    assert set(placement.readers) == {"rc", "rd", "large"}
    assert [set(group) for group in placement.groups.values()] == [{"rc", "rd", "large"}]


def test_a_smooth_resize_makes_new_values(wide, networks):
    constants = [networks.constant("twice", [1, 1, 2, 2], np.float32)]
    model, layers = wide(
        [conv("x", "w0", "c"), node("Resize", ["c", "", "twice"], "large", mode="linear"), conv("large", "w1", "out")],
        constants=constants,
    )
    assert len(place(model, layers, ["c", "out"]).groups) == 2


def test_everywhere_covers_any_choice(wide):
    model, layers = wide([
        conv("x", "w0", "c"), conv("x", "w1", "d"), node("Add", ["c", "d"], "sum"), conv("sum", "w2", "out"),
    ])  # fmt: skip
    every = everywhere(model, layers)
    for chosen in (["c", "d", "out"], ["d", "out"], ["c", "out"], ["out"], list(layers)):
        for value, readers in place(model, layers, chosen).readers.items():
            assert set(readers) <= set(every.readers[value])


def test_products_are_layers_by_their_weights_axis(nets, networks):
    random = np.random.default_rng(0)
    constants = [
        networks.constant("g", random.normal(size=(16, 12)), np.float32),
        networks.constant("h", random.normal(size=(9, 16)), np.float32),
        networks.constant("m", random.normal(size=(9, 10)), np.float32),
        networks.constant("flat", [1, -1], np.int64),
    ]
    nodes = [
        node("Reshape", ["input", "flat"], "f"),
        helper.make_node("Gemm", ["f", "g"], ["p"], name="p"),
        helper.make_node("Transpose", ["p"], ["unused"], name="unused"),
    ]
    model = nets.net(nodes[:2], constants[:1] + constants[3:], {"p": (1, 12)}, shape=(1, 1, 4, 4))
    assert find_layers(model)["p"].axis == 1
    transposed = [
        node("Reshape", ["input", "flat"], "f"),
        helper.make_node("Gemm", ["f", "h"], ["q"], name="q", transB=1),
        helper.make_node("MatMul", ["q", "m"], ["r"], name="r"),
    ]
    model = nets.net(transposed, constants[1:], {"r": (1, 10)}, shape=(1, 1, 4, 4))
    assert {name: layer.axis for name, layer in find_layers(model).items()} == {"q": 0, "r": 1}
    halved = helper.make_node("Gemm", ["f", "g"], ["p"], name="p", alpha=0.5)
    model = nets.net([nodes[0], halved], constants[:1] + constants[3:], {"p": (1, 12)}, shape=(1, 1, 4, 4))
    assert find_layers(model) == {}
