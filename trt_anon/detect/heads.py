"""Families as tables for the kernel of `decode.cu`: where scores, boxes and landmarks lie, and which formula applies.

A family's own readers find and check its outputs, on arrays that have the outputs' shapes but are never touched; where
in memory they say that a value is becomes a place in the table.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Family
from trt_anon.detect.outputs import Floats
from trt_anon.errors import UsageError

Size = tuple[int, int]

MAX_HEADS = 8
MAX_ANCHORS = 8

Formula = Literal["centre_size", "corners", "cell_exp", "anchor_exp", "anchor_square", "sides", "prior", "point"]
FORMULAS: tuple[Formula, ...] = (
    "centre_size",
    "corners",
    "cell_exp",
    "anchor_exp",
    "anchor_square",
    "sides",
    "prior",
    "point",
)
"""With centre offset o, stride S and anchor or prior side p, the box of values x, y, w, h in a cell has the centre:

centre_size: (x, y), size (w, h). corners: the values. cell_exp: (xy + cell + o) * S, size exp(wh) * S. anchor_exp:
(act(xy) * stretch - (stretch - 1) / 2 + cell) * S, size p * exp(wh). anchor_square: (2 act(xy) - 0.5 + cell) * S, size
p * (2 act(wh))^2. sides: reaches that many strides from (cell + o) * S. prior: (cell + o) * S + xy * 0.1 * p, size
p * exp(wh * 0.2). point: (cell + o) * S + xy, size wh."""

Activation = Literal["none", "sigmoid", "softmax"]
ACTIVATIONS: tuple[Activation, ...] = ("none", "sigmoid", "softmax")


@dataclass(frozen=True, slots=True)
class View:
    """Values of an output: element `offset + image * i + anchor * a + cell * c + channel * k`, in elements."""

    output: str
    offset: int
    image: int
    anchor: int
    cell: int
    channel: int


@dataclass(frozen=True, slots=True)
class Head:
    """A grid of places that share a stride; where rows come without a grid it is one row of cells.

    scores: the class columns of each place. xy, wh: two values each, or with formula `sides` all of them in xy.
    anchors: how many share a cell. anchor_sizes: their (width, height) in pixels, where the formula has them.
    A landmark is (cell + mark_offset) * mark_scale + value * mark_unit, see `Scheme.marks_of`.
    """

    cells: int
    columns: int
    scores: View
    xy: View
    wh: View
    objectness: View | None = None
    marks: View | None = None
    anchors: int = 1
    anchor_sizes: tuple[tuple[float, float], ...] = ()
    stride: float = 1.0
    cell_offset: float = 0.0
    stretch: float = 1.0
    mark_scale: float = 0.0
    mark_offset: float = 0.0
    mark_unit: float = 1.0


@dataclass(frozen=True, slots=True)
class Scheme:
    """A family's table for outputs of certain shapes; see `struct Table` of `decode.cu`.

    box_scale: what decoded values are multiplied by, (width, height). marks_of: landmarks are values in units of
    mark_unit (`grid`), times the anchor's size (`anchor`), or corner of the box + value * its size (`box`).
    mark_gap: from this landmark on two values are skipped. distinct: boxes are different objects already.
    """

    heads: tuple[Head, ...]
    formula: Formula
    classes: int = 1
    score_columns: int = 1
    first_class: int = 0
    activation: Activation = "none"
    geometric: bool = False
    scores_are_probabilities: bool = True
    objectness_is_probability: bool = True
    multi_label: bool = False
    anchors_last: bool = False
    swapped: bool = False
    sorted_corners: bool = False
    reg_max: int = 1
    box_scale: tuple[float, float] = (1.0, 1.0)
    marks: int = 0
    mark_step: int = 2
    mark_gap: int | None = None
    marks_of: Literal["grid", "anchor", "box"] = "grid"
    around_marks: bool = False
    labels: View | None = None
    label_offset: int = 0
    drops_labels: bool = False
    filled: View | None = None
    distinct: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.heads) <= MAX_HEADS:
            raise UsageError(f"the kernel decodes 1 to {MAX_HEADS} heads, not {len(self.heads)}: decode on the host")
        if any(len(head.anchor_sizes) > MAX_ANCHORS for head in self.heads):
            raise UsageError(f"the kernel decodes at most {MAX_ANCHORS} anchors in a cell: decode on the host")
        if self.places * max(self.classes, 1) >= 1 << 31:
            raise UsageError(f"{self.places} places of {self.classes} classes are too many: decode on the host")

    @property
    def places(self) -> int:
        """How many boxes the network gives for an image."""
        return sum(head.cells * head.anchors for head in self.heads)

    @property
    def views(self) -> list[View]:
        """All places in memory that the table names."""
        each = [(h.objectness, h.scores, h.xy, h.wh, h.marks) for h in self.heads]
        return [view for view in (*itertools.chain(*each), self.labels, self.filled) if view is not None]


@dataclass(slots=True)
class Shapes:
    """Arrays of the outputs' shapes, whose memory is never touched, and views of them as places in memory."""

    shapes: Mapping[str, tuple[int, ...]]
    arrays: dict[str, NDArray[Any]] = field(init=False)
    _starts: list[int] = field(init=False)
    _names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        sizes = [max(1, int(np.prod(shape))) for shape in self.shapes.values()]
        arena = np.empty(sum(sizes) + 1, np.float32)
        ends = list(itertools.accumulate(sizes, initial=0))
        self._names = list(self.shapes)
        self._starts = [arena.ctypes.data + 4 * start for start in ends[:-1]]
        self.arrays = {
            name: arena[start : start + int(np.prod(shape))].reshape(shape)
            for (name, shape), start in zip(self.shapes.items(), ends, strict=False)
        }

    def grid(self, head: Floats) -> View:
        """A head (N, anchors, rows, columns, channels)."""
        image, anchor, row, column, channel = self._steps(head)
        return self._view(head, image, anchor, row if head.shape[3] == 1 else column, channel)

    def rows(self, rows: Floats, anchors: int = 1) -> View:
        """Rows (N, places, channels), in which the anchors of a cell follow each other."""
        image, place, channel = self._steps(rows)
        return self._view(rows, image, place, place * anchors, channel)

    def _steps(self, array: Floats) -> list[int]:
        return [step // array.itemsize for step in array.strides]

    def _view(self, array: Floats, *steps: int) -> View:
        start = bisect.bisect_right(self._starts, array.ctypes.data) - 1
        offset = (array.ctypes.data - self._starts[start]) // 4
        image, anchor, cell, channel = steps
        if max(steps) >= 1 << 31 or array[:1].size >= 1 << 31:
            raise UsageError(f"output {self._names[start]!r} is too large for the kernel: decode on the host")
        return View(self._names[start], offset, image, anchor, cell, channel)


def parts(array: Floats, *sizes: int) -> Sequence[Floats]:
    """The channels (..., k) of an array, in parts of those sizes; what is left over is not among them."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return [array[..., start:stop] for start, stop in itertools.pairwise(ends)]


@singledispatch
def scheme_of(family: Family, shapes: Shapes, input_hw_px: Size) -> Scheme:
    """The table for outputs of these shapes and an input of (height, width) pixels; import it from `schemes`.

    Raises ModelError where the family would refuse the shapes, UsageError for a family without a table: masks and their
    outlines, and outputs whose rows belong to images as other outputs say, are decoded on the host.
    """
    raise UsageError(f"no kernel decodes family {family.name!r}: decode it on the host")
