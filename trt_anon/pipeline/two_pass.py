"""Tracks of a whole file before any of it is redacted: the longest look-ahead, and no frame that waits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from trt_anon.config import AnonymizeConfig
from trt_anon.errors import PipelineError
from trt_anon.media import MediaInfo
from trt_anon.pipeline.conveyor import Conveyor, Stage
from trt_anon.pipeline.detecting import Detecting, Pending, Ready
from trt_anon.pipeline.looking import Looks
from trt_anon.pipeline.tracking import TrackedFrames, seconds_of, to_hide
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.source.base import Source
from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Frame, Tracks

LOOK_AHEAD_SECONDS = 10.0
"""How far ahead the first pass looks: what comes later changes nothing any more, for no track is lost for so long."""


def look_through(
    open_source: Callable[[], Source], detector: Detecting, config: AnonymizeConfig, folder: Path
) -> KnownTracks:
    """Go through a file once and give the tracks of all its frames; close what is given.

    folder: for a temporary file without a name, which is gone with the process: where objects are is personal data.
    A frame in which detection fails is remembered, and asking for it raises; raises whatever else goes wrong.
    """
    known = KnownTracks(detector.class_names, folder)
    source = open_source()
    try:
        _look(source, detector, config, known)
    except BaseException:
        known.close()
        raise
    finally:
        source.close()
    return known


@dataclass(frozen=True, slots=True)
class _Waits:
    """All that is kept of a frame."""

    index: int
    failed: bool


def _given(waits: _Waits, tracks: Tracks) -> tuple[int, Detections | None]:
    return waits.index, None if waits.failed else to_hide(tracks)


def _look(source: Source, detector: Detecting, config: AnonymizeConfig, known: KnownTracks) -> None:
    track = config.track.model_copy(update={"look_ahead_seconds": LOOK_AHEAD_SECONDS})
    tracked: TrackedFrames[_Waits] = TrackedFrames(track, detector.class_names, detector.thresholds)
    looks = Looks(source.info, config.track)
    info = source.info

    def detect(frame: Frame) -> tuple[Frame, Pending | None, bool]:
        if frame.concealed:
            return frame, None, True
        try:
            return frame, detector.submit(frame) if looks.at(frame) else None, False
        except Exception:  # noqa: BLE001 - the second pass fails at this frame, or redacts it whole
            return frame, None, True

    def advance(item: tuple[Frame, Pending | None, bool]) -> list[tuple[int, Detections | None]]:
        frame, pending, failed = item
        found = weak = None
        if pending is not None:
            try:
                found, weak = pending.result_with_weak()
            except Exception:  # noqa: BLE001 - as above
                failed = True
        picture = None if frame.concealed else grey_thumbnail(frame)
        sight = Sight(seconds_of(frame, info), frame.upright_size_px, picture, found, weak)
        return [_given(*each) for each in tracked.push(_Waits(frame.index, failed), sight)]

    def rest() -> list[tuple[int, Detections | None]]:
        return [_given(*each) for each in tracked.finish()]

    detector.prepare(info)
    stages = [Stage("detect", detect), Stage("track", advance, rest)]
    with Conveyor(source, stages, queue=config.pipeline.queue_frames, source_name="decode") as conveyor:
        for index, found in conveyor:
            known.add(index, found)


class KnownTracks:
    """What has to be hidden in each frame of a file, kept in a temporary file; stands where a detector stands."""

    complete = True

    def __init__(self, class_names: Sequence[str], folder: Path) -> None:
        self.class_names = tuple(class_names)
        self.thresholds = (0.0,) * len(self.class_names)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._starts: dict[int, int] = {}
        self._length = 0

    def add(self, index: int, found: Detections | None) -> None:
        """What has to be hidden in a frame; None where that is not known."""
        if found is None:
            self._starts[index] = -1
            return
        self._starts[index] = self._length
        outlines = found.contours_px or ()
        sizes = np.array([len(outline) for outline in outlines], np.int32)
        parts: list[np.ndarray[Any, Any]] = [
            np.array([len(found), len(outlines)], np.int32),
            found.boxes_xyxy_px,
            found.scores,
            found.class_ids,
            sizes,
            *outlines,
        ]
        record = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
        self._file.write(record)
        self._length += len(record)

    def prepare(self, info: MediaInfo) -> None:
        """Nothing to prepare."""

    def submit(self, frame: Frame) -> Ready:
        """What was found in a frame. Raises PipelineError where that is not known."""
        start = self._starts.get(frame.index)
        if start is None:
            raise PipelineError(f"frame {frame.index} was not there when the file was looked through")
        if start < 0:
            raise PipelineError(f"detection failed in frame {frame.index}")
        return Ready(self._read(start))

    def close(self) -> None:
        """Let the temporary file go."""
        self._file.close()

    def _read(self, start: int) -> Detections:
        self._file.seek(start)
        count, outlined = self._array(np.int32, 2).tolist()
        boxes = self._array(np.float32, 4 * count).reshape(-1, 4)
        scores, class_ids = self._array(np.float32, count), self._array(np.int32, count)
        sizes = self._array(np.int32, outlined).tolist()
        outlines = tuple(self._array(np.float32, 2 * size).reshape(-1, 2) for size in sizes)
        return Detections(boxes, scores, class_ids, self.class_names, contours_px=outlines if outlined else None)

    def _array(self, kind: type[np.generic], count: int) -> np.ndarray[Any, Any]:
        data = self._file.read(count * np.dtype(kind).itemsize)
        return np.frombuffer(data, kind, count).copy()
