"""The one input that a detector takes: its layout, its element type, and how pictures are brought into that form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Tensor, TensorSpec

if TYPE_CHECKING:
    import onnx

Layout = Literal["nchw", "nhwc", "chw", "hwc"]

DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.uint8))
"""Element types that a picture input may have."""


@dataclass(frozen=True, slots=True)
class PictureInput:
    """The input of a detector; batch, height and width are None where they are free, batch is 1 where there is none."""

    name: str
    dtype: np.dtype[Any]
    layout: Layout
    batch: int | None
    height: int | None
    width: int | None

    @property
    def axes(self) -> dict[str, int]:
        """The axis of `n` (only if it has one), `h` and `w`."""
        return {axis: self.layout.index(axis) for axis in "nhw" if axis in self.layout}

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) where both are fixed."""
        return None if self.width is None or self.height is None else (self.width, self.height)

    def feed(self, pictures: NDArray[Any]) -> Tensor:
        """Values (N, H, W, 3), scaled already, as this input takes them. N is 1 for an input without a batch axis."""
        tensor = pictures.transpose(0, 3, 1, 2) if "chw" in self.layout else pictures
        if "n" not in self.layout:
            (tensor,) = tensor
        return np.ascontiguousarray(tensor, self.dtype)


def picture_input(model: onnx.ModelProto, where: str) -> PictureInput:
    """The only input of an ONNX network; raises ModelError where it is none that takes pictures of three channels."""
    lib = require("onnx", "reading a model")
    constants = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    if len(inputs) != 1:
        raise ModelError(f"{where}: expected one input, found {len(inputs)}: {', '.join(i.name for i in inputs)}")
    tensor = inputs[0].type.tensor_type
    try:
        dtype = np.dtype(lib.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, TypeError) as error:
        raise ModelError(f"{where}: input {inputs[0].name!r} is no tensor of numbers") from error
    return _read(inputs[0].name, dtype, [d.dim_value or None for d in tensor.shape.dim], where)


def runner_input(specs: Sequence[TensorSpec], where: str) -> PictureInput:
    """The only input of a loaded model, as `picture_input`."""
    if len(specs) != 1:
        raise ModelError(f"{where}: expected one input, found {len(specs)}: {', '.join(s.name for s in specs)}")
    return _read(specs[0].name, specs[0].dtype, specs[0].shape, where)


def _read(name: str, dtype: np.dtype[Any], shape: Sequence[int | None], where: str) -> PictureInput:
    layout = _layout(shape)
    if layout is None or dtype not in DTYPES:
        raise ModelError(
            f"{where}: expected a float input (N, 3, H, W) or (N, H, W, 3), of 32 or 16 bits, or of uint8; found "
            f"{name!r}, {dtype.name} ({', '.join('any' if d is None else str(d) for d in shape)})"
        )
    sides = {axis: shape[i] for i, axis in enumerate(layout)}
    return PictureInput(name, dtype, layout, sides.get("n", 1), sides["h"], sides["w"])


def _layout(shape: Sequence[int | None]) -> Layout | None:
    """Three channels are found by their number; where that is free, they come before height and width."""
    if len(shape) not in (3, 4):
        return None
    first, last = shape[-3], shape[-1]
    batched = len(shape) == 4
    if first == 3 or (first is None and last != 3):
        return "nchw" if batched else "chw"
    if last == 3:
        return "nhwc" if batched else "hwc"
    return None
