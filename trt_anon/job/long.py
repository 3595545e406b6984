"""A long video, segment by segment: each is done or not done, and when all are, they are joined and published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from trt_anon.config import AnonymizeConfig
from trt_anon.errors import InputError, OutputError
from trt_anon.files import hash_of
from trt_anon.job.inputs import Task
from trt_anon.job.parts import Parts, SegmentDone
from trt_anon.job.publish import atomic_output
from trt_anon.job.resume import Recorder
from trt_anon.job.segments import SegmentPlan
from trt_anon.job.way import on_a_device, open_way
from trt_anon.pipeline.detecting import DetectsFiles
from trt_anon.pipeline.device_engine import DeviceEngine
from trt_anon.pipeline.redaction import Redaction
from trt_anon.sink.containers import container_kind
from trt_anon.sink.parts import JoinSink, PartSink
from trt_anon.source.pyav import PyAVSource


def anonymize_segment(
    task: Task,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    plan: SegmentPlan,
    number: int,
    part: Path,
    on_frame: Callable[[int], None] | None = None,
) -> SegmentDone:
    """Anonymize one segment into its part's file, which appears complete or not at all. Raises what went wrong."""
    return on_a_device(
        task, detector, lambda engine: _segment(task, config, detector, plan, number, part, on_frame, engine)
    )


def _segment(
    task: Task,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    plan: SegmentPlan,
    number: int,
    part: Path,
    on_frame: Callable[[int], None] | None,
    engine: DeviceEngine | None,
) -> SegmentDone:
    segment = plan.segments[number]
    with atomic_output(part, overwrite=True) as path:
        way = open_way(task, config, detector, engine, segment.span)
        try:
            sink = PartSink(
                path,
                source_path=task.source,
                info=way.info,
                config=config.sink,
                container=container_kind(task.destination, None).name,
                threads=plan.threads,
            )
            redaction = Redaction(config, task.source, shown_seconds=way.info.shown_seconds)
            loop = way.take(sink, redaction, on_frame, wanted=lambda frame: segment.holds(frame.pts))
        finally:
            way.close()
        if loop.frames != segment.frames:
            raise InputError(
                f"{task.source}: {loop.frames} frames of {segment.frames} can be decoded in a part of it; it is damaged"
            )
        sha256 = hash_of(path)
    return SegmentDone(sha256, loop.frames, dict(loop.objects), dict(loop.frames_redacted_whole))


def join_segments(
    task: Task,
    config: AnonymizeConfig,
    plan: SegmentPlan,
    parts: Sequence[Path],
    *,
    overwrite: bool,
    on_ready: Callable[[Path], None],
) -> None:
    """Join a video's segments, with its other streams, and publish it. on_ready: called with the complete file before.

    Raises OutputError, InputError.
    """
    times_of = task.source if config.sink.file_times == "keep" else None
    with atomic_output(task.destination, overwrite=overwrite, times_of=times_of) as path:
        source = PyAVSource(task.source, threads=1)
        try:
            info = source.info
        finally:
            source.close()
        sink = JoinSink(path, source_path=task.source, info=info, config=config.sink, threads=plan.threads)
        try:
            frames = sink.join(parts)
        except BaseException:
            sink.abort()
            raise
        if frames != plan.frames:
            raise OutputError(f"{task.destination}: the segments hold {frames} frames of {plan.frames}")
        on_ready(path)


def total(done: Sequence[SegmentDone]) -> tuple[int, dict[str, int], dict[str, int]]:
    """Frames, detections per class and frames redacted whole by stage, over all segments."""
    objects: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for segment in done:
        objects.update(segment.objects)
        whole.update(segment.frames_redacted_whole)
    return sum(segment.frames for segment in done), dict(objects), dict(whole)


def anonymize_long(
    task: Task,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    recorder: Recorder,
    plan: SegmentPlan,
    *,
    overwrite: bool,
    on_frame: Callable[[int], None],
) -> tuple[int, dict[str, int], dict[str, int]]:
    """Anonymize a video segment by segment, those left out that the journal has; gives what `total` gives.

    on_frame: called with the number of frames done. Raises what went wrong; segments that are done stay for later.
    """
    parts = Parts(task.destination, plan, recorder.identity)
    parts.prepare()
    done = recorder.segments(task, parts)
    for segment in plan.segments:
        if segment.number not in done:
            before = sum(each.frames for each in done.values())
            done[segment.number] = anonymize_segment(
                task,
                config,
                detector,
                plan,
                segment.number,
                parts.path(segment.number),
                lambda frames, before=before: on_frame(before + frames),  # type: ignore[misc]
            )
            recorder.segment_done(task, segment.number, done[segment.number])
    totals = total(list(done.values()))
    paths = [parts.path(segment.number) for segment in plan.segments]
    join_segments(
        task, config, plan, paths, overwrite=overwrite, on_ready=lambda path: recorder.ready(task, path, *totals)
    )
    parts.remove()
    return totals
