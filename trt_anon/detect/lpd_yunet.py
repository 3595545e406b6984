"""LPD-YuNet: licence plates with four corners, relative to prior boxes.

Decoding as in OpenCV Zoo's licence plate detection, which follows libfacedetection.train (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, check_finite, check_probabilities, split_by_image, take_output
from trt_anon.detect.yolo import check_options
from trt_anon.errors import ModelError
from trt_anon.types import InputSpec

PRIOR_SIDES_PX = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
STRIDES = (8, 16, 32, 64)
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
VALUES = 14  # box, then two corners, the centre, two corners
CORNERS = (4, 6, 10, 12)


@dataclass(frozen=True)
class LpdYuNet:
    """Decodes loc (A, 14), conf (A, 2: background, plate; probabilities) and iou (A, 1), each with or without a batch.

    A counts the prior squares of the grids of stride 8 to 64, grid by grid, row by row, smaller first; a cell at the
    right or bottom that the stride cuts has none. Several images come as (N, A, k), or one after the other as
    (N * A, k). The published graph, unless its batch is freed first, mixes them before it gets that far.
    outputs: the names of the three.

    With prior centre c and side p: centre = c + loc[:2] * 0.1 * p, size = p * exp(loc[2:4] * 0.2), corner = c +
    loc * 0.1 * p of the values from 4, 6, 10 and 12 on; the corners come in no fixed order. score = sqrt(conf * iou),
    iou clipped to [0, 1]. The box is the one around box and corners together: on slanted plates each alone leaves parts
    out.
    """

    name: str = "lpd-yunet"
    outputs: tuple[str, str, str] = ("loc", "conf", "iou")

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, 1, (), self.outputs, 3)

    @property
    def input_spec(self) -> InputSpec:
        """BGR in [0, 255], letterboxed to 320x240; with a freed graph any multiple of 64 will do."""
        return InputSpec(channels="bgr", stride_px=1, size_px=(320, 240))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        centres, sides = _priors(input_hw_px)
        loc = self.take(outputs, 0, len(sides), VALUES, None)
        batch = len(loc)
        conf = self.take(outputs, 1, len(sides), 2, batch)
        iou = self.take(outputs, 2, len(sides), 1, batch)[..., 0]
        check_probabilities(self.name, conf)
        check_finite(self.name, "scores", iou)

        scores = np.sqrt(np.clip(conf[..., 1], 0, 1) * np.clip(iou, 0, 1))
        images, places = np.nonzero(scores >= threshold)
        prior_centre, prior_side = centres[places], sides[places, None]
        values = loc[images, places]
        check_finite(self.name, "boxes", values)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            shift = np.float32(CENTRE_VARIANCE) * prior_side
            centre = prior_centre + values[:, :2] * shift
            half = prior_side * np.exp(values[:, 2:4] * np.float32(SIZE_VARIANCE)) / 2
            offsets = values[:, [i + k for i in CORNERS for k in (0, 1)]].reshape(-1, len(CORNERS), 2)
            marks = prior_centre[:, None] + offsets * shift[:, None]
            low = np.minimum(centre - half, marks.min(axis=1))
            high = np.maximum(centre + half, marks.max(axis=1))
        boxes = np.concatenate((low, high), axis=-1)
        return split_by_image(self.name, batch, images, boxes, scores[images, places], landmarks=marks)

    def take(
        self, outputs: Mapping[str, NDArray[Any]], which: int, priors: int, values: int, batch: int | None
    ) -> Floats:
        """The output at that place in `outputs` as (N, A, k); ModelError where it is missing or shaped otherwise."""
        name = self.outputs[which]
        if name in outputs and outputs[name].ndim == 2:
            flat = take_output(outputs, name, (values,), self.name)
            if len(flat) % priors or batch not in (None, len(flat) // priors):
                times = "any" if batch is None else batch
                raise ModelError(
                    f"{self.name}: output {name!r} has shape {flat.shape}, expected ({times} * {priors}, {values})"
                )
            return flat.reshape(-1, priors, values)
        return take_output(outputs, name, (priors, values), self.name, batch)


def _priors(input_hw_px: tuple[int, int]) -> tuple[Floats, Floats]:
    """((A, 2) centres, (A,) sides) in pixels of the input."""
    centres, sides = [], []
    for stride, squares in zip(STRIDES, PRIOR_SIDES_PX, strict=True):
        y, x = np.mgrid[: input_hw_px[0] // stride, : input_hw_px[1] // stride]
        cell = (np.stack((x, y), axis=-1).reshape(-1, 2) + 0.5) * stride
        centres.append(np.repeat(cell, len(squares), axis=0))
        sides.append(np.tile(squares, len(cell)))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sides).astype(np.float32)
