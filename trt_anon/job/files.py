"""Many files through one pipeline: each is published whole or not at all, and one bad file stops nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from trt_anon.config import AnonymizeConfig
from trt_anon.errors import PipelineError, TrtAnonError
from trt_anon.job.cutting import Cutting
from trt_anon.job.inputs import Plan, Task
from trt_anon.job.kept import metadata_in
from trt_anon.job.long import anonymize_long
from trt_anon.job.publish import atomic_output
from trt_anon.job.report import FileReport, JobReport
from trt_anon.job.resume import Books, Recorder, recorded
from trt_anon.job.segments import SegmentPlan
from trt_anon.job.space import SpaceGuard
from trt_anon.job.way import on_a_device, open_source, open_way, videos_at_once
from trt_anon.pipeline.detecting import DetectsFiles
from trt_anon.pipeline.device_engine import DeviceEngine
from trt_anon.pipeline.redaction import Redaction
from trt_anon.sink.base import Sink
from trt_anon.sink.images import ImageSink


@dataclass(frozen=True, slots=True)
class Event:
    """Something to show: a file starts, got on, or ended. frames_total is an estimate, None if unknown."""

    kind: Literal["start", "frames", "end"]
    task: Task
    frames: int = 0
    frames_total: int | None = None
    report: FileReport | None = None


__all__ = ["Event", "anonymize_file", "anonymize_files", "open_source"]

OnEvent = Callable[[Event], None]
Counts = tuple[int, Mapping[str, int], Mapping[str, int]]


def anonymize_file(
    task: Task,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    *,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    books: Books | None = None,
    guard: SpaceGuard | None = None,
    plan: SegmentPlan | None = None,
) -> FileReport:
    """Anonymize one file; raises what went wrong, and then no output was made.

    books, guard, plan: where it is written down, the disk that is watched, and how a long video is cut, which needs a
    Recorder for books.
    """
    tell = on_event or (lambda _event: None)
    total: int | None = None

    def on_frame(frames: int) -> None:
        if guard is not None:
            guard.check()
        tell(Event("frames", task, frames, total))

    def whole(engine: DeviceEngine | None) -> Counts:
        nonlocal total
        times_of = task.source if config.sink.file_times == "keep" else None
        with atomic_output(task.destination, overwrite=overwrite, times_of=times_of) as path:
            way = open_way(task, config, detector, engine)
            try:
                total = way.info.frames_estimate
                tell(Event("start", task, frames_total=total))
                sink: Sink
                if task.kind == "image":
                    sink = ImageSink(path, source_path=task.source, info=way.info, config=config.sink)
                else:
                    sink = way.open_sink(path, task.source)
                redaction = Redaction(config, task.source, shown_seconds=way.info.shown_seconds)
                loop = way.take(sink, redaction, on_frame)
            finally:
                way.close()
            if books is not None:
                books.ready(task, path, loop.frames, loop.objects, loop.frames_redacted_whole)
        return loop.frames, dict(loop.objects), dict(loop.frames_redacted_whole)

    start = time.perf_counter()
    if plan is not None and isinstance(books, Recorder):
        total = plan.frames
        tell(Event("start", task, frames_total=total))
        counts: Counts = anonymize_long(task, config, detector, books, plan, overwrite=overwrite, on_frame=on_frame)
    else:
        counts = on_a_device(task, detector, whole)
    seconds = time.perf_counter() - start
    return done_report(task, config, counts, detector.class_names, seconds, _look_at(books, task))


def _look_at(books: Books | None, task: Task) -> Mapping[str, Any] | None:
    return books.verifications.get(task.destination) if isinstance(books, Recorder) else None


def done_report(
    task: Task,
    config: AnonymizeConfig,
    counts: Counts,
    class_names: Sequence[str],
    seconds: float,
    verification: Mapping[str, Any] | None = None,
) -> FileReport:
    """The report of a file that is published; counts: frames, detections per class, frames redacted whole by stage."""
    frames, objects, whole = counts
    return FileReport(
        source=task.source,
        destination=task.destination,
        status="done",
        kind=task.kind,
        frames=frames,
        objects={name: objects.get(name, 0) for name in class_names},
        seconds=seconds,
        frames_redacted_whole=whole,
        metadata_kept=metadata_in(task.destination, task.kind) if config.sink.metadata == "keep" else (),
        verification=verification,
    )


def anonymize_files(
    job: Plan,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    *,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    image_workers: int = 2,
    recorder: Recorder | None = None,
    keep_free_bytes: int = 0,
    cutting: Cutting | None = None,
) -> JobReport:
    """Anonymize all tasks of a plan; failures are reported, each with its file, and the others go on.

    Videos run one after another on a CPU, for each keeps it busy by itself, and several at a time on GPUs; images run
    `image_workers` at a time.
    Anything that is not a TrtAnonError (a bug, an interrupt) ends the job. recorder: keeps the journal by which a later
    run goes on from there. keep_free_bytes: files fail rather than fill the disk further. cutting: how long videos are
    cut into segments that a later run need not do again.
    """
    start = time.perf_counter()
    telling = threading.Lock()
    stopping = threading.Event()

    def tell(event: Event) -> None:
        if stopping.is_set() and event.kind == "frames":
            raise PipelineError("the job was ended")
        if on_event is not None:
            with telling:
                on_event(event)

    def one(task: Task) -> FileReport:
        began = time.perf_counter()
        try:
            guard = SpaceGuard(task.destination.parent, keep_free_bytes)
            guard.check()
            plan = cutting.plan(task, config, recorder) if cutting is not None else None
            with recorded(recorder, task, plan.describe() if plan is not None else None):
                report = anonymize_file(
                    task,
                    config,
                    detector,
                    overwrite=overwrite,
                    on_event=tell,
                    books=recorder,
                    guard=guard,
                    plan=plan,
                )
        except TrtAnonError as error:
            report = failure_report(task, error, time.perf_counter() - began)
        except MemoryError:
            report = failure_report(task, PipelineError("out of memory"), time.perf_counter() - began)
        tell(Event("end", task, report.frames, report=report))
        return report

    images = [task for task in job.tasks if task.kind == "image"]
    videos = [task for task in job.tasks if task.kind == "video"]
    reports = _side_by_side(images, one, image_workers, stopping)
    at_once = videos_at_once(detector)
    if min(at_once, len(videos)) > 1:
        reports |= _side_by_side(videos, one, at_once, stopping)
    else:
        reports |= {task: one(task) for task in videos}
    return job_report(job, reports, time.perf_counter() - start)


def _side_by_side(
    tasks: Sequence[Task], one: Callable[[Task], FileReport], workers: int, stopping: threading.Event
) -> dict[Task, FileReport]:
    """Carry out tasks, so many at a time. Whatever `one` raises ends them all."""
    reports: dict[Task, FileReport] = {}
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="trt-anon-file") as pool:
        running: dict[Future[FileReport], Task] = {}
        try:
            for task in tasks:
                running[pool.submit(one, task)] = task
                if len(running) >= 2 * workers:
                    _collect(running, reports)
            while running:
                _collect(running, reports)
        except BaseException:
            stopping.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return reports


def job_report(job: Plan, reports: Mapping[Task, FileReport], seconds: float) -> JobReport:
    """The report of a job whose tasks ended so."""
    files = [FileReport.failure(failed.source, failed.destination, failed.error) for failed in job.failures]
    files += [FileReport(source, None, "skipped") for source in job.skipped]
    files += [reports[task] for task in job.tasks]
    return JobReport(tuple(sorted(files, key=lambda file: str(file.source))), seconds)


def failure_report(task: Task, error: TrtAnonError, seconds: float) -> FileReport:
    """The report of a task that failed."""
    return FileReport.failure(task.source, task.destination, error, kind=task.kind, seconds=seconds)


def _collect(running: dict[Future[FileReport], Task], reports: dict[Task, FileReport]) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        reports[running.pop(future)] = future.result()
