"""What was found in a frame on a device, and whether that is all of it, for lists there are bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.decode_cuda import BROKEN, Status, check_status
from trt_anon.errors import ModelError, TrtAnonError
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.postprocess.nms_cuda import MAX_CANDIDATES
from trt_anon.postprocess.nms_cuda import Status as NmsStatus
from trt_anon.postprocess.weak import MOST_WEAK
from trt_anon.types import Detections

MAX_FOUND = 1024
"""Objects per frame; a frame with more is a fault, never one of which some are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was found in a frame, and what only may continue a track; None where that was not asked for."""

    found: Detections
    weak: Detections | None = None

    def __repr__(self) -> str:  # boxes are personal data
        return "Seen()"


Found = Seen | TrtAnonError
"""What is in a frame, or why that is not known."""


def thresholds_of(detectors: Sequence[DeviceDetector], classes: int) -> NDArray[np.float32] | None:
    """The threshold of each class; None where its detectors have several."""
    found = np.zeros(classes, np.float32)
    for detector in detectors:
        for class_id in detector.class_map[detector.class_map >= 0].tolist():
            if found[class_id] not in (0, np.float32(detector.threshold)):
                return None
            found[class_id] = detector.threshold
    return found


def found_or_why(look: Callable[[], Seen]) -> Found:
    """What `look` gives, or the error that it raises."""
    try:
        return look()
    except TrtAnonError as error:
        return error


def seen_in_batch(
    results: Mapping[str, NDArray[Any]],
    count: int,
    families: Sequence[str],
    class_names: tuple[str, ...],
    thresholds: NDArray[np.float32],
    *,
    weak: bool,
) -> list[Found]:
    """`seen_in` for the first `count` frames of a batch; an error stands for a frame of which nothing is known.

    Where all is well, which is nearly always, the batch is looked at as a whole: Python's time per frame is what
    limits a fast GPU.
    """
    counts = results["counts"][:count]
    flagged = [results["nms"], *(results[f"decode {number}"] for number in range(len(families)))]
    well = not any(status[:count].any() for status in flagged) and ((counts >= 0) & (counts <= MAX_FOUND)).all()
    if well and not weak and "landmarks" not in results:
        most = int(counts.max(initial=0))
        class_ids, scores, boxes = (results[name][:count, :most].copy() for name in ("class_ids", "scores", "boxes"))
        there = np.arange(most) < counts[:, None]
        if (scores >= thresholds[np.where(there, class_ids, 0)])[there].all():
            return [
                Seen(Detections(boxes[place, :kept], scores[place, :kept], class_ids[place, :kept], class_names))
                for place, kept in enumerate(counts.tolist())
            ]
    return [
        found_or_why(partial(seen_in, results, place, families, class_names, thresholds, weak=weak))
        for place in range(count)
    ]


def seen_in(
    results: Mapping[str, NDArray[Any]],
    place: int,
    families: Sequence[str],
    class_names: tuple[str, ...],
    thresholds: NDArray[np.float32],
    *,
    weak: bool,
) -> Seen:
    """What the results of a batch say of the frame at `place`.

    results: `boxes` (B, MAX_FOUND, 4), `scores`, `class_ids`, best first, `counts` (B,), maybe `landmarks`; the status
    of suppression `nms` (B,), and of each list `decode 0`..., whose families are given. thresholds: of each class;
    weak: lower scores were asked for, too. Raises ModelError where a network is broken, or something that reaches its
    threshold may be missing.
    """
    dropped = 0
    for number, family in enumerate(families):
        status = results[f"decode {number}"][place]
        if status & BROKEN:
            check_status(family, np.array([status], np.int32))
        dropped += bool(status & Status.CANDIDATES_DROPPED)
    status, count = int(results["nms"][place]), int(results["counts"][place])
    if status & NmsStatus.NOT_FINITE or count < 0:
        raise ModelError("boxes or scores are not finite; do not trust this model or device")
    kept = slice(min(count, MAX_FOUND))
    scores, class_ids = results["scores"][place, kept], results["class_ids"][place, kept]
    cut = count > MAX_FOUND or bool(status & (NmsStatus.KEPT_DROPPED | NmsStatus.CANDIDATES_DROPPED))
    # The best stay. So where one of the rest is below every threshold, none that reaches one was left out; but of
    # several lists each leaves out its own, and nothing is known of one from what another holds.
    reaches_below = bool((scores < thresholds.min(initial=np.inf)).any())
    if (dropped or cut) and not (reaches_below and (len(families) == 1 or not dropped)):
        raise ModelError(
            f"{families[0]}: a frame has more objects than the device keeps ({MAX_FOUND}, of {MAX_CANDIDATES} "
            f"candidates); raise --threshold, or use --device cpu"
        )
    marks = results.get("landmarks")
    strong = scores >= thresholds[class_ids]
    found, rest = (
        Detections(
            results["boxes"][place, kept][chosen],
            scores[chosen],
            class_ids[chosen],
            class_names,
            None if marks is None else marks[place, kept][chosen],
        )
        for chosen in (np.flatnonzero(strong), np.flatnonzero(~strong)[:MOST_WEAK])
    )
    return Seen(found, rest if weak else None)
