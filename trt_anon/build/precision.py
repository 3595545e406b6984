"""One network in another precision: the only function that engines need of all this."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from trt_anon.build.calibration import Calibration
from trt_anon.build.half import to_half
from trt_anon.build.measure import largest_values
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
    half_io: bool = False,
    keep: Collection[str] = (),
    feeds: Sequence[Mapping[str, Tensor]] | None = None,
    where: str = "model",
) -> onnx.ModelProto:
    """A copy of a float32 network whose types say in which precision each part is computed.

    model: of any input form and size; with its picture input folded in (`patch.fold_input`) or not. The result is of
    opset 19 or later, every node has a name.
    precision: `fp32` only brings it into that form. `fp16` is arithmetic in halves, but for what they cannot hold (see
    `half`). calibration: gives the ranges of values for `fp16`; without one they are measured on `feeds`, inputs as the
    network takes them, or on pictures of noise.
    half_io: float32 inputs and outputs become halves as well; a uint8 input stays. keep: names of nodes that stay in
    float32. Raises ModelError for a network that cannot be converted, UsageError where a calibration is needed.
    """
    if precision not in get_args(Precision):
        raise UsageError(f"unknown precision {precision!r}; known are {', '.join(get_args(Precision))}")
    tidied = tidy(model, where=where)
    if precision == "fp32":
        return tidied
    if precision == "fp16":
        largest = calibration.largest if calibration else largest_values(tidied, feeds, where)
        return to_half(tidied, largest, half_io=half_io, keep=keep, where=where)
    raise UsageError(f"precision {precision} is not supported yet")
