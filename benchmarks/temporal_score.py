"""What `temporal.py` counts, from labels and what was hidden in every frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from temporal_video import RATE, SIZE, Label, visible_part
from trackeval.metrics import HOTA, Identity

from trt_anon.redact.region import covered_rect, expand_mask, region_mask
from trt_anon.types import Region

COVER = 0.75
LEAST_PX = 12.0
LEAST_VISIBLE = 0.3
"""Objects lower than LEAST_PX or with less of them visible are not counted, and hiding them is no fault either."""

_POINTS = 24


def mask_of(regions: Sequence[Region]) -> NDArray[np.bool_]:
    """Which pixels of a frame are redacted."""
    mask = np.zeros(SIZE[::-1], np.bool_)
    for region in regions:
        rect = covered_rect(region, *SIZE, (2, 2))
        if rect is not None:
            mask[rect.y0 : rect.y1, rect.x0 : rect.x1] |= expand_mask(region_mask(region, rect, (2, 2)), rect, (2, 2))
    return mask


def cover(label: Label, mask: NDArray[np.bool_]) -> float:
    """The share of what is visible of an object that is redacted."""
    seen = visible_part(label.box, label.before, _POINTS)
    if not seen.any():
        return 1.0
    x0, y0, x1, y1 = label.box
    share = (np.arange(_POINTS) + 0.5) / _POINTS
    x = np.clip((x0 + share * (x1 - x0)).astype(int), 0, SIZE[0] - 1)
    y = np.clip((y0 + share * (y1 - y0)).astype(int), 0, SIZE[1] - 1)
    return float(mask[np.ix_(y, x)][seen].mean())


def counts(label: Label) -> bool:
    """Whether an object of this size and this much in sight has to be hidden."""
    return label.box[3] - label.box[1] >= LEAST_PX and label.visible >= LEAST_VISIBLE


@dataclass
class Tally:
    """Sums over scenes."""

    object_frames: int = 0
    exposed: int = 0
    frames: int = 0
    false_masks: int = 0
    redacted: float = 0.0
    entering: list[int] = field(default_factory=list)
    flickers: int = 0
    track_seconds: float = 0.0

    def add(self, labels: Sequence[Sequence[Label]], regions: Sequence[Sequence[Region]]) -> None:
        """One scene: of every frame the labels and what is redacted."""
        states: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for index, (known, hidden) in enumerate(zip(labels, regions, strict=True)):
            mask = mask_of(hidden)
            self.frames += 1
            self.redacted += float(mask.mean())
            self.false_masks += sum(not any(_touches(region, label) for label in known) for region in hidden)
            for label in known:
                if counts(label):
                    covered = cover(label, mask) >= COVER
                    states[label.id].append((index, covered))
                    self.object_frames += 1
                    self.exposed += not covered
        for seen in states.values():
            self._track(seen)

    def _track(self, seen: list[tuple[int, bool]]) -> None:
        self.track_seconds += len(seen) / RATE
        if seen[0][0] > 0:  # it comes while we look
            first = next((index for index, covered in seen if covered), seen[-1][0] + 1)
            self.entering.append(first - seen[0][0])
        last: int | None = None
        for (_, was), (index, covered) in pairwise(seen):
            if was and not covered:
                last = index
            elif covered and not was and last is not None and index - last <= RATE:
                self.flickers += 1  # uncovered for at most a second between two covered frames

    def figures(self) -> dict[str, Any]:
        """As shares and rates."""
        return {
            "object_frames": self.object_frames,
            "exposed_share": self.exposed / max(self.object_frames, 1),
            "entering_objects": len(self.entering),
            "entering_covered_at_once": float(np.mean([e == 0 for e in self.entering])) if self.entering else 1.0,
            "frames_to_first_cover_mean": float(np.mean(self.entering)) if self.entering else 0.0,
            "flickers_per_object_minute": 60 * self.flickers / max(self.track_seconds, 1e-9),
            "false_masks_per_frame": self.false_masks / max(self.frames, 1),
            "redacted_share": self.redacted / max(self.frames, 1),
        }


def _touches(region: Region, label: Label) -> bool:
    """Whether a region is about an object: its centre lies in it or the other way round."""
    x0, y0, x1, y1 = label.box
    x, y = (region.x0_px + region.x1_px) / 2, (region.y0_px + region.y1_px) / 2
    inside = x0 <= x <= x1 and y0 <= y <= y1
    return inside or (region.x0_px <= (x0 + x1) / 2 <= region.x1_px and region.y0_px <= (y0 + y1) / 2 <= region.y1_px)


def association(
    truth: Sequence[tuple[Sequence[int], NDArray[np.floating]]],
    found: Sequence[tuple[Sequence[int], NDArray[np.floating]]],
) -> dict[str, float]:
    """HOTA and IDF1 by TrackEval. Each frame: ids and boxes (N, 4) xyxy."""
    ids = [
        {v: n for n, v in enumerate(sorted({int(i) for frame in side for i in frame[0]}))} for side in (truth, found)
    ]
    similarity = []
    for (_, a), (_, b) in zip(truth, found, strict=True):
        low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
        shared = np.maximum(high - low, 0).prod(axis=2)
        areas = [np.maximum(s[:, 2:] - s[:, :2], 0).prod(axis=1) for s in (a, b)]
        similarity.append(shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9))
    data = {
        "num_gt_ids": len(ids[0]),
        "num_tracker_ids": len(ids[1]),
        "num_gt_dets": sum(len(f[0]) for f in truth),
        "num_tracker_dets": sum(len(f[0]) for f in found),
        "num_timesteps": len(truth),
        "gt_ids": [np.array([ids[0][int(i)] for i in f[0]], int) for f in truth],
        "tracker_ids": [np.array([ids[1][int(i)] for i in f[0]], int) for f in found],
        "similarity_scores": similarity,
    }
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return {"IDF1": float(identity["IDF1"]), "HOTA": float(np.mean(HOTA().eval_sequence(data)["HOTA"]))}
