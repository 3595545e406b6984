"""One network in another precision: the only function that engines need of all this."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from trt_anon.build.calibration import Calibration
from trt_anon.build.half import to_half
from trt_anon.build.measure import largest_values
from trt_anon.build.quantize.plan import plan_of
from trt_anon.build.tidy import tidy
from trt_anon.errors import UsageError
from trt_anon.runtime.base import Tensor

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "int8", "fp8"]


def convert(
    model: onnx.ModelProto,
    precision: Precision,
    calibration: Calibration | None = None,
    *,
    rest: Literal["fp32", "fp16"] = "fp32",
    half_io: bool = False,
    keep: Collection[str] = (),
    include: Collection[str] = (),
    feeds: Sequence[Mapping[str, Tensor]] | None = None,
    where: str = "model",
) -> onnx.ModelProto:
    """A copy of a float32 network whose types say in which precision each part is computed.

    model: of any input form and size; with its picture input folded in (`patch.fold_input`) or not. The result is of
    opset 19 or later, every node has a name.
    precision: `fp32` only brings it into that form. `fp16` is arithmetic in halves, but for what they cannot hold (see
    `half`). `int8` and `fp8` (GPUs of compute capability 8.9 and later) quantize the layers that the calibration found
    fit for it, with QuantizeLinear and DequantizeLinear; `rest` is the precision of all others: float32 for CPUs,
    halves for GPUs.
    calibration: of this network, needed for `int8` and `fp8`. For halves it gives the largest values; without one they
    are measured on `feeds`, inputs as the network takes them, or on pictures of noise.
    half_io: float32 inputs and outputs become halves as well; a uint8 input stays. keep: names of nodes, or of the
    values that layers give, that stay in high precision: float32 for `fp16`, that of `rest` otherwise. include: layers
    kept out of INT8 for these reasons (`depthwise`, `transposed`, `head`, `few channels`) are quantized after all.
    Raises ModelError for a network that cannot be converted or is not the one calibrated, UsageError where a
    calibration is needed.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}; known are {', '.join(get_args(Precision))}")
    tidied = tidy(model, where=where)
    if precision == "fp32":
        return tidied
    if precision == "fp16":
        largest = calibration.largest if calibration else largest_values(tidied, feeds, where)
        return to_half(tidied, largest, half_io=half_io, keep=keep, where=where)
    if calibration is None:
        raise UsageError(f"{where}: precision {precision} needs a calibration; run: trt-anon calibrate")
    plan = plan_of(tidied, calibration, precision, where)
    chosen = quantized_layers(calibration, include)
    chosen = [name for name in chosen if name not in keep and plan.layers[name].node not in keep]
    quantized = plan.quantized(chosen, precision, where)
    if rest == "fp16":
        return to_half(quantized, calibration.largest, half_io=half_io, where=where)
    return quantized


def quantized_layers(calibration: Calibration, include: Collection[str] = ()) -> list[str]:
    """Names of the layers that a calibration puts into INT8, with those that it leaves out for one of these reasons."""
    return [name for name in calibration.weights if name not in calibration.high or calibration.high[name] in include]
