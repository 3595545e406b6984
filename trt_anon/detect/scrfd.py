"""SCRFD: faces as distances from anchor points to the four sides, with or without landmarks.

Guo et al.: "Sample and Computation Redistribution for Efficient Face Detection" (2021); outputs as InsightFace exports
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, cells, check_finite, split_by_image, take_output
from trt_anon.detect.scores import Activation, class_probabilities
from trt_anon.detect.yolo import check_options
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class Scrfd:
    """Decodes, for each stride, score (N, A, 1), bbox (N, A, 4) and kps (N, A, 2 * landmarks).

    strides_px: of the grids. anchors: how many share a cell; A counts cells row by row, times anchors. landmarks: 0
    where the model has none. activation: what the graph has not applied to the scores. outputs: the names of all
    scores, then all boxes, then all landmarks, in the order of the strides; empty: `score_S`, `bbox_S` and `kps_S`.
    An output without a batch axis, (A, k), is that of one image.

    With anchor point a = cell * stride (the cell's corner, not its middle): the sides lie bbox * stride to the left,
    top, right and bottom of it, landmark = a + kps * stride.
    """

    name: str = "scrfd"
    strides_px: tuple[int, ...] = (8, 16, 32)
    anchors: int = 2
    landmarks: int = 5
    activation: Activation = "none"
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        kinds = 3 if self.landmarks else 2
        check_options(self.name, 1, self.strides_px, self.outputs, kinds * len(self.strides_px))
        if not self.strides_px or self.anchors < 1 or self.landmarks < 0 or self.activation == "softmax":
            raise ConfigError(f"family {self.name!r}: needs strides, anchors, landmarks >= 0 and no softmax")

    @property
    def input_spec(self) -> InputSpec:
        """RGB as (x - 127.5) / 128, letterboxed."""
        unit = 1 / 128
        return InputSpec(mean=(127.5, 127.5, 127.5), scale=(unit, unit, unit), stride_px=max(self.strides_px))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads: all scores, all boxes, all landmarks."""
        kinds = ("score", "bbox", "kps") if self.landmarks else ("score", "bbox")
        return self.outputs or tuple(f"{kind}_{stride}" for kind in kinds for stride in self.strides_px)

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        levels = len(self.strides_px)
        found = []
        batch: int | None = None
        for level, stride in enumerate(self.strides_px):
            rows, columns = cells(input_hw_px, stride)
            count = rows * columns * self.anchors
            names = self.output_names[level::levels]
            raw = self.take(outputs, names[0], (count, 1), batch)
            batch = len(raw)
            bbox = self.take(outputs, names[1], (count, 4), batch)
            scores = class_probabilities(self.name, raw, self.activation, "none")[..., 0]
            images, places = np.nonzero(scores >= threshold)
            cell = places // self.anchors
            anchor = (np.stack((cell % columns, cell // columns), axis=-1) * stride).astype(np.float32)
            distances = bbox[images, places] * stride
            check_finite(self.name, "boxes", distances)
            boxes = np.concatenate((anchor - distances[:, :2], anchor + distances[:, 2:]), axis=-1)
            marks = np.zeros((len(images), 0, 2), np.float32)
            if self.landmarks:
                kps = self.take(outputs, names[2], (count, 2 * self.landmarks), batch)
                marks = anchor[:, None] + kps[images, places].reshape(-1, self.landmarks, 2) * stride
            found.append((images, boxes, scores[images, places], marks))
        image_ids, all_boxes, all_scores, all_marks = (np.concatenate(parts) for parts in zip(*found, strict=True))
        landmarks = all_marks if self.landmarks else None
        return split_by_image(self.name, batch or 0, image_ids, all_boxes, all_scores, landmarks=landmarks)

    def take(self, outputs: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, int], batch: int | None) -> Floats:
        """An output as (N, *shape), also where it has no batch axis; ModelError as of `outputs.take_output`."""
        if name in outputs and outputs[name].ndim == 2 and outputs[name].shape == shape:
            outputs = {name: outputs[name][None]}
        return take_output(outputs, name, shape, self.name, batch)
