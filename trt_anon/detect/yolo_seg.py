"""YOLO with masks: each row carries coefficients that mix prototype maps into the mask of its object.

Bolya et al.: "YOLACT: Real-time Instance Segmentation" (2019): mask = sigmoid(coefficients . prototypes), cut to
the box.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.contours import grown_by_a_cell, outline
from trt_anon.detect.outputs import Floats, check_finite, split_by_image
from trt_anon.detect.two_stage import whole_numbers
from trt_anon.detect.yolo import BoxFormat, check_options, confident, read_output, to_xyxy, yolo_input
from trt_anon.errors import ConfigError, ModelError
from trt_anon.types import InputSpec


@dataclass(frozen=True)
class YoloSeg:
    """Decodes rows of boxes, scores and coefficients, and prototypes (N, masks, h, w).

    form: `anchor-free`, (N, 4 + C + masks, P), as YOLOv8 and YOLO11 export: box, classes, coefficients; `anchors`,
    (N, P, 5 + C + masks), as YOLOv5 and YOLOv7 do: box, objectness, classes, coefficients; `end-to-end`, (N, P, 6 +
    masks), as YOLO26 does: box, score, class, coefficients, whose rows are distinct already. transposed: rows and their
    values have changed places against that. classes: C. masks: how many prototypes. box_format, normalised: of the
    boxes; None is the form's own: corners for `end-to-end`, else centre and size. multi_label: a box counts for every
    class that reaches the threshold, not for its best alone. outputs: the names of rows and prototypes; empty: they are
    found by their shape.

    A pixel belongs to an object where the mask, interpolated between the middles of the prototypes' cells, reaches one
    half inside the box. The outline covers all of those pixels: it runs along the edges of the cells that touch a cell
    whose value reaches one half, cut to the box; a mask that is empty there has the box for an outline.
    """

    name: str = "yolo-seg"
    form: Literal["anchor-free", "anchors", "end-to-end"] = "anchor-free"
    classes: int = 80
    masks: int = 32
    transposed: bool = False
    box_format: BoxFormat | None = None
    normalised: bool = False
    multi_label: bool = False
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for options that do not fit together."""
        check_options(self.name, self.classes, (), self.outputs, 2)
        if self.masks < 1:
            raise ConfigError(f"family {self.name!r}: 'masks' must be at least 1, not {self.masks}")

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
        """Candidates of each image with outlines; see `detect.base.Family.decode`."""
        rows_name, prototypes_name = self.outputs or (None, None)
        scores_at = {"anchor-free": 4, "anchors": 5, "end-to-end": 6}[self.form]
        values = scores_at + self.masks + (self.classes if self.form != "end-to-end" else 0)
        values_first = (self.form == "anchor-free") != self.transposed
        rows = read_output(outputs, rows_name, (values, None) if values_first else (None, values), self.name)
        if values_first:
            rows = rows.transpose(0, 2, 1)
        prototypes = read_output(outputs, prototypes_name, (self.masks, None, None), self.name, len(rows))

        if self.form == "end-to-end":
            (images, places), _, scores = confident(self.name, None, rows[..., 4:5], True, threshold, False)
            class_ids = whole_numbers(self.name, "classes", rows[images, places, 5]).astype(np.int32)
            if class_ids.size and not (class_ids.min() >= 0 and class_ids.max() < self.classes):
                raise ModelError(f"{self.name}: the sixth value of a row must be a class of 0..{self.classes - 1}")
        else:
            objectness = rows[..., 4] if self.form == "anchors" else None
            (images, places), class_ids, scores = confident(
                self.name, objectness, rows[..., scores_at : -self.masks], True, threshold, self.multi_label
            )
        box_format = self.box_format or ("xyxy" if self.form == "end-to-end" else "cxcywh")
        chosen = rows[images, places]
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
            boxes = to_xyxy(self.name, chosen[:, :4], box_format, input_hw_px, self.normalised)
        check_finite(self.name, "masks", chosen[:, -self.masks :], prototypes)
        split = split_by_image(self.name, len(rows), images, boxes, scores, class_ids)
        return [
            dataclasses.replace(
                found,
                contours=tuple(
                    _contour(box, coefficients, prototypes[image], input_hw_px)
                    for box, coefficients in zip(found.boxes_xyxy, chosen[images == image, -self.masks :], strict=True)
                ),
                distinct=self.form == "end-to-end",
            )
            for image, found in enumerate(split)
        ]


def _contour(box_xyxy: Floats, coefficients: Floats, prototypes: Floats, input_hw_px: tuple[int, int]) -> Floats:
    """The outline of one object's mask in pixels of the input."""
    height, width = prototypes.shape[1:]
    unit = np.array(input_hw_px[::-1], np.float64) / (width, height)  # pixels per cell, (x, y)
    low = np.minimum(box_xyxy[:2], box_xyxy[2:]).astype(np.float64)
    high = np.maximum(box_xyxy[:2], box_xyxy[2:]).astype(np.float64)
    # cells of the box, and one more on each side, whose values reach into it
    x0, y0 = np.clip(np.floor(low / unit) - 1, 0, (width, height)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high / unit) + 1, 0, (width, height)).astype(int).tolist()
    values = np.einsum("c,chw->hw", coefficients, prototypes[:, y0:y1, x0:x1])
    corners = outline(grown_by_a_cell(values >= 0)) if values.size else np.zeros((0, 2))
    points = np.clip((corners + np.array((x0, y0))) * unit, low, high)
    if not len(points) or not np.ptp(points, axis=0).all():  # nothing of the mask lies in the box
        points = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return np.asarray(points, np.float32)
