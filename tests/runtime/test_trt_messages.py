"""What TensorRT says: errors, layers, progress."""

from __future__ import annotations

import json

import pytest

from trt_anon.runtime.trt.failures import build_error, hint_for, plain
from trt_anon.runtime.trt.layers import Layer, from_inspector, from_log
from trt_anon.runtime.trt.progress import PhaseTree

ECHO = (
    "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In catchCudaError at /_src/checkMacros.cpp:250 "
    "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "IBuilder::build: Error Code 4: API Usage Error (Network must have at least one output. In f at x.cpp:3)",
            "Network must have at least one output",
        ),
        (
            "[x.cpp::f::4] Error Code 2: Internal (Assertion. nms_31 has no runners that implement it In f at x:4)",
            "Assertion. nms_31 has no runners that implement it",
        ),
        (
            "Invalid Node - resh\nITensor::f: Error Code 4: Shape Error (reshape wildcard -1 has no integer "
            "solution. Reshaping [1,3,32,32] to [7,-1]. In operator() at /_src/shapeContext.cpp:4633)\n" + ECHO,
            "reshape wildcard -1 has no integer solution. Reshaping [1,3,32,32] to [7,-1]",
        ),
        ("as it is", "as it is"),
        ("", ""),
    ],
)
def test_messages_lose_functions_and_files(said: str, expected: str) -> None:
    assert plain(said) == expected


def test_an_error_is_the_first_that_says_something() -> None:
    heard = [
        (3, "IBuilder::x: Error Code 1: API Usage Error (only information. In f at /_src/f.cpp:1)"),
        (1, ECHO),
        (1, "ModelImporter.cpp:140: While parsing node number 0"),
        (1, "IBuilder::x: Error Code 4: Internal Error (conv1/out: no. In g at /_src/g.cpp:2)"),
        (1, "IBuilder::x: Error Code 4: Internal Error (later. In g at /_src/g.cpp:2)"),
    ]
    error = build_error(heard, "TensorRT 11", "m", {"conv1": "Conv", "conv1/out": "Conv", "con": "Relu"})
    assert str(error) == "m: TensorRT 11 cannot build it: Conv 'conv1/out': conv1/out: no"
    assert (error.operator, error.node, error.reason, error.hint) == ("Conv", "conv1/out", "conv1/out: no", None)


def test_an_error_without_words() -> None:
    assert str(build_error([], "TensorRT 11", "m", {})) == "m: TensorRT 11 cannot build it: it does not say why"
    alone = build_error([(1, ECHO)], "TensorRT 11", "m", {})
    assert "driver version is insufficient" in str(alone)
    assert alone.hint is not None
    assert "--target" in alone.hint


@pytest.mark.parametrize(
    ("operator", "reason", "hint"),
    [
        ("ConvInteger", "", "quantized dynamically"),
        ("QLinearConv", "", "own quantized format"),
        ("QuantizeLinear", "Non-zero zero point is not supported", "all zero points are 0"),
        ("DequantizeLinear", "something", "--precision int8"),
        ("NonZero", "", "suppression is done by the pipeline"),
        (None, "nms_3 has no runners that implement it", "no kernel"),
        ("Conv", "Out of memory", "smaller batch"),
        (None, "the model contains HW-specific datatypes: fp8_e4m3", "for sm_89 and later"),
        ("Gemm", "Cannot compile operation 'Gemm_8' for Turing (SM75)", "full TensorRT builds"),
        ("Conv", "something else", None),
    ],
)
def test_hints(operator: str | None, reason: str, hint: str | None) -> None:
    found = hint_for(operator, reason)
    assert found is None if hint is None else hint in (found or "")


LOG = """Layers:
Name: a_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: s, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, EventId: 2, Metadata: 
Name: move, LayerType: kgen, Inputs: [ { Name: pixels, Dimensions: [-1,3], Datatype: UInt8, Format: (Linear) Row major \
linear format }], Constants: [ { Name: c, Datatype: Float, Format: x }], Outputs: [ { Name: o, Datatype: Int8, Format: \
(NHWC) Channel major }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: Cast_0][ONNX Layer: a/b [c] d]
Name: conv, LayerType: correlation, Inputs: [ { Name: o, Datatype: Int8, Format: x }], Constants: [ { Name: w, \
Datatype: Int8, Format: x }], Outputs: [ { Name: p, Datatype: Float, Format: x }], TacticName: , Metadata: \
[ONNX Layer: Conv_1]
Name: __myl_CorrMulMax, LayerType: runtime_fusion, Inputs: [ { Name: o, Datatype: Half, Format: x }], Constants: [], \
Outputs: [ { Name: p, Datatype: Half, Format: x }], TacticName: , Metadata: [ONNX Layer: Conv_2]
Name: fill, LayerType: kgen, Inputs: [], Constants: [], Outputs: [ { Name: q, Datatype: Half, Format: x }], \
TacticName: f, StreamId: 0, Metadata: 

Engine Metadata:
 Multi-Device: Disabled
"""  # noqa: W291


def test_layers_of_a_log() -> None:
    found = from_log(["something", LOG])
    assert found == (
        Layer("move", "kgen", "uint8", ("Cast_0", "a/b [c] d")),
        Layer("conv", "correlation", "int8", ("Conv_1",)),
        Layer("__myl_CorrMulMax", "runtime_fusion", "fp16", ("Conv_2",)),
        Layer("fill", "kgen", "fp16", ()),
    )
    assert found is not None
    assert [layer.convolves for layer in found] == [False, True, True, False]
    assert from_log(["something"]) is None


def test_layers_of_an_inspector() -> None:
    ten = {
        "Name": "conv + relu",
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
        "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP32"}],
        "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]\x1f",
    }
    eleven = {"Name": "c", "LayerType": "gemm", "Inputs": [{"Name": "x", "Datatype": "Half", "Format": "linear"}]}
    found = from_inspector(json.dumps({"Layers": [ten, eleven], "Bindings": []}))
    assert found == (
        Layer("conv + relu", "CaskConvolution", "int8", ("conv", "relu")),
        Layer("c", "gemm", "fp16", ()),
    )
    assert found[0].convolves
    assert from_inspector(json.dumps({"Layers": ["names", "only"]})) is None
    assert from_inspector("no json") is None


def test_progress_never_falls_and_ends_at_one() -> None:
    tree = PhaseTree()
    shares = [tree.start("build", None, 4), tree.step("build", 0), tree.start("inner", "build", 2)]
    shares += [tree.step("inner", 0), tree.finish("inner"), tree.step("build", 1), tree.start("inner", "build", 10)]
    shares += [tree.step("unknown", 3), tree.finish("unknown"), tree.step("build", 3), tree.finish("build")]
    assert shares == sorted(shares)
    assert shares[:4] == [0, 0.25, 0.25, 0.375]
    assert shares[-1] == 1


def test_progress_of_a_phase_within_itself_ends() -> None:
    tree = PhaseTree()
    tree.start("a", "b", 2)
    tree.start("b", "a", 0)
    assert 0 <= tree.step("a", 7) <= 1
