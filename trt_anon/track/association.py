"""Which detection continues which track: confident detections first, then weak ones, as ByteTrack does.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022. Boxes are compared after
they are widened, so that small objects that move by more than their size still meet themselves ("Hard to track objects
with irregular motions and similar appearances? Make it easier by buffering the matching space", Yang et al., WACV
2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require

Boxes = NDArray[np.float64]

BUFFER = 0.3
"""How far boxes are widened on each side before they are compared, as a share of their own sides."""

CONFIDENT_OVERLAP = 0.1
"""Least intersection over union of the widened boxes for a confident detection to continue a track."""

WEAK_OVERLAP = 0.25
"""The same for a weak one."""


def overlaps(boxes_xyxy: Boxes, others_xyxy: Boxes, margins: Boxes) -> Boxes:
    """(N, M) intersection over union of boxes that are wider than given; 0 where both are empty.

    Each side is moved out by `BUFFER` of the box's own side and, in both boxes of a pair, by `margins` (N, 2) pixels.
    """
    # by columns: NumPy's reductions over an axis of two take longer than all the arithmetic
    one, other = _buffered(boxes_xyxy), _buffered(others_xyxy)
    sides = []
    for axis in (0, 1):
        margin = margins[:, axis, None]
        low = np.maximum(one[:, axis, None], other[None, :, axis]) - margin
        high = np.minimum(one[:, axis + 2, None], other[None, :, axis + 2]) + margin
        mine = (one[:, axis + 2] - one[:, axis])[:, None] + 2 * margin
        others = (other[:, axis + 2] - other[:, axis])[None] + 2 * margin
        sides.append((np.maximum(high - low, 0), mine, others))
    (shared_x, mine_x, others_x), (shared_y, mine_y, others_y) = sides
    shared = shared_x * shared_y
    union = mine_x * mine_y + others_x * others_y - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float64)


def _buffered(boxes_xyxy: Boxes) -> Boxes:
    reach = BUFFER * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])
    return np.concatenate((boxes_xyxy[:, :2] - reach, boxes_xyxy[:, 2:] + reach), axis=1)


def assign(score: Boxes, least: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs (rows, columns) of the greatest total score, none below `least`; every row and column at most once."""
    rows, columns = np.nonzero(score >= least)
    # most often nobody competes, and then there is nothing to solve
    if len(set(rows.tolist())) == len(rows) and len(set(columns.tolist())) == len(columns):
        return rows, columns
    lap = require("lap", "following objects through a video")
    _, column_of, _ = lap.lapjv(1.0 - score, extend_cost=True, cost_limit=1.0 - least + 1e-9)
    rows = np.nonzero(column_of >= 0)[0]
    columns = column_of[rows]
    good = score[rows, columns] >= least
    return rows[good], columns[good].astype(np.intp)


def associate(
    tracks_xyxy: Boxes,
    track_classes: NDArray[np.int32],
    margins: Boxes,
    found_xyxy: Boxes,
    found_classes: NDArray[np.int32],
    confident: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """(N,) for each detection the track that it continues, -1 where none.

    tracks_xyxy: (T, 4) where the tracks are expected; margins: (T, 2) how uncertain that is, in pixels. found_xyxy:
    (N, 4), confident: (N,). Classes never mix.
    """
    owner = np.full(len(found_xyxy), -1, np.intp)
    if not len(tracks_xyxy) or not len(found_xyxy):
        return owner
    score = overlaps(tracks_xyxy, found_xyxy, margins)
    score[track_classes[:, None] != found_classes[None]] = -1.0
    free = np.arange(len(tracks_xyxy))
    for mine, least in ((confident, CONFIDENT_OVERLAP), (~confident, WEAK_OVERLAP)):
        columns = np.nonzero(mine)[0]
        if not len(columns) or not len(free):
            continue
        rows, picked = assign(score[np.ix_(free, columns)], least)
        owner[columns[picked]] = free[rows]
        free = np.delete(free, rows)
    return owner
