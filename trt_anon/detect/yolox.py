"""YOLOX: anchor-free boxes with objectness, rows of all grids in one output, relative to their cells or decoded.

Ge et al.: "YOLOX: Exceeding YOLO Series in 2021" (2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, check_finite, split_by_image
from trt_anon.detect.yolo import (
    BoxFormat,
    check_options,
    confident,
    decode_rows,
    grids_of,
    read_output,
    row_count,
)
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class YoloX:
    """Decodes one output (N, P, 5 + C): x, y, w, h, objectness, classes; P counts the cells, grid by grid, row by row.

    classes: C, how many the model knows. form: `raw` or `decoded`. strides_px: of the grids, in the order of the rows;
    with form `decoded` they only say what P must be, and without them any P will do. activated: the graph has applied
    the sigmoid to objectness and classes, as the authors' export does. box_format, normalised: of form `decoded`.
    multi_label: a box counts for every class that reaches the threshold, not for its best alone. outputs: the output's
    name; empty: it is found by its shape.

    Raw: centre = ((x, y) + cell) * stride, size = exp(w, h) * stride. score = objectness * class.
    """

    name: str = "yolox"
    classes: int = 80
    form: Literal["raw", "decoded"] = "raw"
    strides_px: tuple[int, ...] = (8, 16, 32)
    activated: bool = True
    box_format: BoxFormat = "cxcywh"
    normalised: bool = False
    multi_label: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, self.strides_px, self.outputs, 1)
        if self.form == "raw" and not self.strides_px:
            raise ConfigError(f"family {self.name!r}: raw rows need 'strides_px'")

    @property
    def input_spec(self) -> InputSpec:
        """BGR in [0, 255], letterboxed in gray; releases before 0.1.1 want RGB, normalised."""
        return InputSpec(channels="bgr", pad_value=114, stride_px=max(self.strides_px, default=32))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The option `outputs`; empty means that all outputs are wanted."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        count = row_count(input_hw_px, self.strides_px)
        rows = read_output(outputs, self.outputs[0] if self.outputs else None, (count, 5 + self.classes), self.name)
        if self.form == "decoded":
            form = self.box_format, self.normalised, input_hw_px
            return decode_rows(self.name, rows, rows[..., 4], rows[..., 5:], *form, threshold, self.multi_label)

        (images, places), class_ids, scores = confident(
            self.name, rows[..., 4], rows[..., 5:], self.activated, threshold, self.multi_label
        )
        values = rows[images, places, :4]
        check_finite(self.name, "boxes", values)
        cell, stride = self._cells(input_hw_px)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            centre = (values[:, :2] + cell[places]) * stride[places]
            half = np.exp(values[:, 2:]) * (stride[places] * np.float32(0.5))
            boxes = np.concatenate((centre - half, centre + half), axis=-1)
        return split_by_image(self.name, len(rows), images, boxes, scores, class_ids)

    def _cells(self, input_hw_px: tuple[int, int]) -> tuple[Floats, Floats]:
        """((P, 2) column and row, (P, 1) stride) of each row of the output."""
        cell, stride = [], []
        for (rows, columns), stride_px in zip(grids_of(input_hw_px, self.strides_px), self.strides_px, strict=True):
            y, x = np.mgrid[:rows, :columns]
            cell.append(np.stack((x, y), axis=-1).reshape(-1, 2))
            stride.append(np.full((rows * columns, 1), stride_px))
        return np.concatenate(cell).astype(np.float32), np.concatenate(stride).astype(np.float32)
