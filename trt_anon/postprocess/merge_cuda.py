"""The CUDA twin of `nms.merge`: lists of scales, tiles and detectors become one, are suppressed, and copied out.

Three launches for a whole batch: `concatenate`, `NmsCuda.batch`, `take`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting, address_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.errors import ModelError
from trt_anon.postprocess.nms import Pass
from trt_anon.postprocess.nms_cuda import NmsCuda, check_status
from trt_anon.types import Detections

MAX_LISTS = 32
"""Lists that become one; they travel with the launch as an argument."""

SOURCE = Path(__file__).with_name("merge.cu")
_THREADS = 256

# struct List and Lists of merge.cu.
_ARRAYS = ("boxes", "scores", "class_ids", "counts", "landmarks", "class_map")
_LIST = np.dtype(
    [
        *((name, np.uint64) for name in _ARRAYS),
        *((name, np.int32) for name in ("capacity", "marks", "classes", "distinct")),
    ],
    align=True,
)
_LISTS = np.dtype(
    [("list", _LIST, MAX_LISTS), ("landmarks", np.uint64), ("lists", np.int32), ("marks", np.int32)], align=True
)


class MergeStatus(enum.IntFlag):
    """What happened to an image beside its merged list."""

    CANDIDATES_DROPPED = 1
    """A detector found more than its list held."""
    WRONG_CLASS = 16
    """A class that its map does not have: the candidate's score is NaN now, so that suppression refuses the image."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidateList:
    """What one detector found in B images at one scale or in one tile, C at most in each; all arrays of one side.

    boxes_xyxy: (B, C, 4) float32 upright pixels. scores: (B, C) float32. class_ids: (B, C) int32. counts: (B,) int32,
    candidates found, of which the first C at most are in the arrays. landmarks: (B, C, K, 2) float32, or None.
    class_map: (classes,) int32, the classes' numbers in the merged list, negative to leave them out; None: they have
    them already. distinct: its objects are different ones already.
    """

    boxes_xyxy: Any
    scores: Any
    class_ids: Any
    counts: Any
    landmarks: Any = None
    class_map: Any = None
    distinct: bool = False

    def __repr__(self) -> str:  # boxes are personal data
        return f"CandidateList({self.scores.shape})"


class MergeCuda:
    """Launches the kernels of `merge.cu` and `nms.cu`; an instance serves any number of batches and shapes."""

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._concatenate = Kernel(SOURCE, "concatenate", host=host, accounting=accounting)
        self._take = Kernel(SOURCE, "take", host=host, accounting=accounting)
        self._nms = NmsCuda(host=host, accounting=accounting)

    def __call__(self, passes: Sequence[Pass], class_names: Sequence[str], iou_threshold: float) -> Detections:
        """`nms.merge` by the kernels, of one frame in host memory, MAX_CANDIDATES and MAX_LISTS at most.

        Raises what the specification does, and ValueError for outlines, which are merged on the host.
        """
        if any(one.contours_px is not None for one in passes):
            raise ValueError("outlines are merged on the host: see nms.merge")
        if not passes:
            return Detections.empty(class_names)
        lists = [
            CandidateList(
                np.ascontiguousarray(one.boxes_xyxy_px, np.float32)[None],
                np.ascontiguousarray(one.scores, np.float32)[None],
                np.ascontiguousarray(one.class_ids, np.int32)[None],
                np.array([len(one.scores)], np.int32),
                None if one.landmarks_px is None else np.ascontiguousarray(one.landmarks_px, np.float32)[None],
                distinct=one.distinct,
            )
            for one in passes
        ]
        total = sum(len(one.scores) for one in passes)
        points = [one.landmarks_px.shape[1] for one in passes if one.landmarks_px is not None]
        boxes, scores = np.empty((1, total, 4), np.float32), np.empty((1, total), np.float32)
        class_ids, groups = np.empty((1, total), np.int32), np.empty((1, total), np.int32)
        landmarks = np.empty((1, total, max(points), 2), np.float32) if points else None
        counts, status = np.empty(1, np.int32), np.empty(1, np.int32)
        merged = {"boxes_xyxy": boxes, "scores": scores, "class_ids": class_ids, "counts": counts}
        self.concatenate(lists, **merged, groups=groups, landmarks=landmarks, status=status)
        kept, kept_counts = np.empty((1, total), np.int32), np.empty(1, np.int32)
        self._nms.batch(
            boxes,
            scores,
            class_ids,
            counts,
            iou_threshold,
            True,
            groups,
            kept=kept,
            kept_counts=kept_counts,
            status=status,
        )
        check_status(status)
        found = int(kept_counts[0])
        chosen = CandidateList(boxes, scores, class_ids, counts, landmarks)
        out = CandidateList(
            np.empty((1, found, 4), np.float32),
            np.empty((1, found), np.float32),
            np.empty((1, found), np.int32),
            kept_counts,
            None if landmarks is None else np.empty((1, found, *landmarks.shape[2:]), np.float32),
        )
        self.take(chosen, np.ascontiguousarray(kept[:, :found]), out)
        return Detections(
            out.boxes_xyxy[0],
            out.scores[0],
            out.class_ids[0],
            tuple(class_names),
            None if landmarks is None else out.landmarks[0],
        )

    def concatenate(
        self,
        lists: Sequence[CandidateList],
        *,
        boxes_xyxy: Any,
        scores: Any,
        class_ids: Any,
        groups: Any,
        counts: Any,
        status: Any,
        landmarks: Any = None,
        stream: Any = None,
    ) -> None:
        """Put the lists of each of B images behind each other, in one launch, without waiting for it.

        Written: boxes_xyxy (B, C, 4) float32, scores (B, C) float32, class_ids and groups (B, C) int32, counts and
        status (B,) int32, what `NmsCuda.batch` takes, in the order of the lists, then within each; C is at least the
        sum of the lists' capacities, so nothing is lost. groups: the number of a list of distinct objects, else -1.
        landmarks: (B, C, K, 2) float32 if given, K at least that of every list, NaN where a list has none.
        Raises ValueError for wrong shapes, dtypes, or more than MAX_LISTS, and what `Kernel.launch` raises.
        """
        if not 1 <= len(lists) <= MAX_LISTS:
            raise ValueError(f"1 to {MAX_LISTS} lists can be merged, not {len(lists)}")
        images, capacity = boxes_xyxy.shape[:2]
        marks = 0 if landmarks is None else int(landmarks.shape[2])
        merged = CandidateList(boxes_xyxy, scores, class_ids, counts, landmarks)
        _check("merged", merged, images, capacity)
        for name, array, shape in (("groups", groups, (images, capacity)), ("status", status, (images,))):
            _check_array(name, array, shape, np.int32)
        if sum(one.scores.shape[-1] for one in lists) > capacity:
            raise ValueError(f"the merged list holds {capacity} candidates, fewer than its lists together")
        table = np.zeros(1, _LISTS)
        reaches: list[Any] = []
        for row, one in zip(table[0]["list"], lists, strict=False):
            _check("list", one, images, one.scores.shape[-1])
            own = one.landmarks is not None
            if landmarks is not None and own and one.landmarks.shape[2] > marks:
                raise ValueError(f"landmarks of {marks} points cannot hold a list's {one.landmarks.shape[2]}")
            arrays = (one.boxes_xyxy, one.scores, one.class_ids, one.counts, one.landmarks, one.class_map)
            for name, array in zip(_ARRAYS, arrays, strict=True):
                if array is not None:
                    row[name] = address_of(array)
                    reaches.append(array)
            row["capacity"], row["distinct"] = one.scores.shape[1], one.distinct
            row["marks"] = one.landmarks.shape[2] if own else 0
            row["classes"] = 0 if one.class_map is None else len(one.class_map)
        table[0]["lists"], table[0]["marks"] = len(lists), marks
        if landmarks is not None:
            table[0]["landmarks"] = address_of(landmarks)
            reaches.append(landmarks)
        self._concatenate.launch(
            (images,),
            (_THREADS,),
            (table, boxes_xyxy, scores, class_ids, groups, counts, status, np.int32(capacity)),
            stream,
            reaches=reaches,
            bytes_moved=sum(
                array.nbytes for array in (*reaches, boxes_xyxy, scores, class_ids, groups, counts, status)
            ),
        )

    def take(self, merged: CandidateList, kept: Any, out: CandidateList, *, stream: Any = None) -> None:
        """Copy what suppression kept, best first, in one launch, without waiting for it.

        merged: B images of C candidates; its counts are not looked at. kept: (B, K) int32, `out.counts` (B,) int32, as
        `NmsCuda.batch` writes them. Written: the arrays of `out` (B, K, ...), as far as there are any; landmarks where
        both have them, equally many. Raises ValueError for wrong shapes and dtypes, and what `Kernel.launch` raises.
        """
        images, capacity = merged.scores.shape
        keep_capacity = kept.shape[-1]
        _check("merged", merged, images, capacity)
        _check("out", out, images, keep_capacity)
        _check_array("kept", kept, (images, keep_capacity), np.int32)
        both = merged.landmarks is not None and out.landmarks is not None
        if both and merged.landmarks.shape[2] != out.landmarks.shape[2]:
            raise ValueError(f"landmarks of {merged.landmarks.shape[2]} points do not fit {out.landmarks.shape[2]}")
        marks = int(out.landmarks.shape[2]) if both else 0
        self._take.launch(
            (-(-keep_capacity // _THREADS), images),
            (_THREADS,),
            (
                merged.boxes_xyxy,
                merged.scores,
                merged.class_ids,
                merged.landmarks if both else merged.scores,
                kept,
                out.counts,
                out.boxes_xyxy,
                out.scores,
                out.class_ids,
                out.landmarks if both else out.scores,
                np.int32(capacity),
                np.int32(keep_capacity),
                np.int32(marks),
            ),
            stream,
            bytes_moved=images * (keep_capacity * (2 * (24 + 8 * marks) + 4) + 4),
        )


def _check(what: str, one: CandidateList, images: int, capacity: int) -> None:
    _check_array(f"{what} boxes_xyxy", one.boxes_xyxy, (images, capacity, 4), np.float32)
    _check_array(f"{what} scores", one.scores, (images, capacity), np.float32)
    _check_array(f"{what} class_ids", one.class_ids, (images, capacity), np.int32)
    _check_array(f"{what} counts", one.counts, (images,), np.int32)
    if one.landmarks is not None:
        points = one.landmarks.shape[2] if one.landmarks.ndim == 4 else 0
        _check_array(f"{what} landmarks", one.landmarks, (images, capacity, points, 2), np.float32)
    if one.class_map is not None:
        _check_array(f"{what} class_map", one.class_map, (one.class_map.size,), np.int32)


def _check_array(name: str, array: Any, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")


def check_merge_status(status: NDArray[np.int32]) -> None:
    """Raise ModelError if a detector of a batch, its status copied to the host, gave a class that its map lacks."""
    if (status & MergeStatus.WRONG_CLASS).any():
        raise ModelError("a detector gave a class that it does not have; do not trust this model or device")
