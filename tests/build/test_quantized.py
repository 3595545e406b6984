"""Quantized networks: which these are, and that spelling out changes nothing but who computes it rightly."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_anon.build.check import check_runtimes_agree, probe_pictures
from trt_anon.build.load import load_model
from trt_anon.build.patch import fold_input, make_dynamic
from trt_anon.build.quantized import is_quantized, quantizes_by_batch, spell_out
from trt_anon.errors import ModelError


def softmaxed(opset: int = 13, axis: int = -1):
    constants = {
        "scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8),
        "out_scale": np.array(1 / 256, np.float32), "out_zero": np.array(0, np.uint8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node(
            "QLinearSoftmax", ["q", "scale", "zero", "out_scale", "out_zero"], ["s"], domain="com.microsoft",
            axis=axis, opset=opset,
        ),
        helper.make_node("DequantizeLinear", ["s", "out_scale", "out_zero"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def run(runtime: str, model, feeds, tmp_path):
    from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
    from trt_anon.runtime.openvino import OpenVinoRunner

    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    runner = {"openvino": OpenVinoRunner, "onnxruntime": OnnxRuntimeRunner}[runtime](path)
    try:
        return runner.run(feeds)
    finally:
        runner.close()


def test_a_spelled_out_softmax_is_what_the_operator_means_in_every_runtime(tmp_path):
    feeds = {"x": np.random.default_rng(0).normal(0, 4, (1, 3, 4, 5)).astype(np.float32)}
    spelled = spell_out(softmaxed())
    assert "QLinearSoftmax" not in {node.op_type for node in spelled.graph.node}
    wanted = run("onnxruntime", softmaxed(), feeds, tmp_path)["y"]
    for runtime in ("onnxruntime", "openvino"):
        found = run(runtime, spelled, feeds, tmp_path)["y"]
        np.testing.assert_allclose(found, wanted, atol=1.01 / 256)
        assert found.sum(axis=-1) == pytest.approx(1, abs=5 / 256)


def test_an_old_softmax_over_several_axes_is_refused():
    spell_out(softmaxed(opset=11, axis=-1))
    with pytest.raises(ModelError, match="QLinearSoftmax"):
        spell_out(softmaxed(opset=11, axis=1))


def test_networks_that_quantize_by_the_batch_are_not_freed():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "d",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 32, 32])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert is_quantized(model)
    assert quantizes_by_batch(model)
    assert not quantizes_by_batch(softmaxed())
    with pytest.raises(ModelError, match="range of a whole batch"):
        make_dynamic(model, size=False)


def test_runtimes_that_disagree_are_noticed():
    wanted = np.random.default_rng(0).normal(0, 1, (1, 50, 2)).astype(np.float32)
    check_runtimes_agree({"o": wanted}, {"o": wanted + np.float32(1e-3)})
    check_runtimes_agree({"o": wanted[:, :9]}, {"o": wanted})  # as many as were found
    for factor, quantized in ((0.9, False), (0.5, True)):
        with pytest.raises(ModelError, match="do not agree about output 'o'"):
            check_runtimes_agree({"o": wanted * np.float32(factor)}, {"o": wanted}, quantized=quantized)


@pytest.mark.dataset
def test_an_int8_plate_detector_is_computed_rightly(data_dir, tmp_path):
    original = load_model(data_dir / "models" / "lpd_yunet_2023mar_int8.onnx")
    assert is_quantized(original)
    picture = probe_pictures(1, 240, 320)
    values = np.ascontiguousarray(picture.transpose(0, 3, 1, 2), np.float32)
    wanted = run("onnxruntime", original, {"input": values}, tmp_path)
    folded = fold_input(make_dynamic(spell_out(original), size=False), (0, 0, 0), (1, 1, 1))
    found = run("openvino", folded, {"pixels": picture}, tmp_path)
    assert found["conf"].sum(axis=-1) == pytest.approx(1, abs=0.01)
    check_runtimes_agree({k: v.reshape(wanted[k].shape) for k, v in found.items()}, wanted, quantized=True)
    wrong = run("openvino", original, {"input": values}, tmp_path)
    with pytest.raises(ModelError, match="do not agree about output 'conf'"):
        check_runtimes_agree(wrong, wanted, quantized=True)
