"""CenterFace: faces as the peaks of a heatmap of stride 4, with five landmarks.

Xu et al.: "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import cells, check_finite, check_probabilities, split_by_image, take_output
from trt_anon.detect.yolo import check_options
from trt_anon.types import InputSpec

STRIDE_PX = 4
LANDMARKS = 5


@dataclass(frozen=True)
class CenterFace:
    """Decodes heatmap (N, 1, h, w), scale (N, 2, h, w), offset (N, 2, h, w) and landmarks (N, 10, h, w).

    outputs: the names of these four in the model; the default is that of the published file.
    Height and y come before width and x in every map. A cell is a candidate where the heatmap reaches the threshold:
    there is no search for 3x3 peaks, since suppression removes the neighbours and a peak search can lose a face beside
    a larger one. Centre = (cell + offset + 0.5) * 4, size = exp(scale) * 4, landmark = box corner + value * size.
    Boxes are not clipped to the input, so landmarks of a face at the border keep their place.
    """

    name: str = "centerface"
    outputs: tuple[str, str, str, str] = ("537", "538", "539", "540")

    def __post_init__(self) -> None:
        """Raise ConfigError for names that are not different."""
        check_options(self.name, 1, (), self.outputs, 4)

    @property
    def input_spec(self) -> InputSpec:
        """RGB in [0, 255], letterboxed."""
        return InputSpec(channels="rgb", stride_px=32)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads."""
        return self.outputs

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        grid = cells(input_hw_px, STRIDE_PX)
        heat_name, scale_name, offset_name, landmarks_name = self.outputs
        heat = take_output(outputs, heat_name, (1, *grid), self.name)[:, 0]
        batch = len(heat)
        scale = take_output(outputs, scale_name, (2, *grid), self.name, batch)
        offset = take_output(outputs, offset_name, (2, *grid), self.name, batch)
        marks = take_output(outputs, landmarks_name, (2 * LANDMARKS, *grid), self.name, batch)
        check_probabilities(self.name, heat)

        images, rows, columns = np.nonzero(heat >= threshold)
        at = (images, slice(None), rows, columns)
        cell_yx = np.stack((rows, columns), axis=-1).astype(np.float32)
        check_finite(self.name, "boxes", scale[at])
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            size_yx = np.exp(scale[at]) * STRIDE_PX
            corner_yx = (cell_yx + offset[at] + np.float32(0.5)) * STRIDE_PX - size_yx / 2
            marks_yx = corner_yx[:, None] + marks[at].reshape(-1, LANDMARKS, 2) * size_yx[:, None]
            boxes = np.concatenate((corner_yx[:, ::-1], (corner_yx + size_yx)[:, ::-1]), axis=-1)
        return split_by_image(
            self.name, batch, images, boxes, heat[images, rows, columns], landmarks=marks_yx[..., ::-1]
        )
