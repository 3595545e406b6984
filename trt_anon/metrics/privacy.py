"""How much of what had to be hidden is hidden: shares of labelled boxes under the redaction.

A pixel counts with the area that a box covers of it, so boxes with fractional edges are measured exactly. Boxes are
clipped to the picture: what lies outside it shows nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def cover(boxes_xyxy_px: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of each box's visible area that lies under the mask, in [0, 1].

    boxes_xyxy_px: (N, 4) in pixels of the mask, continuous (column x covers [x, x + 1)). mask: (H, W), True where
    redacted. Returns (N,) float64; 1 for a box without visible area, which exposes nothing. Raises ValueError for other
    shapes, a mask that is not boolean, or boxes that are not finite.
    """
    if boxes_xyxy_px.ndim != 2 or boxes_xyxy_px.shape[1] != 4 or not np.isfinite(boxes_xyxy_px).all():
        raise ValueError(f"boxes must be finite and (N, 4), got {boxes_xyxy_px.shape}")
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"the mask must be a boolean (H, W), got {mask.dtype} {mask.shape}")
    height, width = mask.shape
    shares = np.ones(len(boxes_xyxy_px), np.float64)
    for number, box in enumerate(boxes_xyxy_px.astype(np.float64)):
        (left, first_column, last_column), (top, first_row, last_row) = (
            _weights(box[0], box[2], width),
            _weights(box[1], box[3], height),
        )
        area = left.sum() * top.sum()
        if area > 0:
            hidden = top @ mask[first_row:last_row, first_column:last_column] @ left
            shares[number] = min(1.0, hidden / area)
    return shares


def reach_of_cover(
    boxes_xyxy_px: NDArray[np.floating], levels: NDArray[np.float32], needed: Sequence[float]
) -> NDArray[np.float64]:
    """The highest threshold at which each box is covered by at least each share: (N, len(needed)) float64.

    levels: (H, W) float32, for each pixel the highest threshold at which it is redacted, so that `levels >= t` is the
    mask at t; -inf where it never is. needed: shares in (0, 1]. Gives -inf for a box that is never covered so far, inf
    for one without visible area. At any threshold t, `cover(boxes, levels >= t) >= share` where the result is >= t.
    """
    if boxes_xyxy_px.ndim != 2 or boxes_xyxy_px.shape[1] != 4 or not np.isfinite(boxes_xyxy_px).all():
        raise ValueError(f"boxes must be finite and (N, 4), got {boxes_xyxy_px.shape}")
    if levels.ndim != 2 or levels.dtype != np.float32 or np.isnan(levels).any():
        raise ValueError(f"levels must be float32 (H, W) without NaN, got {levels.dtype} {levels.shape}")
    if any(not 0 < share <= 1 for share in needed):
        raise ValueError(f"shares must lie in (0, 1], got {list(needed)}")
    height, width = levels.shape
    reach = np.full((len(boxes_xyxy_px), len(needed)), np.inf)
    for number, box in enumerate(boxes_xyxy_px.astype(np.float64)):
        (left, first_column, last_column), (top, first_row, last_row) = (
            _weights(box[0], box[2], width),
            _weights(box[1], box[3], height),
        )
        area = left.sum() * top.sum()
        if area <= 0:
            continue
        inside = levels[first_row:last_row, first_column:last_column].ravel()
        order = np.argsort(-inside, kind="stable")
        hidden = np.cumsum(np.outer(top, left).ravel()[order])
        # One part in a billion is rounding, not a gap.
        places = np.searchsorted(hidden, np.asarray(needed) * area * (1 - 1e-9), side="left")
        reach[number] = inside[order][np.minimum(places, len(order) - 1)]
    return reach


def exposed_share(boxes_xyxy_px: NDArray[np.floating], mask: NDArray[np.bool_], needed: float = 0.75) -> float:
    """Share of the boxes of which less than `needed` is covered; 0 where there are no boxes. See `cover`."""
    if not len(boxes_xyxy_px):
        return 0.0
    return float(np.mean(cover(boxes_xyxy_px, mask) < needed))


def redacted_share(mask: NDArray[np.bool_]) -> float:
    """Share of the picture under the mask; 0 for a picture without pixels."""
    return float(mask.mean()) if mask.size else 0.0


def _weights(low: float, high: float, size: int) -> tuple[NDArray[np.float64], int, int]:
    """How much of each pixel of [first, last) lies within [low, high], along one axis of that size."""
    low, high = max(low, 0.0), min(high, float(size))
    if high <= low:
        return np.zeros(0), 0, 0
    first, last = int(np.floor(low)), int(np.ceil(high))
    edges = np.arange(first, last, dtype=np.float64)
    return np.minimum(edges + 1, high) - np.maximum(edges, low), first, last
