"""What recognition rules share: one reading of a detector's outputs, and questions that rules ask about arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.inspect import Seen
from trt_anon.detect.yolo import grids_of

Array = NDArray[Any]

STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32), (8, 16))
"""The grids that detectors of this field have."""


@dataclass(frozen=True)
class Match:
    """One way to read a detector's outputs: a family and the options that make it fit.

    classes: how many the model then knows; None where the outputs do not show it. notes: what was assumed, because the
    graph does not say it. missing: options that the user has to give, and why.
    """

    family: str
    classes: int | None
    options: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """How a group of families is recognised: `shows` says it in words, `find` yields the readings that fit."""

    families: tuple[str, ...]
    shows: str
    find: Callable[[Seen], Iterator[Match]]


def strides_of_rows(rows: int, hw_px: tuple[int, int], anchors: int) -> tuple[int, ...] | None:
    """The strides whose grids, with that many anchors in each cell, have so many cells in all."""
    for strides in STRIDE_SETS:
        if anchors * sum(h * w for h, w in grids_of(hw_px, strides)) == rows:
            return strides
    return None


def stride_of_grid(grid: tuple[int, int], hw_px: tuple[int, int]) -> int | None:
    """The stride, a power of two, that leaves this grid (rows, columns)."""
    return next((s for s in (4, 8, 16, 32, 64) if grids_of(hw_px, (s,)) == [grid]), None)


def ranked(outputs: Mapping[str, Array], rank: int) -> dict[str, Array]:
    """The outputs of that rank."""
    return {name: array for name, array in outputs.items() if array.ndim == rank}


def by_last(outputs: Mapping[str, Array], rank: int, last: int) -> list[str]:
    """Names of the outputs of that rank whose last axis is so long."""
    return [name for name, array in ranked(outputs, rank).items() if array.shape[-1] == last]


def in_unit(values: Array) -> bool:
    """Whether all values are probabilities."""
    return bool(values.size) and bool((values >= -1e-3).all() and (values <= 1 + 1e-3).all())


def sums_to_one(values: Array, axis: int = -1) -> bool:
    """Whether values are the shares of a softmax along an axis."""
    return values.shape[axis] > 1 and in_unit(values) and bool(np.abs(values.sum(axis=axis) - 1).max() < 2e-2)


def whole(values: Array) -> bool:
    """Whether all values are whole numbers."""
    return bool((np.abs(values - np.rint(values)) < 1e-3).all())


def box_options(boxes: Array, usual: str = "cxcywh") -> dict[str, object]:
    """Options `box_format` and `normalised` of boxes (..., 4), as far as their values show them.

    Corners are in order everywhere; of centre and size that holds for no cell right of its own width.
    """
    flat = boxes.reshape(-1, 4)
    corners = bool((flat[:, 2:] >= flat[:, :2]).all())
    middle = float(np.quantile(np.abs(flat), 0.9)) if flat.size else 0.0
    found: dict[str, object] = {}
    if (box_format := "xyxy" if corners else "cxcywh") != usual:
        found["box_format"] = box_format
    if middle <= 1.5:
        found["normalised"] = True
    return found


def names_differ(names: tuple[str, ...], usual: tuple[str, ...]) -> dict[str, object]:
    """The option `outputs`, where the model's names are not the family's own."""
    return {} if names == usual else {"outputs": names}
