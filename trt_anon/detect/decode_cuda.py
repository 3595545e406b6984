"""The CUDA twin of the families' `decode`: scores, threshold, boxes and a bounded list per image, in one launch.

The specification is each family's own `decode` in NumPy; `schemes.py` turns a family into the kernel's table.
Candidates come in the specification's order, so that suppression breaks ties alike. Differences: exp and sums of them
are the device's own, so scores, boxes and landmarks agree within TOLERANCE, and a score that close to the threshold may
fall on either side; families without exp (decoded rows, SSD, end-to-end) agree to the bit. More candidates than the
list holds: the best stay, of equal scores those first in order, and counts and status say so. Values of boxes
that are left out that way, or by the class map, are not looked at.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting, address_of, side_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.detect.base import Candidates, Family
from trt_anon.detect.heads import ACTIVATIONS, FORMULAS, MAX_ANCHORS, MAX_HEADS, Scheme, Shapes, View
from trt_anon.detect.schemes import scheme_of
from trt_anon.errors import ModelError
from trt_anon.types import InputSpec

TOLERANCE = 1e-5
"""Largest difference to the specification, relative to 1 for scores and to the box's own size and place for boxes."""

MAX_IMAGES = 1024
"""Images per launch."""

SOURCE = Path(__file__).with_name("decode.cu")
WANTED_BLOCKS = 1024
"""As many blocks of threads fill any GPU; where there are more, each takes several rounds."""

_THREADS = 256
_SLACK = 1e-6  # of the first test of objectness, as in yolo.confident
_MARKS_OF = ("grid", "anchor", "box")
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "int64": 3}

# struct View, Head and Table of decode.cu.
_VIEW = np.dtype(
    [("address", np.uint64), *((name, np.int32) for name in ("image", "anchor", "cell", "channel", "type"))]
)
_VIEW = np.dtype([(name, _VIEW[name]) for name in _VIEW.names or ()], align=True)
_HEAD_VIEWS = ("objectness", "scores", "xy", "wh", "marks")
_HEAD = np.dtype(
    [
        *((name, _VIEW) for name in _HEAD_VIEWS),
        ("anchor", np.float32, (MAX_ANCHORS, 2)),
        *(
            (name, np.float32)
            for name in ("stride", "cell_offset", "stretch", "mark_scale", "mark_offset", "mark_unit")
        ),
        *((name, np.int32) for name in ("first", "cells", "columns", "anchors")),
    ],
    align=True,
)
_COUNTS = ("heads", "places", "classes", "score_columns", "first_class", "formula", "reg_max", "activation")
_SWITCHES = ("geometric", "scores_are_probabilities", "objectness_is_probability", "multi_label", "anchors_last")
_MARKS = ("swapped", "sorted_corners", "marks", "mark_step", "mark_gap", "marks_of", "around_marks")
_TABLE = np.dtype(
    [
        ("head", _HEAD, MAX_HEADS),
        ("labels", _VIEW),
        ("filled", _VIEW),
        *((name, np.uint64) for name in ("factors", "class_map", "landmarks")),
        ("box_scale", np.float32, 2),
        *((name, np.int32) for name in (*_COUNTS, *_SWITCHES, *_MARKS, "label_offset", "drops_labels")),
    ],
    align=True,
)


class Status(enum.IntFlag):
    """What happened to an image beside its candidates."""

    CANDIDATES_DROPPED = 1
    """More were found than the list holds: the best are in it, and `counts` says how many there were."""
    NOT_FINITE = 4
    """A score, or the box of a candidate, is not finite."""
    NOT_A_PROBABILITY = 8
    """A score that the graph should have made a probability is none."""
    WRONG_CLASS = 16
    """The graph chose a class that is no whole number, or that it does not have."""
    WRONG_COUNT = 32
    """The graph says that it found fewer than none, or more than its outputs hold."""


BROKEN = Status.NOT_FINITE | Status.NOT_A_PROBABILITY | Status.WRONG_CLASS | Status.WRONG_COUNT
"""Any of these: the image has one candidate, whose score is NaN, so that suppression refuses it as well."""


class DecodeCuda:
    """Launches the kernel of `decode.cu` for one family; an instance serves any number of batches and sizes.

    It is a family itself, for outputs in host memory.
    """

    def __init__(
        self, family: Family, *, host: HostOptions | None = None, accounting: Accounting | None = None
    ) -> None:
        self._family = family
        self._kernel = Kernel(SOURCE, "decode", host=host, accounting=accounting)
        self._plans: dict[object, _Plan] = {}

    @property
    def name(self) -> str:
        """That of the family."""
        return self._family.name

    @property
    def input_spec(self) -> InputSpec:
        """That of the family."""
        return self._family.input_spec

    @property
    def output_names(self) -> tuple[str, ...]:
        """Those of the family."""
        return self._family.output_names

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """The family's `decode` by the kernel, of outputs in host memory; nothing is left out.

        Raises what the family does, and UsageError for a family that no kernel decodes.
        """
        outputs = {name: np.ascontiguousarray(array) for name, array in outputs.items()}
        plan = self._plan(outputs, input_hw_px)
        images, scheme = plan.images, plan.scheme
        capacity = max(1, scheme.places * (scheme.classes if scheme.multi_label else 1))
        boxes = np.empty((images, capacity, 4), np.float32)
        scores, class_ids = np.empty((images, capacity), np.float32), np.empty((images, capacity), np.int32)
        landmarks = np.empty((images, capacity, scheme.marks, 2), np.float32) if scheme.marks else None
        counts, status = np.empty(images, np.int32), np.empty(images, np.int32)
        self.batch(
            outputs,
            input_hw_px,
            threshold,
            boxes_xyxy=boxes,
            scores=scores,
            class_ids=class_ids,
            counts=counts,
            status=status,
            landmarks=landmarks,
            workspace=np.zeros(self.workspace_words(outputs, input_hw_px), np.uint64),
        )
        check_status(self.name, status)
        return [
            Candidates(
                boxes[i, :n].copy(),
                scores[i, :n].copy(),
                class_ids[i, :n].copy(),
                None if landmarks is None else landmarks[i, :n].copy(),
                distinct=scheme.distinct,
            )
            for i, n in enumerate(counts.tolist())
        ]

    def scheme(self, outputs: Mapping[str, Any], input_hw_px: tuple[int, int]) -> Scheme:
        """What the kernel is told about outputs of these shapes: classes, landmarks, whether boxes are distinct."""
        return self._plan(outputs, input_hw_px).scheme

    def workspace_words(self, outputs: Mapping[str, Any], input_hw_px: tuple[int, int]) -> int:
        """How many uint64 `batch` needs to work in for outputs of these shapes."""
        plan = self._plan(outputs, input_hw_px)
        return MAX_IMAGES + plan.images * plan.chunks * (1 + plan.chunk_slots)

    def batch(
        self,
        outputs: Mapping[str, Any],
        input_hw_px: tuple[int, int],
        threshold: float,
        *,
        boxes_xyxy: Any,
        scores: Any,
        class_ids: Any,
        counts: Any,
        status: Any,
        workspace: Any,
        landmarks: Any = None,
        factors_xy: Any = None,
        class_map: Any = None,
        stream: Any = None,
    ) -> None:
        """Decode B images in one launch, without waiting for it.

        All arrays are NumPy's or all CuPy's, C-contiguous. outputs: float32, float16, int32 or int64.
        Written: boxes_xyxy (B, C, 4) float32, scores (B, C) float32, class_ids (B, C) int32, as far as there are
        candidates; landmarks (B, C, K, 2) float32 if given; counts (B,) int32, candidates found, which may be more than
        C; status (B,) int32, see `Status`. They are what `NmsCuda.batch` takes.
        factors_xy: (B, 2) float64, pixels of the network's input per upright pixel; boxes and landmarks are divided by
        them. class_map: (classes,) int32, the number that candidates of a class shall carry, negative to leave out.
        workspace: `workspace_words` uint64 or more, all 0 before its first use; one launch at a time may use it.
        Raises ModelError and UsageError as `decode`, ValueError for wrong arrays, and what `Kernel.launch` raises.
        """
        plan = self._plan(outputs, input_hw_px)
        scheme, images = plan.scheme, plan.images
        capacity = boxes_xyxy.shape[1] if len(boxes_xyxy.shape) == 3 else 0
        if capacity < 1 or images > MAX_IMAGES:
            raise ValueError(f"lists hold at least one candidate, a batch at most {MAX_IMAGES} images, not {images}")
        wanted: list[tuple[str, Any, tuple[int, ...], type]] = [
            ("boxes_xyxy", boxes_xyxy, (images, capacity, 4), np.float32),
            ("scores", scores, (images, capacity), np.float32),
            ("class_ids", class_ids, (images, capacity), np.int32),
            ("counts", counts, (images,), np.int32),
            ("status", status, (images,), np.int32),
        ]
        optional: dict[str, tuple[Any, tuple[int, ...], type]] = {
            "landmarks": (landmarks, (images, capacity, scheme.marks, 2), np.float32),
            "factors": (factors_xy, (images, 2), np.float64),
            "class_map": (class_map, (scheme.classes,), np.int32),
        }
        given = {name: entry for name, entry in optional.items() if entry[0] is not None}
        for name, array, shape, dtype in (*wanted, *((name, *entry) for name, entry in given.items())):
            if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        needed = self.workspace_words(outputs, input_hw_px)
        if workspace.dtype != np.uint64 or workspace.ndim != 1 or workspace.size < needed:
            raise ValueError(f"workspace: expected at least {needed} uint64, got {workspace.dtype} {workspace.shape}")
        read = [outputs[name] for name in plan.names]
        reaches = [*read, *(entry[0] for entry in given.values())]
        side_of([boxes_xyxy, *reaches])
        table = plan.table.copy()
        _point(table[0], scheme, outputs)
        for name, (array, _, _) in given.items():
            table[0][name] = address_of(array)
        self._kernel.launch(
            (plan.chunks, images),
            (_THREADS,),
            (
                table,
                boxes_xyxy,
                scores,
                class_ids,
                counts,
                status,
                workspace,
                np.int32(capacity),
                np.float32(threshold),
                np.float32(threshold - _SLACK),
                np.int32(plan.slices),
                np.int32(plan.across_warps),
                np.int32(plan.rounds),
            ),
            stream,
            reaches=reaches,
            bytes_moved=images * (plan.score_bytes(outputs) + 8 * plan.chunks + 8),
        )

    def _plan(self, outputs: Mapping[str, Any], input_hw_px: tuple[int, int]) -> _Plan:
        key = (tuple((name, array.shape) for name, array in outputs.items()), input_hw_px)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= 64:  # pictures of many sizes
                self._plans.clear()
            plan = self._plans[key] = _Plan(
                {name: array.shape for name, array in outputs.items()}, self._family, input_hw_px
            )
        return plan


class _Plan:
    """What does not change from batch to batch: the table without addresses, and how the work is cut up."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], family: Family, input_hw_px: tuple[int, int]) -> None:
        self.scheme = scheme = scheme_of(family, Shapes(shapes), input_hw_px)
        first = scheme.heads[0].scores
        batched = shapes[first.output]
        # without a batch axis an output is that of one image
        self.images = 1 if first.image == 0 else int(np.prod(batched)) // max(1, first.image)
        self.names = tuple(dict.fromkeys(view.output for view in scheme.views))
        # Threads that share a place: neighbours where its columns are, else warps apart, so that reads are whole.
        self.across_warps = first.channel != 1
        self.slices = 1
        while self.slices < (8 if self.across_warps else 32) and self.slices * 8 <= scheme.score_columns:
            self.slices *= 2
        teams = _THREADS // self.slices
        self.rounds = max(1, min(self.slices, self.images * scheme.places // (teams * WANTED_BLOCKS)))
        self.chunks = max(1, -(-scheme.places // (teams * self.rounds)))
        self.chunk_slots = teams * self.rounds * (scheme.classes if scheme.multi_label else 1)
        self.table = _table(scheme)

    def score_bytes(self, outputs: Mapping[str, Any]) -> int:
        """Bytes of the scores of one image, which are read whatever is found; the few candidates are not counted."""
        total = 0
        for head in self.scheme.heads:
            places = head.cells * head.anchors
            total += places * self.scheme.score_columns * int(outputs[head.scores.output].dtype.itemsize)
            if head.objectness is not None:
                total += places * int(outputs[head.objectness.output].dtype.itemsize)
        return total


def _table(scheme: Scheme) -> NDArray[np.void]:
    table = np.zeros(1, _TABLE)
    one = table[0]
    first = 0
    for row, head in zip(one["head"], scheme.heads, strict=False):
        row["anchor"][: len(head.anchor_sizes)] = np.array(head.anchor_sizes, np.float32).reshape(-1, 2)
        for name in ("stride", "cell_offset", "stretch", "mark_scale", "mark_offset", "mark_unit"):
            row[name] = getattr(head, name)
        for name in ("cells", "columns", "anchors"):
            row[name] = getattr(head, name)
        row["first"] = first
        first += head.cells * head.anchors
        for name in _HEAD_VIEWS:
            _steps(row[name], getattr(head, name))
    _steps(one["labels"], scheme.labels)
    _steps(one["filled"], scheme.filled)
    one["box_scale"] = scheme.box_scale
    one["heads"] = len(scheme.heads)
    one["formula"], one["activation"] = FORMULAS.index(scheme.formula), ACTIVATIONS.index(scheme.activation)
    one["marks_of"] = _MARKS_OF.index(scheme.marks_of)
    one["mark_gap"] = scheme.marks if scheme.mark_gap is None else scheme.mark_gap
    plain = ("places", "classes", "score_columns", "first_class", "reg_max", "marks", "mark_step", "label_offset")
    for name in (*plain, *_SWITCHES, "swapped", "sorted_corners", "around_marks", "drops_labels"):
        one[name] = getattr(scheme, name)
    return table


def _steps(row: Any, view: View | None) -> None:
    if view is not None:
        row["image"], row["anchor"], row["cell"], row["channel"] = view.image, view.anchor, view.cell, view.channel


def _point(table: Any, scheme: Scheme, outputs: Mapping[str, Any]) -> None:
    """Fill in addresses and element types."""
    bases: dict[str, tuple[int, int, int]] = {}

    def fill(row: Any, view: View | None) -> None:
        if view is None:
            return
        if view.output not in bases:
            array = outputs[view.output]
            kind = _TYPES.get(str(array.dtype))
            if kind is None or not array.flags.c_contiguous:
                known = ", ".join(_TYPES)
                raise ValueError(f"output {view.output!r} must be C-contiguous and one of {known}, not {array.dtype}")
            bases[view.output] = address_of(array), int(array.dtype.itemsize), kind
        base, size, kind = bases[view.output]
        row["address"], row["type"] = base + view.offset * size, kind

    for row, head in zip(table["head"], scheme.heads, strict=False):
        for name in _HEAD_VIEWS:
            fill(row[name], getattr(head, name))
    fill(table["labels"], scheme.labels)
    fill(table["filled"], scheme.filled)


def check_status(family: str, status: NDArray[np.int32]) -> None:
    """Raise ModelError if the outputs of any image of a batch, its status copied to the host, show a broken network.

    Dropped candidates are no error here: those who choose the capacity read them from the status.
    """
    found = Status(int(np.bitwise_or.reduce(status, initial=0)))
    reasons: Sequence[tuple[Status, str]] = (
        (Status.NOT_FINITE, "scores or boxes that are not finite; do not trust this model or device"),
        (Status.NOT_A_PROBABILITY, "scores outside [0, 1]; its last activation seems to be missing"),
        (Status.WRONG_CLASS, "classes that it does not have or that are no whole numbers; are the outputs right?"),
        (Status.WRONG_COUNT, "counts beyond what its outputs hold; do not trust this model or device"),
    )
    for flag, reason in reasons:
        if flag in found:
            raise ModelError(f"{family}: the model gave {reason}")
