"""BlazeFace: faces with six landmarks, relative to anchors that are points.

Bazarevsky et al.: "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs" (2019); anchors and units as in
MediaPipe's graphs for the short-range and full-range models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, cells, check_finite, split_by_image, take_output
from trt_anon.detect.scores import class_probabilities
from trt_anon.detect.yolo import check_options
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec

LANDMARKS = 6


@dataclass(frozen=True)
class BlazeFace:
    """Decodes regressors (N, A, 16) and classificators (N, A, 1; logits).

    layer_strides_px: the stride of each anchor layer; layers of equal stride that follow each other share a grid, so A
    counts the cells of each grid row by row, and within a cell anchors_per_layer for each of its layers. The default is
    the short-range model: 16x16 cells of 2 anchors and 8x8 cells of 6 make 896. outputs: the names of the two.

    With anchor point a = (cell + 0.5) * stride: centre = a + r[:2], size = r[2:4], landmark = a + r[4:], all in pixels
    of the input. Landmarks: right eye, left eye, nose, mouth, right ear, left ear. score = sigmoid.
    """

    name: str = "blazeface"
    layer_strides_px: tuple[int, ...] = (8, 16, 16, 16)
    anchors_per_layer: int = 2
    outputs: tuple[str, str] = ("regressors", "classificators")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, 1, self.layer_strides_px, self.outputs, 2)
        if not self.layer_strides_px or self.anchors_per_layer < 1:
            raise ConfigError(f"family {self.name!r}: needs 'layer_strides_px' and 'anchors_per_layer' of at least 1")

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [-1, 1], letterboxed to 128x128."""
        unit = 1 / 127.5
        return InputSpec(mean=(127.5, 127.5, 127.5), scale=(unit, unit, unit), stride_px=1, size_px=(128, 128))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        anchors = self._anchors(input_hw_px)
        regressors = take_output(outputs, self.outputs[0], (len(anchors), 4 + 2 * LANDMARKS), self.name)
        batch = len(regressors)
        logits = take_output(outputs, self.outputs[1], (len(anchors), 1), self.name, batch)
        scores = class_probabilities(self.name, logits, "sigmoid", "none")[..., 0]
        images, places = np.nonzero(scores >= threshold)
        values, anchor = regressors[images, places], anchors[places]
        check_finite(self.name, "boxes", values)
        centre, half = anchor + values[:, :2], values[:, 2:4] * np.float32(0.5)
        marks = anchor[:, None] + values[:, 4:].reshape(-1, LANDMARKS, 2)
        boxes = np.concatenate((centre - half, centre + half), axis=-1)
        return split_by_image(self.name, batch, images, boxes, scores[images, places], landmarks=marks)

    def _anchors(self, input_hw_px: tuple[int, int]) -> Floats:
        """(A, 2) anchor points in pixels of the input."""
        points = []
        for stride, layers in groupby(self.layer_strides_px):
            rows, columns = cells(input_hw_px, stride)
            y, x = np.mgrid[:rows, :columns]
            cell = (np.stack((x, y), axis=-1).reshape(-1, 2) + 0.5) * stride
            points.append(np.repeat(cell, self.anchors_per_layer * len(list(layers)), axis=0))
        return np.concatenate(points).astype(np.float32)
