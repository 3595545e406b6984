"""YOLOv5 and YOLOv7: boxes relative to anchors with bounded sizes, from raw heads or decoded by the graph.

The formulas are those of "Architecture Summary" in the YOLOv5 documentation (section 4.3, "Eliminate Grid Sensitivity")
and, for the same head, of Wang, Bochkovskiy, Liao: "Scaled-YOLOv4" (2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, Indices, check_finite
from trt_anon.detect.yolo import (
    BoxFormat,
    Collected,
    Layout,
    Pairs,
    check_anchors,
    check_options,
    confident,
    decode_rows,
    grids_of,
    probabilities,
    read_heads,
    read_output,
    row_count,
    yolo_input,
)
from trt_anon.types import InputSpec

V5_ANCHORS_PX: tuple[Pairs, ...] = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
V7_ANCHORS_PX: tuple[Pairs, ...] = (
    ((12, 16), (19, 36), (40, 28)),
    ((36, 75), (76, 55), (72, 146)),
    ((142, 110), (192, 243), (459, 401)),
)


@dataclass(frozen=True)
class YoloV5:
    """Decodes the heads of YOLOv5, YOLOv7 and Scaled-YOLOv4, in whatever order the model gives them.

    classes: C, how many the model knows.
    form: `raw`: one head per stride and anchors with 5 + C channels each: x, y, w, h, objectness, classes.
      `decoded`: one output (N, P, 5 + C) of boxes, objectness, classes, all final.
    strides_px, anchors_px: for each head its stride and its anchors, (width, height) in pixels of the input. With form
      `decoded` they only say what P must be; without strides any P will do.
    layout: axes of the raw heads, see `yolo.Layout`. activated: the graph has applied the sigmoid to the raw heads.
    box_format, normalised: of form `decoded`; normalised boxes are shares of the input's size.
    multi_label: a box counts for every class that reaches the threshold, not for its best alone.
    outputs: names, by head in the order of strides_px; empty: outputs are found by their shapes.

    Raw, with o the sigmoid: centre = (2 * o(x, y) - 0.5 + cell) * stride, size = anchor * (2 * o(w, h)) ** 2,
    score = o(objectness) * o(class).
    """

    name: str = "yolov5"
    classes: int = 80
    form: Literal["raw", "decoded"] = "decoded"
    anchors_px: tuple[Pairs, ...] = V5_ANCHORS_PX
    strides_px: tuple[int, ...] = (8, 16, 32)
    layout: Layout = "nahwc"
    activated: bool = False
    box_format: BoxFormat = "cxcywh"
    normalised: bool = False
    multi_label: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        wanted = len(self.strides_px) if self.form == "raw" else 1
        check_options(self.name, self.classes, self.strides_px, self.outputs, wanted)
        if self.form == "raw" or self.strides_px:
            check_anchors(self.name, self.anchors_px, self.strides_px)

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
        counts = [len(anchors) for anchors in self.anchors_px]
        if self.form == "decoded":
            count = row_count(input_hw_px, self.strides_px, counts)
            name = self.outputs[0] if self.outputs else None
            rows = read_output(outputs, name, (count, 5 + self.classes), self.name)
            form = self.box_format, self.normalised, input_hw_px
            return decode_rows(self.name, rows, rows[..., 4], rows[..., 5:], *form, threshold, self.multi_label)

        grids = grids_of(input_hw_px, self.strides_px)
        channels = [5 + self.classes] * len(grids)
        heads = read_heads(outputs, self.outputs, grids, counts, channels, self.layout, self.name)
        found = Collected(self.name)
        for head, stride, anchors in zip(heads, self.strides_px, self.anchors_px, strict=True):
            where, class_ids, scores = confident(
                self.name, head[..., 4], head[..., 5:], self.activated, threshold, self.multi_label
            )
            values = head[where][:, :4]
            check_finite(self.name, "boxes", values)
            boxes = anchored_boxes(probabilities(values, self.activated), where, anchors, stride)
            found.add(where[0], boxes, scores, class_ids)
        return found.split(len(heads[0]))


def anchored_boxes(
    shares: Floats, where: tuple[Indices, ...], anchors_px: Sequence[tuple[float, float]], stride_px: int
) -> Floats:
    """Corners (K, 4) in pixels from activated x, y, w, h (K, 4) at (image, anchor, row, column)."""
    _, anchor, row, column = where
    cell = np.stack((column, row), axis=-1).astype(np.float32)
    centre = (2 * shares[:, :2] - np.float32(0.5) + cell) * np.float32(stride_px)
    half = np.array(anchors_px, np.float32)[anchor] * (2 * shares[:, 2:]) ** 2 / 2
    return np.concatenate((centre - half, centre + half), axis=-1)


def yolov7() -> YoloV5:
    """The family with the anchors of YOLOv7."""
    return YoloV5(name="yolov7", anchors_px=V7_ANCHORS_PX)
