"""Boxes that are two corners or a centre and a size, in any of the orders that detection graphs give them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trt_anon.detect.outputs import Floats, check_finite

CornerFormat = Literal["xyxy", "yxyx", "cxcywh"]


def to_corners(
    family: str, boxes: Floats, corner_format: CornerFormat, input_hw_px: tuple[int, int], normalised: bool
) -> Floats:
    """Boxes (K, 4) as (x0, y0, x1, y1) in pixels of the input; corners in the wrong order are put right.

    normalised: they are shares of the input's size. Raises ModelError where a value is not finite.
    """
    check_finite(family, "boxes", boxes)
    if corner_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite by the caller
        if normalised:
            height, width = input_hw_px
            boxes = boxes * np.array((width, height, width, height), np.float32)
        if corner_format == "cxcywh":
            half = boxes[:, 2:] / 2
            boxes = np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=-1)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate((low, high), axis=-1)
