"""A frame's way through all stages, for one file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trt_anon.config import PipelineConfig, TrackConfig
from trt_anon.errors import InputError, PipelineError
from trt_anon.pipeline.conveyor import Conveyor, Stage
from trt_anon.pipeline.detecting import Detecting, Pending
from trt_anon.pipeline.faults import FrameFaults
from trt_anon.pipeline.looking import Looks
from trt_anon.pipeline.redaction import Redaction
from trt_anon.pipeline.tracking import NOT_LOOKED, Looked, TrackedFrames, TrackStage, most_waiting, seconds_of
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.sink.base import Sink
from trt_anon.source.base import Source
from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Frame, Tracks


@dataclass(frozen=True, slots=True)
class LoopReport:
    """What one file's loop did. objects: those redacted, per class, summed over frames. Seconds are wall time.

    frames_redacted_whole: by the stage that failed in them, with `on_error="redact-frame"`.
    """

    frames: int
    objects: Mapping[str, int]
    seconds: float
    busy_seconds: Mapping[str, float]
    frames_redacted_whole: Mapping[str, int]


def detect_frames(source: Source, detector: Detecting, config: PipelineConfig) -> Iterator[tuple[Frame, Detections]]:
    """Frames of a source with what was found in each, in order; decoding and detection run side by side."""
    if source.info.kind == "video":
        detector.prepare(source.info)
    with Conveyor(
        source,
        [Stage("detect", lambda frame: (frame, detector.submit(frame)))],
        queue=config.queue_frames,
        source_name="decode",
    ) as conveyor:
        for frame, pending in conveyor:
            if frame.concealed:
                raise InputError(f"frame {frame.index} cannot be decoded cleanly")
            yield frame, pending.result()


def track_frames(
    source: Source, detector: Detecting, config: PipelineConfig, track: TrackConfig
) -> Iterator[tuple[Frame, Tracks]]:
    """Frames of a video with the tracks in each, in order; a frame waits for the look-ahead. Any failure is raised."""
    info = source.info
    detector.prepare(info)
    looks = Looks(info, track)
    waiting: TrackedFrames[Frame] = TrackedFrames(
        track, detector.class_names, detector.thresholds, most_waiting(info, track)
    )

    def detect_frame(frame: Frame) -> tuple[Frame, Pending]:
        return frame, detector.submit(frame) if looks.at(frame) else NOT_LOOKED

    stages = [Stage("detect", detect_frame)]
    with Conveyor(source, stages, queue=config.queue_frames, source_name="decode") as conveyor:
        for frame, pending in conveyor:
            if frame.concealed:
                raise InputError(f"frame {frame.index} cannot be decoded cleanly")
            found, weak = (None, None) if pending is NOT_LOOKED else pending.result_with_weak()
            sight = Sight(seconds_of(frame, info), frame.upright_size_px, grey_thumbnail(frame), found, weak)
            yield from waiting.push(frame, sight)
    yield from waiting.finish()


def anonymize_frames(
    source: Source,
    sink: Sink,
    detector: Detecting,
    redaction: Redaction,
    config: PipelineConfig,
    on_frame: Callable[[int], None] | None = None,
    wanted: Callable[[Frame], bool] | None = None,
    track: TrackConfig | None = None,
) -> LoopReport:
    """Anonymize a whole file: decode, detect, track, redact and encode side by side.

    on_frame: called in the caller's thread with the number of frames written so far. Any failure of any stage is
    raised as it is, after the sink was aborted: nothing half-done stays open. The caller publishes the sink's file.
    With `on_error="redact-frame"` a failure of any stage but the sink costs that frame alone: it is redacted whole.
    wanted: which frames are written and counted; the others are there for what is learnt from them about those.
    track: how a video's detections are joined over time; None, or a picture, redacts each frame by its own.
    """
    objects: Counter[str] = Counter()
    faults = FrameFaults(config.on_error)
    start = time.perf_counter()

    def fault(stage: str, frame: Frame, error: Exception) -> None:
        if wanted is None or wanted(frame) or stage == "track":  # a track joins frames of both kinds
            faults.note(stage, frame, error)

    taken = 0

    def detect_frame(frame: Frame) -> tuple[Frame, Pending | None]:
        nonlocal taken
        taken += wanted is None or wanted(frame)
        if frame.concealed:
            if wanted is None or wanted(frame):
                faults.note_concealed(frame)
            return frame, None
        try:
            return frame, detector.submit(frame) if looks is None or looks.at(frame) else NOT_LOOKED
        except Exception as error:  # noqa: BLE001 - raised again unless the frame is to be redacted whole
            fault("detect", frame, error)
            return frame, None

    def collect(item: tuple[Frame, Pending | None]) -> Looked:
        frame, pending = item
        try:
            return frame, None if pending is None else pending.result()
        except Exception as error:  # noqa: BLE001 - as above
            fault("detect", frame, error)
            return frame, None

    def redact_frame(item: Looked) -> Frame:
        frame, found = item
        try:
            if found is not None:
                redaction.apply(frame, found)
                for class_id in found.class_ids.tolist() if wanted is None or wanted(frame) else ():
                    objects[found.class_names[class_id]] += 1
                return frame
        except Exception as error:  # noqa: BLE001 - as above
            fault("redact", frame, error)
        redaction.redact_whole(frame)
        return frame

    looks: Looks | None = None
    if track is None or track.track == "off" or source.info.kind == "image" or detector.complete:
        stages = [Stage("detect", detect_frame), Stage("redact", lambda item: redact_frame(collect(item)))]
    else:
        looks = Looks(source.info, track)
        tracking = TrackStage(source.info, detector, track, fault)
        stages = [
            Stage("detect", detect_frame),
            Stage("track", tracking.push, tracking.finish),
            Stage("redact", redact_frame),
        ]
    frames = 0
    encode_seconds = 0.0
    try:
        if source.info.kind == "video":
            detector.prepare(source.info)
        with Conveyor(source, stages, queue=config.queue_frames, source_name="decode") as conveyor:
            for frame in conveyor:
                if wanted is not None and not wanted(frame):
                    continue
                began = time.perf_counter()
                sink.write(frame)
                encode_seconds += time.perf_counter() - began
                frames += 1
                if on_frame is not None:
                    on_frame(frames)
        if frames != taken:
            raise PipelineError(f"{taken} frames went in and {frames} came out")
        faults.check(frames)
        began = time.perf_counter()
        sink.finish()
        encode_seconds += time.perf_counter() - began
    except BaseException:
        sink.abort()
        raise
    return LoopReport(
        frames,
        dict(objects),
        time.perf_counter() - start,
        {**conveyor.busy_seconds, "encode": encode_seconds},
        faults.counts,
    )
