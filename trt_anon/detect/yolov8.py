"""YOLOv8, v9, v11 and v12: anchor-free boxes as distances to their sides, from raw heads or decoded by the graph.

Li et al.: "Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection"
(2020): each distance is the mean of a distribution over whole numbers of strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, Indices, check_finite
from trt_anon.detect.yolo import (
    BoxFormat,
    Collected,
    check_options,
    confident,
    decode_rows,
    grids_of,
    read_heads,
    read_output,
    row_count,
    yolo_input,
)
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class YoloV8:
    """Decodes the outputs of YOLOv8, v9, v11 and v12, raw heads in whatever order the model gives them.

    classes: C, how many the model knows.
    form: `decoded`: one output (N, 4 + C, P) of boxes and class probabilities. `raw`: one head per stride, 4 *
      reg_max + C channels. `raw_split`: two heads per stride, 4 * reg_max channels of distances and C of classes.
    layout: axes of the output: of `decoded` `ncp` or `npc` (transposed), of raw heads `nchw` or `nhwc`; `auto` is the
      first. With form `decoded` strides_px only say what P must be; without strides any P will do.
    reg_max: values of each distance's distribution; 1: the head gives the distance itself.
    activated: the graph has applied the sigmoid to the classes of raw heads.
    box_format, normalised: of form `decoded`; normalised boxes are shares of the input's size.
    extra_channels: further channels behind the classes that are not read (mask coefficients, keypoints).
    multi_label: a box counts for every class that reaches the threshold, not for its best alone.
    outputs: names, by head in the order of strides_px (`raw_split`: distances, classes, distances, ...); empty: outputs
      are found by their shapes.

    Raw: distances (left, top, right, bottom) = sum of i * softmax over i in 0..reg_max - 1; the box reaches that many
    strides from (cell + 0.5) * stride. score = the class's probability: this head has no objectness.
    """

    name: str = "yolov8"
    classes: int = 80
    form: Literal["decoded", "raw", "raw_split"] = "decoded"
    layout: Literal["auto", "ncp", "npc", "nchw", "nhwc"] = "auto"
    strides_px: tuple[int, ...] = (8, 16, 32)
    reg_max: int = 16
    activated: bool = False
    box_format: BoxFormat = "cxcywh"
    normalised: bool = False
    extra_channels: int = 0
    multi_label: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        wanted = {"decoded": 1, "raw": len(self.strides_px), "raw_split": 2 * len(self.strides_px)}[self.form]
        check_options(self.name, self.classes, self.strides_px, self.outputs, wanted)
        if self.form != "decoded" and not self.strides_px:
            raise ConfigError(f"family {self.name!r}: raw heads need 'strides_px'")
        layouts = ("auto", "ncp", "npc") if self.form == "decoded" else ("auto", "nchw", "nhwc")
        if self.layout not in layouts:
            known = ", ".join(layouts)
            raise ConfigError(
                f"family {self.name!r}: 'layout' of form {self.form!r} is one of {known}, not {self.layout}"
            )
        if self.reg_max < 1 or self.extra_channels < 0:
            raise ConfigError(f"family {self.name!r}: 'reg_max' must be at least 1 and 'extra_channels' at least 0")
        if self.form == "raw_split" and self.extra_channels:
            raise ConfigError(f"family {self.name!r}: heads of form 'raw_split' have no 'extra_channels'")

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], letterboxed in gray."""
        return yolo_input(self.strides_px)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The option `outputs`; empty means that all outputs are wanted."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        if self.form == "decoded":
            channels = 4 + self.classes + self.extra_channels
            rows = read_rows(
                outputs, self.outputs, channels, self.layout == "npc", self.strides_px, input_hw_px, self.name
            )
            form = self.box_format, self.normalised, input_hw_px
            return decode_rows(
                self.name, rows, None, rows[..., 4 : 4 + self.classes], *form, threshold, self.multi_label
            )

        found = Collected(self.name)
        heads = self.read_raw(outputs, input_hw_px)
        for (sides, classes), stride in zip(heads, self.strides_px, strict=True):
            where, class_ids, scores = confident(self.name, None, classes, self.activated, threshold, self.multi_label)
            found.add(where[0], distance_boxes(self.name, sides[where], where, stride), scores, class_ids)
        return found.split(len(heads[0][0]))

    def read_raw(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int]
    ) -> list[tuple[Floats, Floats]]:
        """Of each raw head the distances and the classes, (N, rows, columns, channels); see `yolo.read_heads`."""
        grids = grids_of(input_hw_px, self.strides_px)
        layout: Literal["nchw", "nhwc"] = "nhwc" if self.layout == "nhwc" else "nchw"
        sides = 4 * self.reg_max
        if self.form == "raw_split":
            doubled = [grid for grid in grids for _ in range(2)]
            channels = [sides, self.classes] * len(grids)
            ones = [1] * len(doubled)
            heads = read_heads(outputs, self.outputs, doubled, ones, channels, layout, self.name)
            return [(heads[i][:, 0], heads[i + 1][:, 0]) for i in range(0, len(heads), 2)]
        channels = [sides + self.classes + self.extra_channels] * len(grids)
        heads = read_heads(outputs, self.outputs, grids, [1] * len(grids), channels, layout, self.name)
        return [(head[:, 0, ..., :sides], head[:, 0, ..., sides : sides + self.classes]) for head in heads]


def read_rows(
    outputs: Mapping[str, NDArray[Any]],
    names: tuple[str, ...],
    channels: int,
    transposed: bool,
    strides_px: tuple[int, ...],
    input_hw_px: tuple[int, int],
    family: str,
) -> Floats:
    """The decoded output as (N, P, channels); the model gives it so where `transposed`, else as (N, channels, P)."""
    count = row_count(input_hw_px, strides_px)
    name = names[0] if names else None
    if transposed:
        return read_output(outputs, name, (count, channels), family)
    return read_output(outputs, name, (channels, count), family).transpose(0, 2, 1)


def distance_boxes(family: str, sides: Floats, where: tuple[Indices, ...], stride_px: int) -> Floats:
    """Corners (K, 4) in pixels from distributions (K, 4 * reg_max) of the distances at (image, row, column)."""
    check_finite(family, "boxes", sides)
    logits = sides.reshape(len(sides), 4, sides.shape[1] // 4)
    reg_max = logits.shape[2]
    if reg_max == 1:
        distances = logits[..., 0]
    else:
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        distances = (weights @ np.arange(reg_max, dtype=np.float32)) / weights.sum(axis=-1)
    _, row, column = where
    centre = np.stack((column, row), axis=-1).astype(np.float32) + np.float32(0.5)
    boxes = np.concatenate((centre - distances[:, :2], centre + distances[:, 2:]), axis=-1) * np.float32(stride_px)
    return np.asarray(boxes, np.float32)
