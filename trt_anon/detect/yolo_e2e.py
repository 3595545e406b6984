"""End-to-end exports of YOLOv10, YOLO26 and other models that need no suppression: rows of box, score and class.

Wang et al.: "YOLOv10: Real-Time End-to-End Object Detection" (2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import check_finite, check_probabilities, split_by_image
from trt_anon.detect.yolo import BoxFormat, check_options, read_output, to_xyxy, yolo_input
from trt_anon.errors import ConfigError, ModelError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class YoloEndToEnd:
    """Decodes one output (N, P, 6): box, score, class; rows that a model pads have a score of 0.

    classes: how many the model knows; a class beyond is an error. box_format, normalised: of the boxes; normalised ones
    are shares of the input's size. extra_channels: further values of a row that are not read (mask coefficients,
    keypoints). outputs: the output's name; empty: it is found by its shape. score = the class's probability, as the
    graph chose it. The model chooses one row per object for itself, so its boxes are distinct.
    """

    name: str = "yolo-e2e"
    classes: int = 80
    box_format: BoxFormat = "xyxy"
    normalised: bool = False
    extra_channels: int = 0
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 1)
        if self.extra_channels < 0:
            raise ConfigError(f"family {self.name!r}: 'extra_channels' must be at least 0, not {self.extra_channels}")

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], letterboxed in gray."""
        return yolo_input(())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The option `outputs`; empty means that all outputs are wanted."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        rows = read_output(
            outputs, self.outputs[0] if self.outputs else None, (None, 6 + self.extra_channels), self.name
        )
        check_probabilities(self.name, rows[..., 4])
        images, places = np.nonzero(rows[..., 4] >= threshold)
        values = rows[images, places]
        check_finite(self.name, "classes", values[:, 5])
        class_ids = np.rint(values[:, 5])
        if (
            (np.abs(class_ids - values[:, 5]) > 1e-3).any()
            or (class_ids < 0).any()
            or (class_ids >= self.classes).any()
        ):
            raise ModelError(
                f"{self.name}: the sixth value of a row must be a class of 0..{self.classes - 1}, but the model gave "
                f"others; are its rows box, score, class, and has it {self.classes} classes?"
            )
        boxes = to_xyxy(self.name, values[:, :4], self.box_format, input_hw_px, self.normalised)
        found = split_by_image(self.name, len(rows), images, boxes, values[:, 4], class_ids.astype(np.int32))
        return [replace(candidates, distinct=True) for candidates in found]
