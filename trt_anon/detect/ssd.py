"""SSD with its priors decoded in the graph: class scores and boxes of every prior, as Ultra-Light and its like export.

Liu et al.: "SSD: Single Shot MultiBox Detector" (2016); outputs as in Linzaer's Ultra-Light-Fast-Generic-Face-Detector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
class Ssd:
    """Decodes scores (N, P, C, and a column for the background) and boxes (N, P, 4); each prior is one row.

    classes: C, how many the model knows. background: the column of the scores that means "no object". activation: what
    the graph has not applied to the scores. box_format, normalised: of the boxes; normalised ones are shares of the
    input's size. outputs: the names of scores and boxes. A prior counts for every class that reaches the threshold.
    """

    name: str = "ssd"
    classes: int = 1
    background: Background = "first"
    activation: Activation = "none"
    box_format: BoxFormat = "xyxy"
    normalised: bool = True
    outputs: tuple[str, str] = ("scores", "boxes")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 2)
        check_classes(self.name, self.classes, self.activation, self.background)

    @property
    def input_spec(self) -> InputSpec:
        """RGB as (x - 127) / 128, stretched to 320x240: Ultra-Light RFB-320; RFB-640 has 640x480."""
        unit = 1 / 128
        return InputSpec(
            mean=(127.0, 127.0, 127.0), scale=(unit, unit, unit), fit="stretch", stride_px=1, size_px=(320, 240)
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        columns = column_count(self.classes, self.background)
        raw = take_output(outputs, self.outputs[0], (None, columns), self.name)
        batch, priors, _ = raw.shape
        rows = take_output(outputs, self.outputs[1], (priors, 4), self.name, batch)
        found = class_probabilities(self.name, raw, self.activation, self.background)
        images, places, class_ids, scores = reaching(found, threshold)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            boxes = to_xyxy(self.name, rows[images, places], self.box_format, input_hw_px, self.normalised)
        return split_by_image(self.name, batch, images, boxes, scores, class_ids)
