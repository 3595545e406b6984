"""Networks with Q/DQ: what is stored in them, and that every runtime computes what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from trt_anon.build.half import to_half
from trt_anon.build.measure import open_model
from trt_anon.build.quantize.layers import find_layers
from trt_anon.build.quantize.placement import everywhere
from trt_anon.build.quantize.plan import Plan
from trt_anon.build.quantize.weights import largest_weights
from trt_anon.build.quantize.write import Clips, codes_of, scale_of


def plan_for(model, ranges, layers=None):
    layers = layers or find_layers(model)
    groups = everywhere(model, layers).groups
    clips = {name: max(ranges[v] for v in values) for values in groups.values() for name in values}
    return Plan(model, layers, Clips(clips, {n: largest_weights(layer) for n, layer in layers.items()}), {})


def arrays(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def nodes_of(model, operator):
    return [node for node in model.graph.node if node.op_type == operator]


@given(st.floats(1e-9, 1e7))
@example(1e7)  # more than a half holds, with no warning of an overflow
@example(1.7e10)
@example(127 * 65504.0)
def test_scales_are_halves_and_never_smaller_than_asked(clip):
    scale = float(scale_of(clip))
    assert scale == float(np.float16(scale))
    exact = min(clip / 127, 65504)
    assert exact <= scale <= exact + max(exact * 2**-10, 2.0**-24)


def test_a_scale_of_nothing_is_one_level_for_one():
    assert float(scale_of(0.0)) == pytest.approx(1 / 127, rel=1e-3)


def test_codes_round_half_to_even_and_are_symmetric():
    codes = codes_of(np.float32([0.5, 1.5, -0.5, -1.5, 300, -300]), np.float32(1))
    assert codes.tolist() == [0, 2, 0, -2, 127, -127]


def test_weights_are_codes_with_a_scale_for_each_output_channel(nets, ranges_of):
    model = nets.chain()
    plan = plan_for(model, ranges_of(model, nets.feeds()))
    stored = arrays(plan.quantized(["b", "d"]))
    for name in ("b", "d"):
        codes, scale = stored[f"{name}/weights_codes"], stored[f"{name}/weights_scale"]
        weights = plan.layers[name].weights
        assert codes.dtype == np.int8
        assert scale.shape == (16,)
        assert (np.abs(codes).max(axis=(1, 2, 3)) >= 126).all()
        np.testing.assert_allclose(codes * scale.reshape(-1, 1, 1, 1), weights, atol=float(scale.max()) / 2 * 1.001)
        assert not stored[f"{name}/weights_zero"].any()
    assert not {"wb", "wd"} & set(stored), "the float weights are gone"


def test_nothing_else_is_quantized(nets, ranges_of):
    model = nets.chain()
    quantized = plan_for(model, ranges_of(model, nets.feeds())).quantized(["b", "d"])
    assert {node.input[0] for node in nodes_of(quantized, "QuantizeLinear")} == {"ra", "rc"}
    by_name = {node.name: node for node in quantized.graph.node}
    assert by_name["b"].input[2] == "bb", "biases stay as they are"
    assert by_name["c"].input[0] == "rb"
    assert [o.name for o in quantized.graph.output] == ["e"]
    assert by_name["e"].output[0] == "e"
    scales = [arrays(quantized)[n.input[1]] for n in nodes_of(quantized, "QuantizeLinear")]
    zeros = [arrays(quantized)[n.input[2]] for n in nodes_of(quantized, "QuantizeLinear")]
    assert all(scale.shape == () for scale in scales)
    assert all(zero.dtype == np.int8 and zero == 0 for zero in zeros)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_quantized_network_computes_what_it_says(nets, ranges_of, run, tmp_path, runtime):
    model = nets.chain()
    feeds = nets.feeds()
    plan = plan_for(model, ranges_of(model, feeds))
    quantized = plan.quantized(["b", "d"])
    # The definition, in NumPy on top of the float network's own values.
    from trt_anon.build.measure import with_outputs

    exact = run(with_outputs(model, ["ra"]), feeds[0])
    scale = scale_of(plan.clips.values["ra"])
    data = codes_of(exact["ra"], scale).astype(np.float32) * scale
    stored = arrays(quantized)
    weights = stored["b/weights_codes"] * stored["b/weights_scale"].reshape(-1, 1, 1, 1)
    padded = np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    wanted = np.einsum("nchwij,ocij->nohw", windows, weights) + stored["bb"].reshape(1, -1, 1, 1)
    widened = with_outputs(quantized, ["b"])
    if runtime == "openvino":
        pytest.importorskip("openvino")
        runner = open_model(widened, tmp_path)
        found = runner.run(feeds[0])["b"]
        runner.close()
    else:
        found = run(widened, feeds[0])["b"]
    np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())
    error = np.abs(run(quantized, feeds[0])["e"] - run(model, feeds[0])["e"]).mean()
    assert 0 < error < 0.05 * np.abs(run(model, feeds[0])["e"]).mean()


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions_have_scales_along_their_second_axis(nets, ranges_of, run, group):
    nodes = [
        helper.make_node("Conv", ["input", "wi"], ["x"], name="x", pads=[1] * 4),
        helper.make_node("ConvTranspose", ["x", "wt"], ["t"], name="t", strides=[2, 2], group=group),
        helper.make_node("Conv", ["t", "wo"], ["out"], name="out"),
    ]
    constants = [
        nets.weights("wi", 16, 3, 3, 3), nets.weights("wt", 16, 16 // group, 2, 2, spread=8),
        nets.weights("wo", 16, 16, 1, 1),
    ]  # fmt: skip
    model = nets.net(nodes, constants, {"out": (1, 16, 48, 48)}, shape=(1, 3, 24, 24))
    feeds = nets.feeds()
    plan = plan_for(model, ranges_of(model, feeds))
    assert plan.layers["t"].outside == "transposed"
    quantized = plan.quantized(["t"])
    restored = next(n for n in nodes_of(quantized, "DequantizeLinear") if n.input[0] == "t/weights_codes")
    assert [a.i for a in restored.attribute if a.name == "axis"] == [1]
    assert arrays(quantized)["t/weights_scale"].shape == (16 // group,)
    exact, found = (run(m, feeds[0])["out"] for m in (model, quantized))
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).mean()


def test_halves_have_the_very_same_codes(nets, ranges_of, run):
    model = nets.chain()
    feeds = nets.feeds()
    ranges = ranges_of(model, feeds)
    quantized = plan_for(model, ranges).quantized(["b", "d"])
    halved = to_half(quantized, ranges)
    full, half = arrays(quantized), arrays(halved)
    for name in ("b", "d"):
        np.testing.assert_array_equal(half[f"{name}/weights_codes"], full[f"{name}/weights_codes"])
        scale = half[f"{name}/weights_scale/half"]
        assert scale.dtype == np.float16
        np.testing.assert_array_equal(scale.astype(np.float32), full[f"{name}/weights_scale"])
    exact, found = (run(m, feeds[0])["e"] for m in (quantized, halved))
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).mean()


def test_fp8_has_one_scale_for_all_weights(nets, ranges_of):
    """Run by ONNX's reference: ONNX Runtime 1.32 drops a Relu before a QuantizeLinear to FP8."""
    model = nets.chain()
    feeds = nets.feeds()
    plan = plan_for(model, ranges_of(model, feeds))
    clips = Clips(plan.clips.values, {n: np.abs(layer.weights).max() for n, layer in plan.layers.items()})
    quantized = Plan(model, plan.layers, clips, {}).quantized(["b", "d"], "fp8")
    stored = {t.name: t for t in quantized.graph.initializer}
    assert stored["b/weights_codes"].data_type == TensorProto.FLOAT8E4M3FN
    assert arrays(quantized)["b/weights_scale"].shape == ()
    exact, found = (ReferenceEvaluator(m).run(["e"], feeds[0])[0] for m in (model, quantized))
    assert 0 < np.abs(found - exact).mean() < 0.1 * np.abs(exact).mean()


def test_tensorrt_rtx_builds_it_in_int8(nets, ranges_of):
    """Its layer report names the types that kernels take: those meant to be INT8 are, the others are not."""
    trt = pytest.importorskip("tensorrt_rtx")
    model = nets.chain(side=32)
    quantized = plan_for(model, ranges_of(model, nets.feeds(side=32))).quantized(["b", "d"])
    lines: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity, message):
            lines.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(quantized.SerializeToString()), parser.get_error(0)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    assert builder.build_serialized_network(network, config) is not None
    report = [line for text in lines for line in text.splitlines() if "LayerType: correlation" in line]
    types = {}
    for line in report:
        name = line.split("Name: ", 1)[1].split("_", 1)[0]
        types[name] = line.split("Datatype: ", 1)[1].split(",", 1)[0]
    assert {name: types[name] for name in "abcde"} == {
        "a": "Float", "b": "Int8", "c": "Float", "d": "Int8", "e": "Float",
    }  # fmt: skip
