"""The table of each family that the kernel of `decode.cu` decodes; a family's own file says what its outputs mean."""

from __future__ import annotations

from trt_anon.detect import schemes_grid as _grid
from trt_anon.detect import schemes_rows as _rows
from trt_anon.detect import schemes_yolo as _yolo
from trt_anon.detect.heads import Scheme, Shapes, Size, scheme_of
from trt_anon.detect.options import WithInput

__all__ = ["REGISTERED", "scheme_of"]

REGISTERED = (_grid, _rows, _yolo)
"""The files that tell `scheme_of` of families; importing them is what does it."""


@scheme_of.register
def _(family: WithInput, shapes: Shapes, input_hw_px: Size) -> Scheme:
    return scheme_of(family.family, shapes, input_hw_px)
