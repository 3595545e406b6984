"""RetinaFace: boxes and landmarks relative to prior boxes; faces with five points, or plates with four corners.

Deng et al.: "RetinaFace: Single-shot Multi-level Face Localisation in the Wild" (2020); priors and variances as in the
MobileNet-0.25 models of the PyTorch implementation that these files descend from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import Floats, cells, check_finite, check_probabilities, split_by_image, take_output
from trt_anon.detect.yolo import check_options
from trt_anon.errors import ConfigError
from trt_anon.types import InputSpec

STRIDES = (8, 16, 32)
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2

PriorSides = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class RetinaFace:
    """Decodes loc (N, A, 4), conf (N, A, 2: background, object; probabilities) and landms (N, A, 2 * landmarks).

    outputs: the names of these three in the model. prior_sides_px: the two prior squares in each cell of the grids
    of stride 8, 16, 32; A counts them grid by grid, row by row, smaller first. With prior centre c and side p:
    centre = c + loc[:2] * 0.1 * p, size = p * exp(loc[2:] * 0.2), landmark = c + landms * 0.1 * p.
    """

    name: str = "retinaface"
    outputs: tuple[str, str, str] = ("output0", "output1", "output2")
    prior_sides_px: PriorSides = ((16, 32), (64, 128), (256, 512))
    landmarks: int = 5

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, 1, (), self.outputs, 3)
        if self.landmarks < 1 or any(side < 1 for pair in self.prior_sides_px for side in pair):
            raise ConfigError(f"family {self.name!r}: 'landmarks' and 'prior_sides_px' must be at least 1")

    @property
    def input_spec(self) -> InputSpec:
        """BGR less (104, 117, 123), letterboxed."""
        return InputSpec(channels="bgr", mean=(104.0, 117.0, 123.0), pad_value=0, stride_px=32)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        centres, sides = self._priors(input_hw_px)
        count = len(sides)
        loc_name, conf_name, landms_name = self.outputs
        loc = take_output(outputs, loc_name, (count, 4), self.name)
        batch = len(loc)
        conf = take_output(outputs, conf_name, (count, 2), self.name, batch)
        landms = take_output(outputs, landms_name, (count, 2 * self.landmarks), self.name, batch)
        check_probabilities(self.name, conf)

        scores = conf[..., 1]
        images, places = np.nonzero(scores >= threshold)
        prior_centre, prior_side = centres[places], sides[places, None]
        shifts = loc[images, places]
        check_finite(self.name, "boxes", shifts)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            centre = prior_centre + shifts[:, :2] * np.float32(CENTRE_VARIANCE) * prior_side
            half = prior_side * np.exp(shifts[:, 2:] * np.float32(SIZE_VARIANCE)) / 2
            offsets = landms[images, places].reshape(-1, self.landmarks, 2) * np.float32(CENTRE_VARIANCE)
            marks = prior_centre[:, None] + offsets * prior_side[:, None]
            boxes = np.concatenate((centre - half, centre + half), axis=-1)
        return split_by_image(self.name, batch, images, boxes, scores[images, places], landmarks=marks)

    def _priors(self, input_hw_px: tuple[int, int]) -> tuple[Floats, Floats]:
        """((A, 2) centres, (A,) sides) in pixels of the input."""
        centres, sides = [], []
        for stride, pair in zip(STRIDES, self.prior_sides_px, strict=True):
            rows, columns = cells(input_hw_px, stride)
            y, x = np.mgrid[:rows, :columns]
            cell = (np.stack((x, y), axis=-1).reshape(-1, 2) + 0.5) * stride
            centres.append(np.repeat(cell, len(pair), axis=0))
            sides.append(np.tile(pair, rows * columns))
        return np.concatenate(centres).astype(np.float32), np.concatenate(sides).astype(np.float32)
