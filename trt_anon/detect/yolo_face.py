"""YOLO-face: faces with landmarks from the heads of YOLOv5 (anchors) and YOLOv8 (distances).

Qi et al.: "YOLO5Face: Why Reinventing a Face Detector" (2021), section 3.2, for landmarks relative to anchors; the
second variant has the keypoint branch of YOLOv8's pose models.
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
    Collected,
    Layout,
    Pairs,
    check_anchors,
    check_options,
    confident,
    grids_of,
    probabilities,
    read_heads,
    read_output,
    row_count,
    to_xyxy,
    yolo_input,
)
from trt_anon.detect.yolov5 import anchored_boxes
from trt_anon.detect.yolov8 import distance_boxes, read_rows
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec

V5_FACE_ANCHORS_PX: tuple[Pairs, ...] = (
    ((4, 5), (8, 10), (13, 16)),
    ((23, 29), (43, 55), (73, 105)),
    ((146, 217), (231, 300), (335, 433)),
)


@dataclass(frozen=True)
class YoloV5Face:
    """Decodes YOLOv5-face: x, y, w, h, objectness, L landmarks (x, y), C classes, in this order.

    form: `raw`: one head per stride, in any order; `decoded`: one output (N, P, 5 + 2 L + C) of final values in pixels.
    landmarks: L. The other options are those of `yolov5.YoloV5`.

    Raw: boxes and score as in YOLOv5; landmark = value * anchor + cell * stride, without sigmoid.
    """

    name: str = "yolov5-face"
    classes: int = 1
    form: Literal["raw", "decoded"] = "raw"
    anchors_px: tuple[Pairs, ...] = V5_FACE_ANCHORS_PX
    strides_px: tuple[int, ...] = (8, 16, 32)
    landmarks: int = 5
    layout: Layout = "nahwc"
    activated: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(
            self.name, self.classes, self.strides_px, self.outputs, len(self.strides_px) if self.form == "raw" else 1
        )
        if self.form == "raw" or self.strides_px:
            check_anchors(self.name, self.anchors_px, self.strides_px)
        _check_landmarks(self.name, self.landmarks)

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
        marks_end = 5 + 2 * self.landmarks
        counts = [len(anchors) for anchors in self.anchors_px]
        if self.form == "decoded":
            count = row_count(input_hw_px, self.strides_px, counts)
            name = self.outputs[0] if self.outputs else None
            rows = read_output(outputs, name, (count, marks_end + self.classes), self.name)
            where, class_ids, scores = confident(
                self.name, rows[..., 4], rows[..., marks_end:], True, threshold, multi_label=False
            )
            values = rows[where]
            boxes = to_xyxy(self.name, values[:, :4], "cxcywh", input_hw_px, normalised=False)
            marks = values[:, 5:marks_end].reshape(-1, self.landmarks, 2)
            return split_by_image(self.name, len(rows), where[0], boxes, scores, class_ids, marks)

        grids = grids_of(input_hw_px, self.strides_px)
        channels = [marks_end + self.classes] * len(grids)
        heads = read_heads(outputs, self.outputs, grids, counts, channels, self.layout, self.name)
        found = Collected(self.name)
        for head, stride, anchors in zip(heads, self.strides_px, self.anchors_px, strict=True):
            where, class_ids, scores = confident(
                self.name, head[..., 4], head[..., marks_end:], self.activated, threshold, multi_label=False
            )
            images, anchor, row, column = where
            values = head[where]
            check_finite(self.name, "boxes", values[:, :4])
            boxes = anchored_boxes(probabilities(values[:, :4], self.activated), where, anchors, stride)
            corner = np.stack((column, row), axis=-1).astype(np.float32) * np.float32(stride)
            offsets = values[:, 5:marks_end].reshape(-1, self.landmarks, 2)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
                marks = offsets * np.array(anchors, np.float32)[anchor][:, None] + corner[:, None]
            found.add(images, boxes, scores, class_ids, marks)
        return found.split(len(heads[0]))


@dataclass(frozen=True)
class YoloV8Face:
    """Decodes YOLOv8-face: box, C classes, L landmarks of x, y and, with landmark_values 3, a visibility not read here.

    form: `raw`: one head per stride, in any order, 4 * reg_max + C + L * landmark_values channels;
      `decoded`: one output (N, 4 + C + L * landmark_values, P) of final values in pixels.
    layout: `nchw` or `nhwc` of raw heads, `ncp` or `npc` of the decoded output; `auto` is the first.
    The other options are those of `yolov8.YoloV8`.

    Raw: boxes and score as in YOLOv8; landmark = (2 * value + cell) * stride, without sigmoid.
    """

    name: str = "yolov8-face"
    classes: int = 1
    form: Literal["raw", "decoded"] = "raw"
    layout: Literal["auto", "ncp", "npc", "nchw", "nhwc"] = "auto"
    strides_px: tuple[int, ...] = (8, 16, 32)
    reg_max: int = 16
    landmarks: int = 5
    landmark_values: Literal[2, 3] = 3
    activated: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(
            self.name, self.classes, self.strides_px, self.outputs, len(self.strides_px) if self.form == "raw" else 1
        )
        if self.form == "raw" and not self.strides_px:
            raise ConfigError(f"family {self.name!r}: raw heads need 'strides_px'")
        layouts = ("auto", "ncp", "npc") if self.form == "decoded" else ("auto", "nchw", "nhwc")
        if self.layout not in layouts:
            known = ", ".join(layouts)
            raise ConfigError(
                f"family {self.name!r}: 'layout' of form {self.form!r} is one of {known}, not {self.layout}"
            )
        if self.reg_max < 1:
            raise ConfigError(f"family {self.name!r}: 'reg_max' must be at least 1, not {self.reg_max}")
        _check_landmarks(self.name, self.landmarks)

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
        sides = 4 if self.form == "decoded" else 4 * self.reg_max
        marks_from = sides + self.classes
        channels = marks_from + self.landmarks * self.landmark_values
        if self.form == "decoded":
            transposed = self.layout == "npc"
            rows = read_rows(outputs, self.outputs, channels, transposed, self.strides_px, input_hw_px, self.name)
            where, class_ids, scores = confident(
                self.name, None, rows[..., 4:marks_from], True, threshold, multi_label=False
            )
            values = rows[where]
            boxes = to_xyxy(self.name, values[:, :4], "cxcywh", input_hw_px, normalised=False)
            return split_by_image(
                self.name, len(rows), where[0], boxes, scores, class_ids, self._points(values[:, marks_from:])
            )

        grids = grids_of(input_hw_px, self.strides_px)
        ones = [1] * len(grids)
        layout: Layout = "nhwc" if self.layout == "nhwc" else "nchw"
        heads = read_heads(outputs, self.outputs, grids, ones, [channels] * len(grids), layout, self.name)
        found = Collected(self.name)
        for head, stride in zip((head[:, 0] for head in heads), self.strides_px, strict=True):
            where, class_ids, scores = confident(
                self.name, None, head[..., sides:marks_from], self.activated, threshold, multi_label=False
            )
            images, row, column = where
            values = head[where]
            boxes = distance_boxes(self.name, values[:, :sides], where, stride)
            cell = np.stack((column, row), axis=-1).astype(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
                marks = (2 * self._points(values[:, marks_from:]) + cell[:, None]) * np.float32(stride)
            found.add(images, boxes, scores, class_ids, marks)
        return found.split(len(heads[0]))

    def _points(self, values: Floats) -> Floats:
        return values.reshape(-1, self.landmarks, self.landmark_values)[..., :2]


def _check_landmarks(family: str, landmarks: int) -> None:
    if landmarks < 1:
        raise ConfigError(f"family {family!r}: 'landmarks' must be at least 1, not {landmarks}")
