"""DETR and RT-DETR: a fixed number of queries, each with class logits and one box, and no suppression.

Carion et al.: "End-to-End Object Detection with Transformers" (2020): softmax with a last class "no object".
Zhao et al.: "DETRs Beat YOLOs on Real-time Object Detection" (2024): a sigmoid for each class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import split_by_image, take_output
from trt_anon.detect.scores import (
    Activation,
    Background,
    check_classes,
    class_probabilities,
    column_count,
    reaching,
)
from trt_anon.detect.yolo import BoxFormat, check_options, to_xyxy
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class Detr:
    """Decodes logits (N, Q, C, and a column for "no object" where there is one) and boxes (N, Q, 4).

    classes: C, how many the model knows. activation: `sigmoid`, `softmax`, or `none` where the graph applied it.
    background: the column of "no object". box_format, normalised: of the boxes. picture: `unit` is RGB in [0, 1],
    stretched to 640x640; `imagenet` is RGB less ImageNet's mean, over its deviation, letterboxed. outputs: the names of
    logits and boxes. A query counts for every class that reaches the threshold.

    Exports that decode to labels, boxes and scores by way of a second input, the original picture size, are not
    supported: leave their post-processing out of the export.
    """

    name: str = "rt-detr"
    classes: int = 80
    activation: Activation = "sigmoid"
    background: Background = "none"
    box_format: BoxFormat = "cxcywh"
    normalised: bool = True
    picture: Literal["unit", "imagenet"] = "unit"
    outputs: tuple[str, str] = ("logits", "pred_boxes")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 2)
        check_classes(self.name, self.classes, self.activation, self.background)

    @property
    def input_spec(self) -> InputSpec:
        """As the option `picture` says."""
        if self.picture == "unit":
            unit = 1 / 255
            return InputSpec(scale=(unit, unit, unit), fit="stretch", stride_px=32, size_px=(640, 640))
        return InputSpec(
            mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
            scale=(1 / (0.229 * 255), 1 / (0.224 * 255), 1 / (0.225 * 255)),
            stride_px=32,
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image, distinct; see `detect.base.Family.decode`."""
        columns = column_count(self.classes, self.background)
        raw = take_output(outputs, self.outputs[0], (None, columns), self.name)
        batch, queries, _ = raw.shape
        rows = take_output(outputs, self.outputs[1], (queries, 4), self.name, batch)
        found = class_probabilities(self.name, raw, self.activation, self.background)
        images, places, class_ids, scores = reaching(found, threshold)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            boxes = to_xyxy(self.name, rows[images, places], self.box_format, input_hw_px, self.normalised)
        split = split_by_image(self.name, batch, images, boxes, scores, class_ids)
        return [dataclasses.replace(one, distinct=True) for one in split]


def detr() -> Detr:
    """DETR as first published: softmax with "no object" last, and the 91 class numbers of COCO."""
    return Detr(name="detr", classes=91, activation="softmax", background="last", picture="imagenet")
