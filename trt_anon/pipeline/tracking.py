"""From frames and detections to frames and tracks: who waits for the look-ahead, and what it needs to know of a
frame."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import TrackConfig
from trt_anon.errors import PipelineError
from trt_anon.media import MediaInfo
from trt_anon.pipeline.detecting import Detecting, Pending
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.track.look_ahead import LookAhead
from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Frame, Tracks

_log = logging.getLogger(__name__)

SPREADS = 0.5
"""A box is wider on each side by so many standard deviations of where its track may be. Twice as many cover no more."""

MOST_SPREAD = 0.35
"""But by no more than this share of the object's own size."""

Waiting = TypeVar("Waiting")


class NotLooked:
    """Stands for the detections of a frame that the detector did not look at."""

    def result(self) -> Detections:
        """Nobody knows what is in the frame but the tracks."""
        raise PipelineError("nobody has looked at this frame")

    def result_with_weak(self) -> tuple[Detections, Detections]:
        """See `result`."""
        raise PipelineError("nobody has looked at this frame")


NOT_LOOKED = NotLooked()

OnFault = Callable[[str, Frame, Exception], None]
"""Takes the stage, frame and error of a fault; raises it where a fault is the end of a file."""

Looked = tuple[Frame, Detections | None]
"""A frame and what is to be redacted in it; None where that is not known, and so all of it."""


class TrackedFrames(Generic[Waiting]):
    """Frames in, with what was detected in them; the same frames out, in order, with their tracks.

    A frame is whatever its owner likes: planes on the host, or a place in a pool of the device.
    """

    def __init__(
        self,
        config: TrackConfig,
        class_names: Sequence[str],
        thresholds: Sequence[float],
        most_frames: int = 1 << 20,
    ) -> None:
        """As `LookAhead`."""
        self._look_ahead = LookAhead(config, class_names, thresholds, most_frames)
        self._frames: deque[Waiting] = deque()

    def push(self, frame: Waiting, sight: Sight) -> list[tuple[Waiting, Tracks]]:
        """Take the next frame in; gives those whose tracks are known. Raises PipelineError."""
        self._frames.append(frame)
        return [(self._frames.popleft(), tracks) for tracks in self._look_ahead.push(sight)]

    def finish(self) -> list[tuple[Waiting, Tracks]]:
        """The frames that still wait."""
        return [(self._frames.popleft(), tracks) for tracks in self._look_ahead.finish()]

    def waiting(self) -> list[Waiting]:
        """The frames that have not been given out, in order; they no longer wait."""
        frames = list(self._frames)
        self._frames.clear()
        return frames


class TrackStage:
    """The tracks of one video whose frames are on the host.

    A fault of the tracker concerns all frames that wait: each is redacted whole, or the first is the end of the file.
    """

    def __init__(self, info: MediaInfo, detector: Detecting, config: TrackConfig, fault: OnFault) -> None:
        self._info = info
        self._detector = detector
        self._config = config
        self._fault = fault
        self._most = most_waiting(info, config)
        self._waiting = self._fresh()

    def push(self, item: tuple[Frame, Pending | None]) -> list[Looked]:
        """Take a frame whose detection is under way, None where that failed; gives those whose tracks are known."""
        frame, pending = item
        found = weak = picture = None
        fine = pending is NOT_LOOKED
        if pending is not None and pending is not NOT_LOOKED:
            try:
                found, weak = pending.result_with_weak()
                fine = True
            except Exception as error:  # noqa: BLE001 - raised again unless the frame is to be redacted whole
                self._fault("detect", frame, error)
        try:
            if not frame.concealed:
                picture = grey_thumbnail(frame)
            sight = Sight(seconds_of(frame, self._info), frame.upright_size_px, picture, found, weak)
            return [_looked(*each) for each in self._waiting.push((frame, fine), sight)]
        except Exception as error:  # noqa: BLE001 - as above
            return self._give_up(error)

    def finish(self) -> list[Looked]:
        """The frames that still wait."""
        try:
            return [_looked(*each) for each in self._waiting.finish()]
        except Exception as error:  # noqa: BLE001 - as above
            return self._give_up(error)

    def _fresh(self) -> TrackedFrames[tuple[Frame, bool]]:
        return TrackedFrames(self._config, self._detector.class_names, self._detector.thresholds, self._most)

    def _give_up(self, error: Exception) -> list[Looked]:
        frames = [frame for frame, _ in self._waiting.waiting()]
        for frame in frames:
            self._fault("track", frame, error)
        self._waiting = self._fresh()
        return [(frame, None) for frame in frames]


def _looked(item: tuple[Frame, bool], tracks: Tracks) -> Looked:
    frame, fine = item
    return frame, to_hide(tracks) if fine else None


def most_waiting(info: MediaInfo, config: TrackConfig) -> int:
    """How many frames of a video may wait, by their size; says so where that shortens the look-ahead."""
    shapes = info.pixel_format.plane_shapes(info.width_px, info.height_px)
    frame_bytes = sum(int(np.prod(shape)) for shape in shapes) * info.pixel_format.dtype.itemsize
    most = max(2, (config.waiting_mib << 20) // max(frame_bytes, 1))
    if info.average_rate and most < config.look_ahead_seconds * info.average_rate:
        _log.warning(
            "frames are so large that only %d may wait: the look-ahead is %.2f s instead of %.2f s (waiting_mib)",
            most,
            most / info.average_rate,
            config.look_ahead_seconds,
        )
    return most


def seconds_of(frame: Frame, info: MediaInfo) -> float:
    """When a frame is shown; by its number where the file does not say."""
    if frame.pts_seconds is not None:
        return frame.pts_seconds
    return frame.index / float(info.average_rate or 25)


def hidden_boxes(tracks: Tracks) -> NDArray[np.float32]:
    """(N, 4): the boxes of tracks, wider where a track is uncertain."""
    boxes = tracks.boxes_xyxy_px
    margin = np.minimum(SPREADS * tracks.spread_px, MOST_SPREAD * (boxes[:, 2:] - boxes[:, :2]))
    return np.concatenate((boxes[:, :2] - margin, boxes[:, 2:] + margin), axis=1)


def to_hide(tracks: Tracks) -> Detections:
    """What has to be hidden in a frame: the boxes of its tracks, wider where a track is uncertain; best score first."""
    order = np.argsort(-tracks.scores, kind="stable")
    outlines = tracks.contours_px
    return Detections(
        hidden_boxes(tracks)[order],
        tracks.scores[order],
        tracks.class_ids[order],
        tracks.class_names,
        contours_px=None if outlines is None else tuple(outlines[i] for i in order.tolist()),
    )
