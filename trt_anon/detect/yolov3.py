"""YOLOv3 and YOLOv4: boxes relative to anchors, from raw heads or decoded by the graph.

Redmon, Farhadi: "YOLOv3: An Incremental Improvement" (2018); Bochkovskiy, Wang, Liao: "YOLOv4: Optimal Speed and
Accuracy of Object Detection" (2020), section 3.4 ("eliminate grid sensitivity"), for the stretch of the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, check_finite
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
from trt_anon.errors import ConfigError, ModelError
from trt_anon.types import InputSpec

V3_ANCHORS_PX: Pairs = (
    *((10, 13), (16, 30), (33, 23)),
    *((30, 61), (62, 45), (59, 119)),
    *((116, 90), (156, 198), (373, 326)),
)
V4_ANCHORS_PX: Pairs = (
    *((12, 16), (19, 36), (40, 28)),
    *((36, 75), (76, 55), (72, 146)),
    *((142, 110), (192, 243), (459, 401)),
)


@dataclass(frozen=True)
class YoloV3:
    """Decodes the heads of YOLOv3 and YOLOv4, in whatever order the model gives them.

    classes: C, how many the model knows.
    form: `raw`: one head per stride, anchors * (5 + C) channels of x, y, w, h, objectness, classes.
      `decoded`: one output (N, P, 5 + C) of boxes, objectness, classes, all final.
      `split`: two outputs, boxes (N, P, 4) or (N, P, 1, 4) and class scores (N, P, C) that hold the objectness.
    strides_px, masks: for each head its stride and its anchors, as indices into anchors_px. anchors_px: (width, height)
      in pixels of the input. With form `decoded` or `split` they only say what P must be; without strides any P does.
    scale_x_y: s of each head; empty is 1 for all. YOLOv4 has 1.2, 1.1, 1.05 for strides 8, 16, 32.
    layout: axes of the raw heads, see `yolo.Layout`. activated: the graph has applied the sigmoids.
    box_format, normalised: of form `decoded` and `split`; normalised boxes are shares of the input's size.
    multi_label: a box counts for every class that reaches the threshold, not for its best alone.
    outputs: names, by head in the order of strides_px (`split`: boxes, scores); empty: they are found by their shapes.

    Raw, with o the sigmoid: centre = ((o(x), o(y)) * s - (s - 1) / 2 + cell) * stride, size = anchor * exp(w, h).
    score = o(objectness) * o(class): the class-specific confidence of "You Only Look Once" (2016), section 2.
    Scaled-YOLOv4's `new_coords` heads are family `yolov5` with `activated`.
    """

    name: str = "yolov3"
    classes: int = 80
    form: Literal["raw", "decoded", "split"] = "raw"
    anchors_px: Pairs = V3_ANCHORS_PX
    masks: tuple[tuple[int, ...], ...] = ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    strides_px: tuple[int, ...] = (8, 16, 32)
    scale_x_y: tuple[float, ...] = ()
    layout: Layout = "nchw"
    activated: bool = False
    box_format: BoxFormat = "cxcywh"
    normalised: bool = False
    multi_label: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        wanted = {"raw": len(self.strides_px), "decoded": 1, "split": 2}[self.form]
        check_options(self.name, self.classes, self.strides_px, self.outputs, wanted)
        if self.form != "raw" and not self.strides_px:
            return
        if any(not 0 <= index < len(self.anchors_px) for mask in self.masks for index in mask):
            raise ConfigError(f"family {self.name!r}: 'masks' must index the {len(self.anchors_px)} anchors")
        check_anchors(self.name, self.anchors_of_heads, self.strides_px)
        if self.scale_x_y and len(self.scale_x_y) != len(self.strides_px):
            raise ConfigError(
                f"family {self.name!r}: 'scale_x_y' must have one value for each of the {len(self.strides_px)} "
                f"strides, not {len(self.scale_x_y)}"
            )

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], letterboxed in gray; Darknet itself stretches."""
        return yolo_input(self.strides_px)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The option `outputs`; empty means that all outputs are wanted."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        if self.form == "raw":
            return self._decode_raw(outputs, input_hw_px, threshold)
        anchors = [len(mask) for mask in self.masks] if self.strides_px else None
        count = row_count(input_hw_px, self.strides_px, anchors)
        if self.form == "split":
            rows, scores = self.read_split(outputs, count)
            objectness = None
        else:
            name = self.outputs[0] if self.outputs else None
            rows = read_output(outputs, name, (count, 5 + self.classes), self.name)
            objectness, scores = rows[..., 4], rows[..., 5:]
        form = self.box_format, self.normalised, input_hw_px
        return decode_rows(self.name, rows, objectness, scores, *form, threshold, self.multi_label)

    def _decode_raw(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        anchors_of_heads = self.anchors_of_heads
        grids = grids_of(input_hw_px, self.strides_px)
        counts = [len(anchors) for anchors in anchors_of_heads]
        channels = [5 + self.classes] * len(grids)
        heads = read_heads(outputs, self.outputs, grids, counts, channels, self.layout, self.name)
        found = Collected(self.name)
        stretches = self.scale_x_y or (1.0,) * len(heads)
        for head, stride, stretch, anchors in zip(heads, self.strides_px, stretches, anchors_of_heads, strict=True):
            where, class_ids, scores = confident(
                self.name, head[..., 4], head[..., 5:], self.activated, threshold, self.multi_label
            )
            images, anchor, row, column = where
            values = head[where]
            check_finite(self.name, "boxes", values[:, :4])
            cell = np.stack((column, row), axis=-1)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
                shift = probabilities(values[:, :2], self.activated) * np.float32(stretch) - np.float32(
                    (stretch - 1) / 2
                )
                centre = (shift + cell.astype(np.float32)) * np.float32(stride)
                half = np.array(anchors, np.float32)[anchor] * np.exp(values[:, 2:4]) * np.float32(0.5)
                boxes = np.concatenate((centre - half, centre + half), axis=-1)
            found.add(images, boxes, scores, class_ids)
        return found.split(len(heads[0]))

    def read_split(self, outputs: Mapping[str, NDArray[Any]], count: int | None) -> tuple[Floats, Floats]:
        """Boxes (N, P, 4) and scores (N, P, C) of form `split`; see `yolo.read_output`."""
        boxes_name, scores_name = self.outputs or (None, None)
        flat = {name: array[:, :, 0] if _is_boxes(array) else array for name, array in outputs.items()}
        if self.classes == 4 and boxes_name is None:
            raise ModelError(
                f"{self.name}: boxes and four classes have the same shape; name both in the option 'outputs'"
            )
        boxes = read_output(flat, boxes_name, (count, 4), self.name)
        return boxes, read_output(flat, scores_name, (boxes.shape[1], self.classes), self.name, len(boxes))

    @property
    def anchors_of_heads(self) -> tuple[Pairs, ...]:
        """The anchors of each head, in the order of strides_px."""
        return tuple(tuple(self.anchors_px[index] for index in mask) for mask in self.masks)


def _is_boxes(array: NDArray[Any]) -> bool:
    return array.ndim == 4 and array.shape[2:] == (1, 4)


def yolov4() -> YoloV3:
    """The family with the anchors and stretched centres of YOLOv4."""
    return YoloV3(name="yolov4", anchors_px=V4_ANCHORS_PX, scale_x_y=(1.2, 1.1, 1.05))
