"""Exports that give finished detections: Faster R-CNN and other two-stage detectors, and all that look like them.

Ren et al.: "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks" (2015); layouts as
torchvision and the ONNX Model Zoo export them, and as the TensorFlow detection models do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.corners import CornerFormat, to_corners
from trt_anon.detect.outputs import Floats, Indices, check_finite, check_probabilities, split_by_image, take_output
from trt_anon.detect.yolo import check_options
from trt_anon.errors import ConfigError, ModelError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class TwoStage:
    """Decodes boxes (K, 4), labels (K) and scores (K) of one image, or padded (N, K, 4), (N, K) and (N, K) of several.

    classes: how many the model knows. label_offset: the label of the first class; lower labels mean background and are
    left out, higher ones than there are classes are errors. corner_format, normalised: of the boxes. outputs: the names
    of boxes, labels and scores, and as a fourth, where the detections of several images come in one row, that of the
    image (K) each belongs to. batch: how many images such a graph takes; it cannot be seen in its outputs.
    The masks of a Mask R-CNN are not read.
    """

    name: str = "torchvision-detection"
    classes: int = 90
    label_offset: int = 1
    corner_format: CornerFormat = "xyxy"
    normalised: bool = False
    outputs: tuple[str, ...] = ("boxes", "labels", "scores")
    batch: int = 1

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 4 if len(self.outputs) == 4 else 3)
        if len(self.outputs) not in (3, 4):
            raise ConfigError(f"family {self.name!r}: 'outputs' must name boxes, labels and scores, and perhaps images")
        if self.batch < 1 or (self.batch > 1 and len(self.outputs) == 3):
            raise ConfigError(f"family {self.name!r}: a 'batch' of {self.batch} needs a fourth output, and at least 1")

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], as torchvision's detectors want it; they scale and normalise by themselves."""
        return InputSpec(scale=(1 / 255, 1 / 255, 1 / 255), stride_px=32)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image, distinct; see `detect.base.Family.decode`."""
        boxes, labels, scores, images, batch = self._rows(outputs)
        check_probabilities(self.name, scores)
        wanted = scores >= threshold
        boxes, labels, scores, images = boxes[wanted], labels[wanted], scores[wanted], images[wanted]
        class_ids = whole_numbers(self.name, "labels", labels) - self.label_offset
        if (class_ids >= self.classes).any():
            raise ModelError(
                f"{self.name}: the model gave labels above {self.classes - 1 + self.label_offset}, expected "
                f"{self.classes} classes from label {self.label_offset} on"
            )
        known = class_ids >= 0
        corners = to_corners(self.name, boxes[known], self.corner_format, input_hw_px, self.normalised)
        split = split_by_image(
            self.name, batch, images[known], corners, scores[known], class_ids[known].astype(np.int32)
        )
        return [dataclasses.replace(one, distinct=True) for one in split]

    def _rows(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats, Floats, Indices, int]:
        """boxes (K, 4), labels (K), scores (K), the image (K) of each, and how many images there are."""
        boxes_name, labels_name, scores_name = self.outputs[:3]
        if len(self.outputs) == 3 and boxes_name in outputs and outputs[boxes_name].ndim == 3:
            boxes = take_output(outputs, boxes_name, (None, 4), self.name)
            batch, count, _ = boxes.shape
            labels = take_output(outputs, labels_name, (count,), self.name, batch)
            scores = take_output(outputs, scores_name, (count,), self.name, batch)
            return boxes.reshape(-1, 4), labels.ravel(), scores.ravel(), np.repeat(np.arange(batch), count), batch
        boxes = take_output(outputs, boxes_name, (4,), self.name)
        count = len(boxes)
        labels = take_output(outputs, labels_name, (), self.name, count)
        scores = take_output(outputs, scores_name, (), self.name, count)
        if len(self.outputs) == 3:
            return boxes, labels, scores, np.zeros(count, np.intp), 1
        images = whole_numbers(self.name, "images", take_output(outputs, self.outputs[3], (), self.name, count))
        if count and not (images.min() >= 0 and images.max() < self.batch):
            raise ModelError(f"{self.name}: output {self.outputs[3]!r} must hold 0..{self.batch - 1}; see 'batch'")
        return boxes, labels, scores, images, self.batch


def whole_numbers(family: str, what: str, values: Floats) -> Indices:
    """Values of an output as integers; ModelError where they are none."""
    check_finite(family, what, values)
    rounded = np.rint(values)
    if (np.abs(values - rounded) > 1e-3).any():
        raise ModelError(
            f"{family}: the model gave {what} that are no whole numbers; are the outputs in the right order?"
        )
    return rounded.astype(np.intp)


def model_zoo() -> TwoStage:
    """Faster R-CNN of the ONNX Model Zoo: BGR less a mean, and outputs that have numbers for names."""
    return _ModelZoo(name="faster-rcnn", classes=80, outputs=("6379", "6381", "6383"))


@dataclass(frozen=True)
class _ModelZoo(TwoStage):
    @property
    def input_spec(self) -> InputSpec:
        """BGR less (102.9801, 115.9465, 122.7717)."""
        return InputSpec(channels="bgr", mean=(102.9801, 115.9465, 122.7717), stride_px=32)
