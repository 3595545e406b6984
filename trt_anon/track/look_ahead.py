"""Both directions of time: frames wait until what follows them is known, then their tracks are smoothed and given out.

What is shown of a track depends on how sure it is (`Track.is_sure`), by all that is known when a frame is given out. A
sure one is shown
- from its first to its last detection, weak ones and gaps included;
- for the grace before and after;
- beyond it, as long as the picture shows where it is, until a cut comes or the object would have been forgotten.
A doubtful one, and what was found once, is shown where the detector was confident, as without tracks, and in gaps of
`UNSURE_GAP` between such frames.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import TrackConfig
from trt_anon.track import kalman
from trt_anon.track.kalman import Array
from trt_anon.track.motion import context, follow, patch
from trt_anon.track.sight import Sight
from trt_anon.track.tracker import FOLLOW_FACTOR, Moment, Track, Tracker
from trt_anon.types import Tracks

UNSURE_GAP = 0.25
"""Seconds between two confident detections that a track of which little is known is hidden for."""

SIZE_REACH = 1.0
"""Seconds before and after in which a sure track's usual size is looked for: it is hidden at least that large, since a
box is smaller than usual where half of the object is behind something or outside of the picture."""

_MOST_LARGER = 2.0  # than its own box

_CORE = 0.8  # of a confident detection that its own frame's box holds, whatever smoothing says
_STRIDE = 0.5  # of the look-ahead: frames are given out in groups that long, each smoothed at once
_EPSILON = 1e-6


class LookAhead:
    """Takes frames in order and gives out their tracks, in the same order, `look_ahead_seconds` later or up to half of
    that more.

    most_frames: no more than that many wait, whatever the look-ahead. For one video and one thread.
    """

    def __init__(
        self,
        config: TrackConfig,
        class_names: Sequence[str],
        thresholds: Sequence[float],
        most_frames: int = 1 << 20,
    ) -> None:
        """thresholds: the detector's, for each class."""
        self._config = config
        self._thresholds = tuple(thresholds)
        self._class_names = tuple(class_names)
        self._most = max(most_frames, 1)
        self._tracker = Tracker(max(config.max_gap_seconds, config.grace_seconds), thresholds)
        self._waiting: deque[Moment] = deque()

    def push(self, sight: Sight) -> list[Tracks]:
        """Take the next frame in; gives the tracks of those that have waited long enough. Raises PipelineError."""
        self._waiting.append(self._tracker.advance(sight))
        ready = self._ready(sight.seconds)
        if not ready and len(self._waiting) >= self._most:
            ready = max(1, self._most // 4)
        return list(self._give(ready))

    def _ready(self, now: float) -> int:
        """How many frames have waited long enough: up to a time that does not depend on where the video began."""
        until = now - self._config.look_ahead_seconds
        stride = self._config.look_ahead_seconds * _STRIDE
        if stride > _EPSILON:
            until = math.floor(until / stride + _EPSILON) * stride
        ready = 0
        while ready < len(self._waiting) and self._waiting[ready].seconds <= until + _EPSILON:
            ready += 1
        return ready

    def finish(self) -> list[Tracks]:
        """The tracks of all frames that still wait, after the last one was pushed."""
        return list(self._give(len(self._waiting)))

    def _give(self, count: int) -> Iterator[Tracks]:
        moments = list(self._waiting)
        if not count:
            return
        states = _smoothed(moments)
        heads = self._heads(moments, states)
        for place in range(count):
            yield self._tracks(moments[place], *states[place], heads.get(moments[place].number, []))
            self._waiting.popleft()

    def _heads(
        self, moments: list[Moment], states: list[tuple[Array, Array]]
    ) -> dict[int, list[tuple[Track, Array, Array]]]:
        """By moment, the tracks that begin later but are shown already: (track, mean, cov)."""
        shown: dict[int, list[tuple[Track, Array, Array]]] = {}
        for place, moment in enumerate(moments):
            for row in np.nonzero(moment.came_from < 0)[0].tolist() if place else ():
                track = moment.tracks[row]
                if not self._is_sure(track):
                    continue
                mean, cov = (part[row : row + 1] for part in states[place])
                if track.head is None:
                    track.head = _followed_back(moments, place, kalman.values_to_boxes(mean)[0])
                for number, state in self._back(moments, place, track.head, mean, cov):
                    shown.setdefault(number, []).append((track, *state))
        return shown

    def _back(
        self, moments: list[Moment], place: int, head: list[Array], mean: Array, cov: Array
    ) -> Iterator[tuple[int, tuple[Array, Array]]]:
        """States before the first detection, backward: the speed it had then, corrected by what the picture shows."""
        begins = moments[place].seconds
        for steps, earlier in enumerate(range(place - 1, -1, -1)):
            later, moment = moments[earlier + 1], moments[earlier]
            if later.cut:
                return
            pictured = steps < len(head)
            if not pictured and begins - moment.seconds > self._config.grace_seconds + _EPSILON:
                return
            mean, cov = kalman.warped(mean, cov, later.warp.inverse)
            mean, cov = kalman.predict(mean, cov, -later.step_seconds)
            if pictured:
                values = mean[:, :4].copy()
                values[0, :2] = head[steps]
                tenths = 1 + 10 * (begins - moment.seconds)
                error = kalman.error_of(mean, FOLLOW_FACTOR * tenths)
                error[:, 1] = 1e6
                mean, cov = kalman.update(mean, cov, values, error)
            yield moment.number, (mean, cov)

    def _tracks(self, moment: Moment, mean: Array, cov: Array, heads: list[tuple[Track, Array, Array]]) -> Tracks:
        rows = [row for row, track in enumerate(moment.tracks) if self._is_shown(moment, row, track)]
        tracks = [moment.tracks[row] for row in rows] + [track for track, _, _ in heads]
        means = np.concatenate([mean[rows], *(m for _, m, _ in heads)])
        covs = np.concatenate([cov[rows], *(c for _, _, c in heads)])
        usual = [track.usual_size(moment.seconds, SIZE_REACH) if self._is_sure(track) else None for track in tracks]
        boxes = _not_below(kalman.values_to_boxes(means), usual)
        seen = np.concatenate((moment.seen[rows] > 0, np.zeros(len(heads), np.bool_)))
        core = _core(moment.boxes_xyxy[rows])
        held = moment.seen[rows] == 2
        boxes[: len(rows)][held] = _hull(boxes[: len(rows)][held], core[held])
        scores = [float(moment.scores[row]) if moment.seen[row] else moment.tracks[row].best_score for row in rows]
        scores += [track.best_score for track, _, _ in heads]
        none = np.zeros((0, 2), np.float32)
        outlines = tuple(moment.contours_px.get(row, none) for row in rows) + (none,) * len(heads)
        return Tracks(
            boxes_xyxy_px=boxes.astype(np.float32),
            spread_px=kalman.spread(means, covs).astype(np.float32),
            scores=np.array(scores, np.float32),
            class_ids=np.array([track.class_id for track in tracks], np.int32),
            track_ids=np.array([track.id for track in tracks], np.int64),
            seen=seen.astype(np.bool_),
            class_names=self._class_names,
            contours_px=outlines if moment.contours_px else None,
        )

    def _is_sure(self, track: Track) -> bool:
        return track.is_sure(self._thresholds[track.class_id])

    def _is_shown(self, moment: Moment, row: int, track: Track) -> bool:
        if not track.confident:  # most, and they need no other question
            return False
        if moment.seen[row] == 2:  # as without tracks, whatever else is known
            return True
        if not self._is_sure(track):
            return track.spans(moment.seconds, UNSURE_GAP)
        if moment.number <= track.last:
            return True
        since = moment.seconds - track.last_seconds
        return since <= self._config.grace_seconds + _EPSILON or bool(moment.followed[row])


def _smoothed(moments: list[Moment]) -> list[tuple[Array, Array]]:
    """(mean, cov) of every moment, given all of them: the backward pass of Rauch, Tung and Striebel."""
    states = [(moments[-1].mean, moments[-1].cov)]
    for moment, later in zip(moments[-2::-1], moments[:0:-1], strict=True):
        count = len(later.predicted[0])
        mean, cov = moment.mean.copy(), moment.cov.copy()
        if count:
            here = later.came_from[:count]
            known = kalman.warped(states[-1][0][:count], states[-1][1][:count], later.warp.inverse)
            mean[here], cov[here] = kalman.smooth(mean[here], cov[here], *later.predicted, *known, later.step_seconds)
        states.append((mean, cov))
    return states[::-1]


def _followed_back(moments: list[Moment], place: int, box_xyxy: Array) -> list[Array]:
    """Centres of a box in the moments before, latest first, as far as the picture shows it and no cut comes."""
    centres: list[Array] = []
    begins = moments[place]
    if begins.picture is None:
        return centres
    small = begins.to_small(box_xyxy)
    looks = patch(begins.picture, context(small))
    for earlier in range(place - 1, -1, -1):
        later, moment = moments[earlier + 1], moments[earlier]
        if later.cut or moment.picture is None or later.picture is None:
            break
        (shift,) = follow(later.picture, moment.picture, small[None], [looks], later.motion.small.inverse)
        if shift is None:
            break
        small = small + np.tile(shift, 2)
        centres.append((small[:2] + small[2:]) / 2 * moment.ratio)
    return centres


def _not_below(boxes: Array, least: Sequence[tuple[float, float] | None]) -> Array:
    """Boxes about the same centres, at least as wide and high as given."""
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    wanted = np.array([(0.0, 0.0) if size is None else size for size in least]).reshape(-1, 2) / 2
    wanted = np.minimum(wanted, _MOST_LARGER * half)
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, np.maximum(half, wanted)
    return np.concatenate((centre - half, centre + half), axis=1)


def _core(boxes_xyxy: Array) -> Array:
    inset = (1 - _CORE) / 2 * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])
    return np.concatenate((boxes_xyxy[:, :2] + inset, boxes_xyxy[:, 2:] - inset), axis=1)


def _hull(boxes: Array, others: Array) -> NDArray[np.float64]:
    return np.concatenate((np.minimum(boxes[:, :2], others[:, :2]), np.maximum(boxes[:, 2:], others[:, 2:])), axis=1)
