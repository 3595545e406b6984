"""What the YOLO families share: reading heads and rows, choosing what is confident, making boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import (
    Floats,
    Indices,
    cells,
    check_finite,
    check_probabilities,
    split_by_image,
    take_output,
)
from trt_anon.errors import ConfigError, ModelError
from trt_anon.types import InputSpec

Layout = Literal["nchw", "nhwc", "nahwc", "nachw", "nhwac"]
"""Axes of a head: n image, a anchor, c channel (anchors times channels where there is no a), h row, w column."""

BoxFormat = Literal["cxcywh", "xyxy"]
Pairs = tuple[tuple[float, float], ...]

_SLACK = 1e-6
"""A first, cheap test lets this much less through, so that rounding loses nothing; the exact test follows."""


def yolo_input(strides_px: Sequence[int]) -> InputSpec:
    """The input of most YOLO models: RGB in [0, 1], letterboxed in gray."""
    return InputSpec(scale=(1 / 255, 1 / 255, 1 / 255), pad_value=114, stride_px=max(strides_px, default=32))


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow; NaN stays NaN."""
    decay = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, np.float32(1), decay) / (1 + decay), np.float32)


def probabilities(values: Floats, activated: bool) -> Floats:
    """The values themselves where the graph has activated them, else their sigmoid."""
    return values if activated else sigmoid(values)


def read_output(
    outputs: Mapping[str, NDArray[Any]],
    name: str | None,
    shape: Sequence[int | None],
    family: str,
    batch: int | None = None,
) -> Floats:
    """The output of that name, or without a name the only one of shape (any, *shape), as float32.

    Raises ModelError where there is none, or several and no name.
    """
    if name is None:
        fits = [
            key
            for key, array in outputs.items()
            if array.ndim == len(shape) + 1 and all(e in (None, f) for e, f in zip(shape, array.shape[1:], strict=True))
        ]
        if len(fits) != 1:
            wanted = ", ".join("any" if e is None else str(e) for e in (None, *shape))
            found = ", ".join(f"{key!r} {array.shape}" for key, array in sorted(outputs.items())) or "no outputs"
            trouble = "no output" if not fits else f"{len(fits)} outputs"
            raise ModelError(
                f"{family}: {trouble} of the expected shape ({wanted}); the model gave {found}; check the input "
                f"size and the family's options, or name its outputs in the option 'outputs'"
            )
        name = fits[0]
    return take_output(outputs, name, shape, family, batch)


def read_heads(
    outputs: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    grids: Sequence[tuple[int, int]],
    anchors: Sequence[int],
    channels: Sequence[int],
    layout: Layout,
    family: str,
) -> list[Floats]:
    """One head for each grid of (rows, columns), as (N, anchors, rows, columns, channels).

    anchors, channels: of each head. names: of the outputs in the order of the grids; empty: each head is found by its
    shape, in whatever order they come.
    Raises ModelError where a head is missing, ambiguous, shaped otherwise, or has another batch than the first.
    """
    if not names and len(set(zip(grids, anchors, channels, strict=True))) < len(grids):
        raise ModelError(
            f"{family}: on so small an input two heads have the same shape; name them in the option 'outputs'"
        )
    heads: list[Floats] = []
    for position, ((rows, columns), a, c) in enumerate(zip(grids, anchors, channels, strict=True)):
        shape = {
            "nchw": (a * c, rows, columns),
            "nhwc": (rows, columns, a * c),
            "nahwc": (a, rows, columns, c),
            "nachw": (a, c, rows, columns),
            "nhwac": (rows, columns, a, c),
        }[layout]
        batch = len(heads[0]) if heads else None
        head = read_output(outputs, names[position] if names else None, shape, family, batch)
        n = len(head)
        if layout == "nchw":
            head = head.reshape(n, a, c, rows, columns)
        elif layout == "nhwc":
            head = head.reshape(n, rows, columns, a, c)
        if layout in ("nchw", "nachw"):
            head = head.transpose(0, 1, 3, 4, 2)
        elif layout in ("nhwc", "nhwac"):
            head = head.transpose(0, 3, 1, 2, 4)
        heads.append(head)
    return heads


def confident(
    family: str,
    objectness: Floats | None,
    class_scores: Floats,
    activated: bool,
    threshold: float,
    multi_label: bool,
) -> tuple[tuple[Indices, ...], NDArray[np.int32], Floats]:
    """(where, class_ids, scores) of what reaches the threshold; `where` indexes `class_scores` but for its last axis.

    Score: the class's probability, times objectness where there is one. Of each place the best class counts (the first
    of equal ones), or with `multi_label` every class that reaches the threshold. objectness: (...), class_scores:
    (..., C), logits unless `activated`. Raises ModelError where one is not finite or, activated, no probability.
    """
    check = check_probabilities if activated else check_finite_scores
    check(family, class_scores)
    if objectness is not None:
        check(family, objectness)
    bound = class_scores.max(axis=-1) if objectness is None else objectness
    where: tuple[Indices, ...] = np.nonzero(probabilities(bound, activated) >= threshold - _SLACK)
    scores = probabilities(class_scores[where], activated)
    if objectness is not None:
        scores = scores * probabilities(objectness[where], activated)[:, None]
    if multi_label:
        rows, class_ids = np.nonzero(scores >= threshold)
    else:
        best = scores.argmax(axis=1)
        rows = np.flatnonzero(scores[np.arange(len(scores)), best] >= threshold)
        class_ids = best[rows]
    return tuple(axis[rows] for axis in where), class_ids.astype(np.int32), scores[rows, class_ids]


def check_finite_scores(family: str, scores: Floats) -> None:
    """Raise ModelError where a logit is not finite."""
    check_finite(family, "scores", scores)


def to_xyxy(
    family: str, boxes: Floats, box_format: BoxFormat, input_hw_px: tuple[int, int], normalised: bool
) -> Floats:
    """Boxes (K, 4) of that format, in shares of the input's size where normalised, as corners in its pixels."""
    check_finite(family, "boxes", boxes)
    if normalised:
        height, width = input_hw_px
        boxes = boxes * np.array((width, height, width, height), np.float32)
    if box_format == "xyxy":
        return boxes
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate((centre - half, centre + half), axis=-1)


class Collected:
    """Candidates as heads yield them, to be split by image in the end."""

    def __init__(self, family: str) -> None:
        self._family = family
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def add(
        self, images: Indices, boxes_xyxy: Floats, scores: Floats, class_ids: NDArray[np.int32], *landmarks: Floats
    ) -> None:
        """Add the candidates of one head; landmarks (K, L, 2) with every head or with none."""
        self._parts.append((images, boxes_xyxy, scores, class_ids, *landmarks))

    def split(self, batch: int) -> list[Candidates]:
        """The candidates of each image; raises ModelError where a box or landmark is not finite."""
        images, *columns = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        return split_by_image(self._family, batch, images, *columns)


def decode_rows(
    family: str,
    rows: Floats,
    objectness: Floats | None,
    class_scores: Floats,
    box_format: BoxFormat,
    normalised: bool,
    input_hw_px: tuple[int, int],
    threshold: float,
    multi_label: bool,
) -> list[Candidates]:
    """Candidates of decoded rows (N, P, 4 or more), whose first four values are boxes and whose scores are final."""
    (images, places), class_ids, scores = confident(family, objectness, class_scores, True, threshold, multi_label)
    boxes = to_xyxy(family, rows[images, places, :4], box_format, input_hw_px, normalised)
    return split_by_image(family, len(rows), images, boxes, scores, class_ids)


def row_count(
    input_hw_px: tuple[int, int], strides_px: Sequence[int], anchors: Sequence[int] | None = None
) -> int | None:
    """How many rows an export gives for that input, None where no strides say it."""
    if not strides_px:
        return None
    each = [1] * len(strides_px) if anchors is None else anchors
    return sum(
        count * rows * columns for count, (rows, columns) in zip(each, grids_of(input_hw_px, strides_px), strict=True)
    )


def grids_of(input_hw_px: tuple[int, int], strides_px: Sequence[int]) -> list[tuple[int, int]]:
    """(rows, columns) of each stride's grid."""
    return [cells(input_hw_px, stride) for stride in strides_px]


def check_options(
    family: str, classes: int, strides_px: Sequence[int], outputs: Sequence[str], wanted_outputs: int
) -> None:
    """Raise ConfigError for counts and strides that no model has."""
    if classes < 1:
        raise ConfigError(f"family {family!r}: 'classes' must be at least 1, not {classes}")
    if any(stride < 1 for stride in strides_px):
        raise ConfigError(f"family {family!r}: 'strides_px' must be at least 1, not {tuple(strides_px)}")
    if outputs and (len(outputs) != wanted_outputs or len(set(outputs)) != len(outputs)):
        raise ConfigError(
            f"family {family!r}: 'outputs' must name {wanted_outputs} different outputs, or none, not {tuple(outputs)}"
        )


def check_anchors(family: str, anchors_px: Sequence[Pairs], strides_px: Sequence[int]) -> None:
    """Raise ConfigError unless every stride has anchors, all with positive sides."""
    if not strides_px or len(anchors_px) != len(strides_px) or not all(anchors_px):
        raise ConfigError(
            f"family {family!r}: every stride needs its anchors; there are {len(strides_px)} strides and anchors for "
            f"{len(anchors_px)}"
        )
    if any(side <= 0 for pairs in anchors_px for pair in pairs for side in pair):
        raise ConfigError(f"family {family!r}: anchors must be pairs of a width and a height above 0")
