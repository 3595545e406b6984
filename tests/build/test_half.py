"""Networks in halves: what they compute, what stays in float32, and what types they show."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from trt_anon.build.half import nodes_kept, to_half
from trt_anon.build.load import load_model
from trt_anon.build.measure import largest_values, open_model, probe_feeds
from trt_anon.build.precision import convert
from trt_anon.build.tidy import tidy
from trt_anon.errors import ModelError, UsageError

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
PADS = [1, 1, 1, 1]


def kinds(model):
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        t.name: t.data_type for t in model.graph.initializer
    }


def types_of(model, name):
    """Types of the float inputs and of the output of a node."""
    known = kinds(model)
    node = next(n for n in model.graph.node if n.name == name)
    return {known[i] for i in (*node.input, *node.output) if known.get(i) in (HALF, SINGLE)}


def deep(networks, middle=(), constants=(), shape=(1, 3, 32, 32)):
    """Two convolutions, with nodes from `c` to `m` between them, and a Sigmoid in the end."""
    between = list(middle) or [helper.make_node("Relu", ["c"], ["m"], name="middle")]
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["c"], name="first", pads=PADS),
        *between,
        helper.make_node("Conv", ["m", "second_weights"], ["d"], name="second", pads=PADS),
        helper.make_node("Sigmoid", ["d"], ["out"], name="score"),
    ]
    second = networks.constant("second_weights", np.random.default_rng(1).normal(size=(4, 4, 3, 3)) / 6, np.float32)
    batch, _, *sides = shape
    return networks.network(
        nodes, [networks.convolution(), second, *constants], {"out": (batch, 4, *sides)}, shape=shape
    )


def run(model, folder, feeds):
    runner = open_model(model, folder, "m")
    try:
        return runner.run(feeds)
    finally:
        runner.close()


@pytest.mark.parametrize("half_io", [False, True])
def test_arithmetic_is_in_halves_up_to_the_last_convolution(networks, tmp_path, half_io):
    model = deep(networks)
    halved = convert(model, "fp16", half_io=half_io)
    for name in ("first", "middle", "second"):
        assert types_of(halved, name) == {HALF}
    assert types_of(halved, "score") == {SINGLE}
    wanted = HALF if half_io else SINGLE
    assert {kinds(halved)[name] for name in ("input", "out")} == {wanted}
    feeds = probe_feeds(model)[0]
    expected = run(model, tmp_path, feeds)["out"]
    given = {"input": feeds["input"].astype(np.float16 if half_io else np.float32)}
    np.testing.assert_allclose(run(halved, tmp_path, given)["out"], expected, atol=2e-3)


def test_an_output_that_others_read_keeps_its_name_and_type(networks, tmp_path):
    model = deep(networks)
    model.graph.output.append(helper.make_tensor_value_info("m", SINGLE, (1, 4, 32, 32)))
    halved = convert(model, "fp16")
    assert kinds(halved)["m"] == SINGLE
    assert types_of(halved, "second") == {HALF}
    feeds = probe_feeds(model)[0]
    for name, value in run(halved, tmp_path, feeds).items():
        np.testing.assert_allclose(value, run(model, tmp_path, feeds)[name], atol=2e-3)
    both = kinds(convert(model, "fp16", half_io=True))
    assert (both["m"], both["out"]) == (HALF, HALF)


def test_values_beyond_halves_stay_in_float32(networks, tmp_path):
    factors = [networks.constant("up", 1e6, np.float32), networks.constant("down", 1e-6, np.float32)]
    middle = [
        helper.make_node("Mul", ["c", "up"], ["large"], name="up"),
        helper.make_node("Mul", ["large", "down"], ["m"], name="down"),
    ]
    model = deep(networks, middle, factors)
    tidied = tidy(model)
    kept = nodes_kept(tidied, largest_values(tidied))
    assert "reaches" in kept["up"]
    assert set(kept) == {"up", "down", "score"}
    halved = convert(model, "fp16")
    feeds = probe_feeds(model)[0]
    np.testing.assert_allclose(run(halved, tmp_path, feeds)["out"], run(model, tmp_path, feeds)["out"], atol=2e-3)
    assert types_of(halved, "second") == {HALF}


@pytest.mark.parametrize(
    ("operator", "value", "kept"),
    [("Add", 1e-12, True), ("Mul", 1e-6, True), ("Mul", 1e-38, False), ("Mul", 0.5, False), ("Add", 7e4, True)],
)
def test_constants_that_would_vanish_or_overflow_are_noticed(networks, operator, value, kept):
    middle = [helper.make_node(operator, ["c", "k"], ["m"], name="middle")]
    tidied = tidy(deep(networks, middle, [networks.constant("k", value, np.float32)]))
    assert ("middle" in nodes_kept(tidied, {})) == kept


def test_sensitive_and_named_operators_stay_in_float32(networks):
    middle = [helper.make_node("Softmax", ["c"], ["m"], name="middle", axis=1)]
    tidied = tidy(deep(networks, middle))
    assert nodes_kept(tidied, {}, keep=("first",)).keys() == {"first", "middle", "score"}
    halved = to_half(tidied, {}, keep=("first",))
    assert types_of(halved, "first") == {SINGLE}
    assert types_of(halved, "second") == {HALF}


def test_scales_of_a_resize_stay_float32(networks, tmp_path):
    middle = [helper.make_node("Resize", ["c", "", "twice"], ["m"], name="middle", mode="nearest")]
    model = deep(networks, middle, [networks.constant("twice", [1, 1, 2, 2], np.float32)])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    halved = convert(model, "fp16")
    assert types_of(halved, "middle") == {HALF, SINGLE}
    feeds = probe_feeds(model)[0]
    np.testing.assert_allclose(run(halved, tmp_path, feeds)["out"], run(model, tmp_path, feeds)["out"], atol=2e-3)


def test_values_that_are_not_finite_are_refused(networks):
    middle = [helper.make_node("Log", ["c"], ["m"], name="middle")]
    with pytest.raises(ModelError, match="'m' takes values that are not finite"):
        convert(deep(networks, middle), "fp16")


def test_unknown_precisions_are_refused(networks):
    with pytest.raises(UsageError, match="unknown precision 'int4'"):
        convert(deep(networks), "int4")


@pytest.mark.dataset
@pytest.mark.parametrize("name", ["yunet_s_dynamic", "ultralight_version-RFB-320", "retinaface_mnet025"])
def test_real_detectors_keep_what_they_find(data_dir, tmp_path, name):
    model = load_model(data_dir / "models" / f"{name}.onnx")
    halved = convert(model, "fp16")
    feeds = probe_feeds(model)[0]
    expected, found = run(model, tmp_path, feeds), run(halved, tmp_path, feeds)
    assert list(found) == list(expected)
    for output, value in expected.items():
        assert np.abs(found[output] - value).mean() <= 5e-3 * max(np.abs(value).max(), 1.0)
