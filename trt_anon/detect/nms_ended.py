"""Graphs that end in suppression: ONNX NonMaxSuppression, and the layout of TensorRT's EfficientNMS plugin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.corners import CornerFormat, to_corners
from trt_anon.detect.outputs import check_probabilities, split_by_image, take_output
from trt_anon.detect.two_stage import whole_numbers
from trt_anon.detect.yolo import check_options, yolo_input
from trt_anon.errors import ModelError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class OnnxNms:
    """Decodes selected_indices (K, 3: image, class, box), boxes (N, P, 4) and scores (N, C, P).

    They are NonMaxSuppression's output and its two first inputs; a graph that ends in it must give all three. Rows of
    -1 are padding, as OpenVINO writes it. classes: C. corner_format: `yxyx` is what the operator means without
    center_point_box, `cxcywh` with it; the operator itself takes `xyxy` as well. normalised: boxes are shares of the
    input's size. outputs: the names of the three. What the graph's own score threshold dropped is not seen here.
    """

    name: str = "onnx-nms"
    classes: int = 80
    corner_format: CornerFormat = "yxyx"
    normalised: bool = False
    outputs: tuple[str, str, str] = ("selected_indices", "boxes", "scores")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 3)

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], letterboxed in gray: that of most YOLO models, which are what ends so."""
        return yolo_input(())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image, distinct; see `detect.base.Family.decode`."""
        chosen_name, boxes_name, scores_name = self.outputs
        boxes = take_output(outputs, boxes_name, (None, 4), self.name)
        batch, places, _ = boxes.shape
        scores = take_output(outputs, scores_name, (self.classes, places), self.name, batch)
        chosen = whole_numbers(self.name, "indices", take_output(outputs, chosen_name, (3,), self.name, None))
        chosen = chosen[(chosen >= 0).any(axis=1)]
        limits = np.array((batch, self.classes, places))
        if ((chosen < 0) | (chosen >= limits)).any():
            raise ModelError(
                f"{self.name}: output {chosen_name!r} points beyond {batch} images, {self.classes} classes and "
                f"{places} boxes; do not trust this model or device"
            )
        images, classes, places_chosen = chosen.T
        found = scores[images, classes, places_chosen]
        check_probabilities(self.name, scores)
        wanted = found >= threshold
        images, classes, places_chosen = images[wanted], classes[wanted], places_chosen[wanted]
        corners = to_corners(self.name, boxes[images, places_chosen], self.corner_format, input_hw_px, self.normalised)
        split = split_by_image(self.name, batch, images, corners, found[wanted], classes.astype(np.int32))
        return [dataclasses.replace(one, distinct=True) for one in split]


@dataclass(frozen=True)
class EfficientNms:
    """Decodes num_dets (N, 1), det_boxes (N, K, 4), det_scores (N, K) and det_classes (N, K); the first num_dets count.

    classes: how many the model knows. corner_format, normalised: of the boxes. outputs: the names of the four.
    """

    name: str = "efficient-nms"
    classes: int = 80
    corner_format: CornerFormat = "xyxy"
    normalised: bool = False
    outputs: tuple[str, str, str, str] = ("num_dets", "det_boxes", "det_scores", "det_classes")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 4)

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], letterboxed in gray: that of most YOLO models, which are what ends so."""
        return yolo_input(())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image, distinct; see `detect.base.Family.decode`."""
        count_name, boxes_name, scores_name, classes_name = self.outputs
        boxes = take_output(outputs, boxes_name, (None, 4), self.name)
        batch, most, _ = boxes.shape
        counts = whole_numbers(self.name, "counts", take_output(outputs, count_name, (1,), self.name, batch))[:, 0]
        scores = take_output(outputs, scores_name, (most,), self.name, batch)
        labels = take_output(outputs, classes_name, (most,), self.name, batch)
        if counts.size and not (counts.min() >= 0 and counts.max() <= most):
            raise ModelError(
                f"{self.name}: output {count_name!r} must hold 0..{most}; do not trust this model or device"
            )
        filled = np.arange(most) < counts[:, None]
        check_probabilities(self.name, scores[filled])
        images, places = np.nonzero(filled & (scores >= threshold))
        class_ids = whole_numbers(self.name, "classes", labels[images, places])
        if class_ids.size and not (class_ids.min() >= 0 and class_ids.max() < self.classes):
            raise ModelError(f"{self.name}: output {classes_name!r} must hold 0..{self.classes - 1}")
        corners = to_corners(self.name, boxes[images, places], self.corner_format, input_hw_px, self.normalised)
        split = split_by_image(self.name, batch, images, corners, scores[images, places], class_ids.astype(np.int32))
        return [dataclasses.replace(one, distinct=True) for one in split]
