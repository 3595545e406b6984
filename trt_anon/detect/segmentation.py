"""Segmentation maps, as U-Nets give them: each connected part of a class becomes a box with an exact outline.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.detect.base import Candidates
from trt_anon.detect.contours import outline
from trt_anon.detect.outputs import Floats
from trt_anon.detect.scores import Activation, Background, check_classes, class_probabilities, column_count
from trt_anon.detect.two_stage import whole_numbers
from trt_anon.detect.yolo import check_options, read_output
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class Segmentation:
    """Decodes one map (N, C, h, w) of class scores, with a channel for the background where there is one.

    classes: C, how many the model knows. background: the channel that means "no object". activation: what the graph has
    not applied to the scores. layout: `nchw`; `nhwc`; or `labels`, a map (N, h, w) or (N, 1, h, w) of class numbers, 0
    the background if that comes first. min_cells: smaller parts are left out; 1 keeps all. outputs: the map's name;
    empty: it is found by its shape.

    A cell belongs to every class whose probability reaches the threshold, be another class's higher or not. Cells that
    touch, at a corner too, are one part. Its score is the highest probability in it (1 with `labels`), its box and its
    outline run along the edges of its cells, holes filled. The map may be smaller than the input. Parts are distinct.
    """

    name: str = "segmentation"
    classes: int = 1
    background: Background = "none"
    activation: Activation = "none"
    layout: Literal["nchw", "nhwc", "labels"] = "nchw"
    min_cells: int = 1
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 1)
        check_classes(self.name, self.classes, self.activation, self.background)
        if self.min_cells < 1:
            raise ConfigError(f"family {self.name!r}: 'min_cells' must be at least 1, not {self.min_cells}")
        if self.layout == "labels" and self.background == "last":
            raise ConfigError(f"family {self.name!r}: in a map of labels the background is 'first' or 'none'")

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 1], stretched."""
        return InputSpec(scale=(1 / 255, 1 / 255, 1 / 255), fit="stretch", stride_px=32)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The option `outputs`; empty means that all outputs are wanted."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image with outlines, distinct; see `detect.base.Family.decode`.

        Raises PackageMissing without OpenCV.
        """
        return [self._parts(image, input_hw_px, threshold) for image in self._probabilities(outputs)]

    def _probabilities(self, outputs: Mapping[str, NDArray[Any]]) -> Floats:
        """(N, C, h, w) in [0, 1], without the background."""
        name = self.outputs[0] if self.outputs else None
        if self.layout == "labels":
            four = [key for key, array in outputs.items() if array.ndim == 4 and name in (None, key)]
            shape = (1, None, None) if four else (None, None)
            maps = read_output(outputs, name, shape, self.name)
            labels = whole_numbers(self.name, "labels", maps[:, 0] if four else maps)
            first = 1 if self.background == "first" else 0
            wanted = np.arange(first, first + self.classes)
            return np.asarray(labels[:, None] == wanted[:, None, None], np.float32)
        columns = column_count(self.classes, self.background)
        if self.layout == "nhwc":
            maps = read_output(outputs, name, (None, None, columns), self.name).transpose(0, 3, 1, 2)
        else:
            maps = read_output(outputs, name, (columns, None, None), self.name)
        return class_probabilities(self.name, maps, self.activation, self.background, axis=1)

    def _parts(self, probabilities: Floats, input_hw_px: tuple[int, int], threshold: float) -> Candidates:
        cv2 = require("cv2", "finding the parts of a segmentation map")
        unit = np.array(input_hw_px[::-1], np.float32) / probabilities.shape[:0:-1]  # pixels per cell, (x, y)
        boxes, scores, class_ids, contours = [], [], [], []
        for class_id, share in enumerate(probabilities):
            belongs = share >= threshold
            count, parts, stats, _ = cv2.connectedComponentsWithStats(belongs.view(np.uint8), connectivity=8)
            for part in range(1, count):
                x, y, width, height, cells = stats[part].tolist()
                if cells < self.min_cells:
                    continue
                mine = parts[y : y + height, x : x + width] == part
                boxes.append((np.array(((x, y), (x + width, y + height)), np.float32) * unit).ravel())
                scores.append(share[y : y + height, x : x + width][mine].max())
                class_ids.append(class_id)
                contours.append(((outline(mine) + np.array((x, y), np.float32)) * unit).astype(np.float32))
        return Candidates(
            boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.clip(np.array(scores, np.float32), 0, 1),
            class_ids=np.array(class_ids, np.int32),
            contours=tuple(contours),
            distinct=True,
        )
