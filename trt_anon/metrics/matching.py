"""Which detections find which labelled objects, by the rules of COCO.

Detections are taken best score first (of equal scores the earlier). Each takes, among the objects that are still free
and overlap it by at least the IoU asked for, the one with the largest overlap (of equal ones the later). Objects to be
ignored are only taken where no counted one fits; what takes them is neither right nor wrong. A crowd is ignored, takes
any number of detections, and its overlap is the share of the detection that lies in it.

A detection's fate does not depend on those with lower scores, so one matching at a low threshold serves all above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRUE, FALSE, IGNORED = 1, 0, -1
"""The verdicts over a detection."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The outcome for one image and class.

    verdicts: (D,) int8, one of TRUE, FALSE, IGNORED for each detection. objects: (D,) int64, the object that each took,
    -1 for none. reach: (G,) float64, the score of the detection that took each object, -inf where none did.
    """

    verdicts: NDArray[np.int8]
    objects: NDArray[np.int64]
    reach: NDArray[np.float64]


def overlaps(
    boxes_xyxy: NDArray[np.floating], objects_xyxy: NDArray[np.floating], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU of (D, 4) boxes with (G, 4) objects: (D, G) float64; for a crowd intersection over the box's area."""
    a = np.asarray(boxes_xyxy, np.float64).T[:, :, None]
    b = np.asarray(objects_xyxy, np.float64).T[:, None]
    shared = _area(np.maximum(a[0], b[0]), np.maximum(a[1], b[1]), np.minimum(a[2], b[2]), np.minimum(a[3], b[3]))
    own = _area(*a)
    union = np.where(crowd, own, own + _area(*b) - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _area(
    x0: NDArray[np.float64], y0: NDArray[np.float64], x1: NDArray[np.float64], y1: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.maximum(x1 - x0, 0.0) * np.maximum(y1 - y0, 0.0)


def match(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    objects_xyxy: NDArray[np.floating],
    ignore: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
    iou: float,
) -> Matches:
    """Match the detections of one image and class with its objects; see the module.

    boxes_xyxy: (D, 4), scores: (D,), in any order. objects_xyxy: (G, 4), ignore, crowd: (G,); a crowd is always
    ignored. Raises ValueError for other shapes or an IoU outside (0, 1].
    """
    count, total = len(scores), len(objects_xyxy)
    if (
        boxes_xyxy.shape != (count, 4)
        or objects_xyxy.shape != (total, 4)
        or len(ignore) != total
        or len(crowd) != total
    ):
        raise ValueError("expected boxes (D, 4) with scores (D,), objects (G, 4) with ignore (G,) and crowd (G,)")
    if not 0 < iou <= 1:
        raise ValueError(f"IoU must lie in (0, 1], got {iou}")
    ignore = ignore | crowd
    needed = min(iou, 1 - 1e-10)
    pairs = overlaps(boxes_xyxy, objects_xyxy, crowd)
    verdicts = np.full(count, FALSE, np.int8)
    taken_by = np.full(count, -1, np.int64)
    reach = np.full(total, -np.inf)
    free = np.ones(total, np.bool_)
    for number in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        fits = free & (pairs[number] >= needed)
        wanted = fits & ~ignore
        choice = wanted if wanted.any() else fits
        if not choice.any():
            continue
        place = total - 1 - int(np.argmax(np.where(choice, pairs[number], -1.0)[::-1]))
        taken_by[number] = place
        verdicts[number] = IGNORED if ignore[place] else TRUE
        reach[place] = max(reach[place], float(scores[number]))
        free[place] = crowd[place]
    return Matches(verdicts, taken_by, reach)
