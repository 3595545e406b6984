"""Forward through time: each frame's detections continue tracks or begin them. What lies ahead is `look_ahead`'s."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import PipelineError
from trt_anon.track import kalman
from trt_anon.track.association import associate
from trt_anon.track.cuts import CutFinder
from trt_anon.track.kalman import Array, Warp
from trt_anon.track.motion import CameraMotion, context, follow, patch
from trt_anon.track.sight import Sight
from trt_anon.types import Detections

WEAK_FACTOR = 4.0
"""Variance of a weak detection against that of a confident one."""

FOLLOW_FACTOR = 8.0
"""Variance of a box followed through the picture against that of a confident detection, per tenth of a second."""

SURE_LEAST, SURE_DENSITY, SURE_ODDS, SURE_MANY, SURE_SHARE = 2, 0.4, 1.6, 8, 0.7
"""See `Track.is_sure`. Tried by `benchmarks/temporal.py`; SURE_MANY and SURE_SHARE were set by hand on its scenes."""

USUAL = 0.7
"""See `Track.usual_size`. More hides more: by `benchmarks/temporal.py`, 0.5 leaves 4.4% exposed and 0.85 3.8%, for 1.20
and 1.28 times the pixels."""

_REMEMBERED = 2048  # more than any frame waits for
_LONGEST_STEP_SECONDS = 1.0
_LEAST_STEP_SECONDS = 1e-3


@dataclass(slots=True, eq=False)
class Track:
    """What is known of one object.

    first, last: numbers of the moments in which it was detected first and last. looks: frames in which the detector
    looked since it began; looks_to_last: of them, up to its last detection. detections, scores: how many it has, and
    their sum; confident: how many reach the threshold; confident_seconds, confident_sizes: when the last of these were,
    and their widths and heights. appearance: what it looked like before it was lost from sight; lost: whether the
    picture no longer shows it. head: centres in the moments before `first`, latest first, as the picture shows them;
    None until looked for.
    """

    id: int
    class_id: int
    first: int
    last: int
    last_seconds: float
    best_score: float
    looks: int = 0
    looks_to_last: int = 0
    detections: int = 0
    scores: float = 0.0
    confident: int = 0
    confident_seconds: list[float] = field(default_factory=list)
    confident_sizes: list[tuple[float, float]] = field(default_factory=list)
    appearance: NDArray[np.float32] | None = None
    lost: bool = False
    head: list[Array] | None = None

    def is_sure(self, threshold: float) -> bool:
        """Whether so much speaks for it that it is hidden where it was not found, too.

        At least SURE_LEAST confident detections; found in SURE_DENSITY of the looks from its first detection to its
        last; and a mean score whose odds are SURE_ODDS times those of the threshold, or SURE_MANY confident detections
        that are SURE_SHARE of all: what lies about the threshold for its whole life is more often a mistake.
        """
        mean, confident = self.scores / self.detections, self.confident
        if confident < SURE_LEAST or self.detections < SURE_DENSITY * self.looks_to_last:
            return False
        above = mean * (1 - threshold) >= SURE_ODDS * threshold * (1 - mean)
        return above or (confident >= SURE_MANY and confident >= SURE_SHARE * self.detections)

    def spans(self, seconds: float, longest: float) -> bool:
        """Whether a time lies on or between two confident detections no further apart than `longest`."""
        after = bisect_left(self.confident_seconds, seconds - 1e-6)
        if after == len(self.confident_seconds):
            return False
        if self.confident_seconds[after] <= seconds + 1e-6:
            return True
        return after > 0 and self.confident_seconds[after] - self.confident_seconds[after - 1] <= longest + 1e-6

    def usual_size(self, seconds: float, reach: float) -> tuple[float, float] | None:
        """Width and height that USUAL of the confident detections up to `reach` seconds away do not exceed.

        None without any. USUAL is more than a half, for what a box leaves out is seen, and what it has too much is not.
        """
        first = bisect_left(self.confident_seconds, seconds - reach - 1e-6)
        stop = bisect_left(self.confident_seconds, seconds + reach + 1e-6)
        if first == stop:
            return None
        widths, heights = (sorted(sizes) for sizes in zip(*self.confident_sizes[first:stop], strict=True))
        place = int(USUAL * len(widths))
        return widths[place], heights[place]


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A frame as the tracker left it. Rows are the tracks alive, N of them.

    step_seconds, motion, cut: from the moment before to this one. came_from: (N,) the row there, -1 if born here, which
    are the last. predicted: (mean, cov) of the others, before the camera's motion. mean, cov: (N, ...) filtered states.
    seen: (N,) 0 not, 1 weakly, 2 confidently detected. followed: (N,) whether the picture still shows where it is.
    boxes_xyxy: (N, 4) of the detections, NaN where there is none; scores: (N,).
    """

    number: int
    seconds: float
    size_px: tuple[int, int]
    picture: NDArray[np.uint8] | None
    step_seconds: float
    motion: CameraMotion
    cut: bool
    tracks: tuple[Track, ...]
    came_from: NDArray[np.intp]
    predicted: tuple[Array, Array]
    mean: Array
    cov: Array
    seen: NDArray[np.int8]
    followed: NDArray[np.bool_]
    boxes_xyxy: Array
    scores: NDArray[np.float32]
    contours_px: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def warp(self) -> Warp:
        """The camera's motion from the moment before, in pixels of the frame."""
        return self.motion.warp

    def to_small(self, boxes_xyxy: Array) -> Array:
        """Boxes of the frame in the pixels of its small picture."""
        return boxes_xyxy / np.tile(self.ratio, 2)

    @property
    def ratio(self) -> Array:
        """(2,) pixels of the frame per pixel of the small picture, across and down."""
        assert self.picture is not None
        height, width = self.picture.shape
        return np.array((self.size_px[0] / width, self.size_px[1] / height))


class Tracker:
    """Joins detections to tracks, frame by frame; ids belong to the instance and count from 1.

    lifetime_seconds: a track not detected for longer has ended. thresholds: the detector's, for each class.
    """

    def __init__(self, lifetime_seconds: float, thresholds: Sequence[float]) -> None:
        self._lifetime = lifetime_seconds
        self._thresholds = tuple(thresholds)
        self._cuts = CutFinder()
        self._last: Moment | None = None
        self._ids = 0

    def advance(self, sight: Sight) -> Moment:
        """Take the next frame in. Raises PipelineError where a number is not finite."""
        last = self._last
        number = 0 if last is None else last.number + 1
        step, motion, cut = self._motion(sight)
        old = () if last is None or cut else last.tracks
        rows = np.array(
            [i for i, t in enumerate(old) if sight.seconds - t.last_seconds <= self._lifetime + 1e-6], np.intp
        )
        tracks = [old[i] for i in rows.tolist()]
        for known in tracks:
            known.looks += sight.found is not None
        predicted = mean, cov = np.zeros((0, 8)), np.zeros((0, 2, 3))
        if last is not None and tracks:
            predicted = kalman.predict(last.mean[rows], last.cov[rows], step)
            mean, cov = kalman.warped(*predicted, motion.warp)
        boxes, scores, classes, confident, outlines = _gathered(sight)
        owner = associate(
            kalman.values_to_boxes(mean),
            np.array([t.class_id for t in tracks], np.int32),
            kalman.spread(mean, cov),
            boxes,
            classes,
            confident,
        )
        continued = np.nonzero(owner >= 0)[0]
        mine = owner[continued]
        factor = np.where(confident[continued], 1.0, WEAK_FACTOR)
        values = kalman.boxes_to_values(boxes)
        followed = np.zeros(len(tracks), np.bool_)
        followed[mine] = True
        self._follow(sight, motion, rows, tracks, np.nonzero(~followed)[0], mean, cov, followed)
        mean[mine], cov[mine] = kalman.update(
            mean[mine], cov[mine], values[continued], kalman.error_of(mean[mine], factor)
        )
        begun = np.nonzero(owner < 0)[0]
        fresh_mean, fresh_cov = kalman.born(values[begun], np.where(confident[begun], 1.0, WEAK_FACTOR))
        for found, row in zip(continued.tolist(), mine.tolist(), strict=True):
            _saw(tracks[row], number, sight.seconds, float(scores[found]), bool(confident[found]), boxes[found])
        for found in begun.tolist():
            self._ids += 1
            track = Track(self._ids, int(classes[found]), number, number, sight.seconds, float(scores[found]), looks=1)
            _saw(track, number, sight.seconds, float(scores[found]), bool(confident[found]), boxes[found])
            tracks.append(track)
        where = np.concatenate((mine, np.arange(len(begun)) + len(rows))).astype(np.intp)
        order = np.concatenate((continued, begun)).astype(np.intp)
        seen = np.zeros(len(tracks), np.int8)
        seen[where] = np.where(confident[order], 2, 1)
        found_boxes = np.full((len(tracks), 4), np.nan)
        found_boxes[where] = boxes[order]
        found_scores = np.zeros(len(tracks), np.float32)
        found_scores[where] = scores[order]
        moment = Moment(
            number=number,
            seconds=sight.seconds,
            size_px=sight.size_px,
            picture=sight.picture,
            step_seconds=step,
            motion=motion,
            cut=cut,
            tracks=tuple(tracks),
            came_from=np.concatenate((rows, np.full(len(begun), -1))).astype(np.intp),
            predicted=predicted,
            mean=np.concatenate((mean, fresh_mean)),
            cov=np.concatenate((cov, fresh_cov)),
            seen=seen,
            followed=np.concatenate((followed, np.ones(len(begun), np.bool_))),
            boxes_xyxy=found_boxes,
            scores=found_scores,
            contours_px={
                row: outlines[found]
                for row, found in zip(where.tolist(), order.tolist(), strict=True)
                if outlines and len(outlines[found])
            },
        )
        if not (np.isfinite(moment.mean).all() and np.isfinite(moment.cov).all()):
            raise PipelineError("a track is no longer finite: detections or times cannot be trusted")
        self._last = moment
        return moment

    def _motion(self, sight: Sight) -> tuple[float, CameraMotion, bool]:
        """Seconds since the last frame, the camera's motion, whether a shot begins."""
        last = self._last
        step = 0.0 if last is None else sight.seconds - last.seconds
        step = min(max(step, _LEAST_STEP_SECONDS), _LONGEST_STEP_SECONDS)
        if last is None or last.size_px != sight.size_px or last.picture is None or sight.picture is None:
            if sight.picture is not None:
                self._cuts.is_cut(sight.picture, lambda: 0.0)  # so that the next one is compared with it
            return step, CameraMotion(None, None, sight.size_px), last is None or last.size_px != sight.size_px
        motion = CameraMotion(last.picture, sight.picture, sight.size_px)
        is_cut = self._cuts.is_cut(sight.picture, lambda: motion.share)
        return step, CameraMotion(None, None, sight.size_px) if self._cuts.is_still else motion, is_cut

    def _follow(
        self,
        sight: Sight,
        motion: CameraMotion,
        rows: NDArray[np.intp],
        tracks: list[Track],
        unseen: NDArray[np.intp],
        mean: Array,
        cov: Array,
        followed: NDArray[np.bool_],
    ) -> None:
        """Where the detector did not see a track that is sure, the picture may: what it shows counts as measured."""
        last = self._last
        if last is None or last.picture is None or sight.picture is None or not len(unseen):
            return
        before = kalman.values_to_boxes(last.mean[rows])
        ratio = last.ratio
        wanted = []
        for row in unseen.tolist():
            track = tracks[row]
            if track.last == last.number:  # it was seen just now, so this is what it looks like
                is_sure = track.is_sure(self._thresholds[track.class_id])
                track.appearance = patch(last.picture, context(last.to_small(before[row]))) if is_sure else None
                track.lost = False
            if track.appearance is not None and not track.lost:
                wanted.append(row)
        if not wanted:
            return
        looks = [look for row in wanted if (look := tracks[row].appearance) is not None]
        shifts = follow(last.picture, sight.picture, last.to_small(before[wanted]), looks, motion.small)
        for row, shift in zip(wanted, shifts, strict=True):
            track = tracks[row]
            if shift is None:
                track.lost = True
                continue
            followed[row] = True
            moved = mean[row : row + 1, :4].copy()
            moved[:, :2] = last.mean[rows[row], :2] + shift * ratio
            tenths = 1 + 10 * (sight.seconds - track.last_seconds)
            error = kalman.error_of(mean[row : row + 1], FOLLOW_FACTOR * tenths)
            error[:, 1] = 1e6  # the picture says nothing about its size
            here = slice(row, row + 1)
            mean[here], cov[here] = kalman.update(mean[here], cov[here], moved, error)


def _saw(track: Track, number: int, seconds: float, score: float, confident: bool, box_xyxy: Array) -> None:
    track.last, track.last_seconds = number, seconds
    track.best_score = max(track.best_score, score)
    track.detections += 1
    track.scores += score
    track.looks_to_last = track.looks
    if confident:
        track.confident += 1
        x0, y0, x1, y1 = box_xyxy.tolist()
        track.confident_seconds.append(seconds)
        track.confident_sizes.append((x1 - x0, y1 - y0))
        if len(track.confident_seconds) > 2 * _REMEMBERED:
            del track.confident_seconds[:-_REMEMBERED], track.confident_sizes[:-_REMEMBERED]


def _gathered(
    sight: Sight,
) -> tuple[Array, NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_], tuple[NDArray[np.float32], ...]]:
    """Both kinds of detections as one: boxes, scores, classes, which are confident, outlines (of none or of all)."""
    given: list[Detections] = [d for d in (sight.found, sight.weak) if d is not None]
    if not given:
        empty = np.zeros(0, np.float32)
        return np.zeros((0, 4)), empty, np.zeros(0, np.int32), np.zeros(0, np.bool_), ()
    boxes = np.concatenate([d.boxes_xyxy_px for d in given]).astype(np.float64)
    scores = np.concatenate([d.scores for d in given])
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise PipelineError("detections are not finite; do not trust this model or device")
    confident = np.concatenate([np.full(len(d), d is sight.found) for d in given]).astype(np.bool_)
    corners = boxes.reshape(-1, 2, 2)
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    outlines: tuple[NDArray[np.float32], ...] = ()
    if any(d.contours_px is not None for d in given):
        none = np.zeros((0, 2), np.float32)
        outlines = tuple(o for d in given for o in (d.contours_px or (none,) * len(d)))
    return boxes, scores, np.concatenate([d.class_ids for d in given]), confident, outlines
