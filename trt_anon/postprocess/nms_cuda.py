"""The CUDA twin of `nms`: a whole batch in one launch, with the very same result."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting, address_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.errors import ModelError

MAX_CANDIDATES = 4096
"""No image may have more candidates than this; it is also what an image's shared memory holds."""

SOURCE = Path(__file__).with_name("nms.cu")
_WARP, _MAX_THREADS = 32, 1024


class Status(enum.IntFlag):
    """What happened to an image beside its result."""

    CANDIDATES_DROPPED = 1
    """More candidates were found than the arrays hold: only those in the arrays were looked at."""
    KEPT_DROPPED = 2
    """More boxes stay than `kept` holds: the best are in it."""
    NOT_FINITE = 4
    """A box or score is not finite: nothing was kept, and the model or device must not be trusted."""


class NmsCuda:
    """Launches the kernel of `nms.cu`; an instance serves any number of batches and shapes."""

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._kernel = Kernel(SOURCE, "nms", host=host, accounting=accounting)

    def __call__(
        self,
        boxes_xyxy: NDArray[np.floating],
        scores: NDArray[np.floating],
        class_ids: NDArray[np.integer],
        iou_threshold: float,
        class_aware: bool = True,
        distinct_groups: NDArray[np.integer] | None = None,
    ) -> NDArray[np.int64]:
        """`nms.nms` by the kernel, of one image in host memory: indices (K,) int64 of the boxes that stay, best first.

        Boxes and scores are float32, class_ids and distinct_groups int32, N at most MAX_CANDIDATES. Raises what the
        reference does.
        """
        count = len(scores)
        if boxes_xyxy.shape != (count, 4) or scores.shape != (count,) or class_ids.shape != (count,):
            raise ValueError("boxes, scores and class_ids must be (N, 4), (N,) and (N,)")
        groups = None if distinct_groups is None else np.ascontiguousarray(distinct_groups)[None]
        kept = np.empty((1, count), np.int32)
        kept_counts, status = np.empty(1, np.int32), np.empty(1, np.int32)
        self.batch(
            np.ascontiguousarray(boxes_xyxy)[None],
            np.ascontiguousarray(scores)[None],
            np.ascontiguousarray(class_ids)[None],
            np.array([count], np.int32),
            iou_threshold,
            class_aware,
            groups,
            kept=kept,
            kept_counts=kept_counts,
            status=status,
        )
        check_status(status)
        return kept[0, : kept_counts[0]].astype(np.int64)

    def batch(
        self,
        boxes_xyxy: Any,
        scores: Any,
        class_ids: Any,
        counts: Any,
        iou_threshold: float,
        class_aware: bool = True,
        distinct_groups: Any = None,
        *,
        kept: Any,
        kept_counts: Any,
        status: Any,
        stream: Any = None,
    ) -> None:
        """Suppress within each of B images, in one launch, without waiting for it.

        All arrays are NumPy's or all CuPy's. boxes_xyxy: (B, C, 4) float32; scores: (B, C) float32; class_ids: (B, C)
        int32; counts: (B,) int32, candidates found in each image, of which the first C at most are in the arrays;
        distinct_groups: (B, C) int32, boxes of one group do not suppress each other, a negative number is no group.
        Written: kept (B, K) int32, indices, best first, as far as there are any; kept_counts (B,) int32, how many stay,
        also where that is more than K, and -1 where a number is not finite; status (B,) int32, see `Status`.
        Raises ValueError for wrong shapes, dtypes or a threshold outside [0, 1], and what `Kernel.launch` raises.
        """
        images, capacity = _shape_of(boxes_xyxy, 3)[:2]
        keep_capacity = _shape_of(kept, 2)[1]
        if capacity > MAX_CANDIDATES:
            raise ValueError(f"at most {MAX_CANDIDATES} candidates per image, not {capacity}")
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"the IoU threshold must be in [0, 1], not {iou_threshold}")
        for name, array, shape, dtype in (
            ("boxes_xyxy", boxes_xyxy, (images, capacity, 4), np.float32),
            ("scores", scores, (images, capacity), np.float32),
            ("class_ids", class_ids, (images, capacity), np.int32),
            (
                "distinct_groups",
                class_ids if distinct_groups is None else distinct_groups,
                (images, capacity),
                np.int32,
            ),
            ("counts", counts, (images,), np.int32),
            ("kept", kept, (images, keep_capacity), np.int32),
            ("kept_counts", kept_counts, (images,), np.int32),
            ("status", status, (images,), np.int32),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        if capacity and address_of(boxes_xyxy) % 16:
            raise ValueError("boxes_xyxy: the kernel reads whole boxes, so they must lie at a multiple of 16 bytes")
        padded = max(_WARP, 1 << (capacity - 1).bit_length())
        self._kernel.launch(
            (images,),
            (min(_MAX_THREADS, max(128, padded)),),
            (
                boxes_xyxy,
                scores,
                class_ids,
                class_ids if distinct_groups is None else distinct_groups,
                counts,
                kept,
                kept_counts,
                status,
                np.int32(capacity),
                np.int32(keep_capacity),
                np.float64(iou_threshold),
                np.int32(class_aware),
                np.int32(distinct_groups is not None),
            ),
            stream,
            padded * 8,
            bytes_moved=images * (capacity * (24 if distinct_groups is None else 28) + keep_capacity * 4 + 12),
        )


def check_status(status: NDArray[np.int32]) -> None:
    """Raise ModelError if any image of a batch, its status copied to the host, had a number that is not finite.

    Dropped candidates or boxes are no error here: those who choose the capacities read them from the status.
    """
    if (status & Status.NOT_FINITE).any():
        raise ModelError("boxes or scores are not finite; do not trust this model or device")


def _shape_of(array: Any, dimensions: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = array.shape
    if len(shape) != dimensions:
        raise ValueError(f"expected an array of {dimensions} dimensions, got {shape}")
    return shape
