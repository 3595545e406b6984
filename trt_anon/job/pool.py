"""A job on several processes: whole files and segments side by side, and books that one process keeps."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from trt_anon.errors import PipelineError, TrtAnonError
from trt_anon.job.cutting import Cutting
from trt_anon.job.files import Event, OnEvent, done_report, failure_report, job_report
from trt_anon.job.inputs import Plan, Task
from trt_anon.job.long import total
from trt_anon.job.parts import Parts, SegmentDone
from trt_anon.job.report import FileReport, JobReport
from trt_anon.job.resume import Recorder
from trt_anon.job.segments import SegmentPlan
from trt_anon.job.worker import Failed, Join, Part, Piece, Setup, Whole
from trt_anon.machine import usable_cores

MAX_DEATHS = 2
"""How often a worker may die on the same piece of work before that fails."""

_END_SECONDS = 10.0
_COMMAND = "import sys; from trt_anon.job.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"


@dataclass
class _File:
    """A task under way. done: its segments that are; frames: by segment under way (or None), how many are done."""

    task: Task
    plan: SegmentPlan | None
    began: float
    parts: Parts | None = None
    done: dict[int, SegmentDone] = field(default_factory=dict)
    frames: dict[int | None, int] = field(default_factory=dict)
    counts: tuple[int, dict[str, int], dict[str, int]] = (0, {}, {})
    started: bool = False
    ended: bool = False


class _Worker:
    """One worker process and what it works on."""

    def __init__(self, setup: Setup, keep_free_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            command = [sys.executable, "-c", _COMMAND, str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self.connection = Connection(ours.detach())
        self.piece: Piece | None = None
        self.ready = False
        with contextlib.suppress(OSError):  # it died at once: that is seen when it is listened to
            self.connection.send((setup, keep_free_bytes))

    def give(self, piece: Piece) -> None:
        """Let it work on a piece."""
        self.piece = piece
        with contextlib.suppress(OSError):
            self.connection.send(piece)

    def stop(self) -> None:
        """Let it end: it cleans up what it has begun."""
        self._process.terminate()

    def end(self) -> int:
        """Wait for its end, and enforce it if it takes long; gives its exit status."""
        self.connection.close()
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def anonymize_side_by_side(
    job: Plan,
    setup: Setup,
    class_names: Sequence[str],
    *,
    workers: int,
    recorder: Recorder,
    overwrite: bool = False,
    on_event: OnEvent | None = None,
    keep_free_bytes: int = 0,
    cutting: Cutting,
) -> JobReport:
    """Anonymize all tasks of a plan with several processes, as `anonymize_files` does with one.

    A worker that dies (killed, out of memory, a crash in native code) is replaced and its piece tried again; if it dies
    on the same piece twice, that file fails and the others go on. Raises MissingError or ModelError where a worker
    cannot load its detectors.
    """
    start = time.perf_counter()
    config = setup.config
    if config.runtime.threads is None:  # they share the machine
        threads = max(1, usable_cores() // workers)
        runtime = config.runtime.model_copy(update={"threads": threads})
        setup = replace(setup, config=config.model_copy(update={"runtime": runtime}))
    with _Pool(
        job, setup, config.detect.classes, workers, recorder, overwrite, on_event, keep_free_bytes, cutting
    ) as pool:
        reports = pool.run()
    return job_report(job, reports, time.perf_counter() - start)


class _Pool:
    def __init__(
        self,
        job: Plan,
        setup: Setup,
        class_names: Sequence[str],
        workers: int,
        recorder: Recorder,
        overwrite: bool,
        on_event: OnEvent | None,
        keep_free_bytes: int,
        cutting: Cutting,
    ) -> None:
        self._setup, self._recorder = setup, recorder
        self._class_names = class_names
        self._overwrite, self._keep_free_bytes, self._cutting = overwrite, keep_free_bytes, cutting
        self._tell = on_event or (lambda _event: None)
        self._files: dict[Task, _File] = {}
        self._reports: dict[Task, FileReport] = {}
        self._next = self._pieces(job)
        self._first: deque[Piece] = deque()  # before those of `_next`: joins, and pieces whose worker died
        self._deaths: dict[tuple[Task, int | None], int] = {}
        self._workers: list[_Worker] = []
        self._wanted = workers

    def __enter__(self) -> _Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.end()

    def run(self) -> dict[Task, FileReport]:
        """Work until every task has a report."""
        left = True
        while True:
            while left and len(self._workers) < self._wanted:
                self._workers.append(_Worker(self._setup, self._keep_free_bytes))
            for worker in self._workers:
                if worker.ready and worker.piece is None:
                    piece = self._take()
                    left = piece is not None
                    if piece is None:
                        break
                    worker.give(piece)
            if not left and not any(worker.piece for worker in self._workers):
                return self._reports
            listened = [worker for worker in self._workers if worker.piece is not None or not worker.ready]
            for connection in wait([worker.connection for worker in listened]):
                worker = next(w for w in listened if w.connection is connection)
                self._listen(worker)
            left = True

    def _pieces(self, job: Plan) -> Iterator[Piece]:
        for task in job.tasks:
            began = time.perf_counter()
            file = self._files[task] = _File(task, None, began)
            try:
                file.plan = self._cutting.plan(task, self._setup.config, self._recorder)
                self._recorder.begin(task, file.plan.describe() if file.plan is not None else None)
                if file.plan is not None:
                    file.parts = Parts(task.destination, file.plan, self._recorder.identity)
                    file.parts.prepare()
                    file.done = self._recorder.segments(task, file.parts)
            except TrtAnonError as error:
                self._fail(file, error)
                continue
            if file.plan is None or file.parts is None:
                yield Whole(task, self._overwrite)
                continue
            if len(file.done) == len(file.plan.segments):
                yield self._join(file)
            for segment in file.plan.segments:
                if segment.number not in file.done:
                    yield Part(task, file.plan, segment.number, file.parts.path(segment.number))

    def _take(self) -> Piece | None:
        """The next piece of a file that has not failed meanwhile."""
        while True:
            piece = self._first.popleft() if self._first else next(self._next, None)
            if piece is None or not self._files[piece.task].ended:
                return piece

    def _listen(self, worker: _Worker) -> None:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            self._bury(worker)
            return
        if kind == "ready":
            worker.ready = True
        elif worker.piece is None:  # it could not load its detectors
            raise value.error()
        elif kind == "ended":
            piece, worker.piece = worker.piece, None
            self._ended(piece, value)
        elif kind == "frames":
            self._progress(worker.piece, *value)
        else:
            file = self._files[worker.piece.task]
            sha256, *counts, verification = value
            file.counts = (counts[0], counts[1], counts[2])
            if verification is not None:
                self._recorder.verified(file.task, verification)
            self._recorder.publishing(file.task, sha256, *file.counts)
            worker.connection.send("written")

    def _ended(self, piece: Piece, value: Any) -> None:
        file = self._files[piece.task]
        if file.ended:
            return
        if isinstance(value, Failed):
            self._fail(file, value.error())
        elif isinstance(piece, Part):
            file.done[piece.number] = value
            file.frames.pop(piece.number, None)
            self._recorder.segment_done(piece.task, piece.number, value)
            if len(file.done) == len(piece.plan.segments):
                self._first.append(self._join(file))
        else:
            self._recorder.ended(piece.task)
            if file.parts is not None:
                file.parts.remove()
            seconds = time.perf_counter() - file.began
            self._report(
                file,
                done_report(
                    piece.task,
                    self._setup.config,
                    file.counts,
                    self._class_names,
                    seconds,
                    self._recorder.verifications.get(piece.task.destination),
                ),
            )

    def _join(self, file: _File) -> Join:
        assert file.plan is not None
        assert file.parts is not None
        paths = tuple(file.parts.path(segment.number) for segment in file.plan.segments)
        return Join(file.task, file.plan, paths, self._overwrite, total(list(file.done.values())))

    def _progress(self, piece: Piece, frames: int, frames_total: int | None) -> None:
        file = self._files[piece.task]
        if file.plan is not None:
            frames_total = file.plan.frames
        if not file.started:
            file.started = True
            self._tell(Event("start", file.task, frames_total=frames_total))
        file.frames[piece.number if isinstance(piece, Part) else None] = frames
        done = sum(segment.frames for segment in file.done.values()) + sum(file.frames.values())
        self._tell(Event("frames", file.task, done, frames_total))

    def _bury(self, worker: _Worker) -> None:
        """A worker died: its piece is tried again, or fails if that is not the first time."""
        self._workers.remove(worker)
        worker.stop()
        status = worker.end()
        how = f"signal {-status}" if status < 0 else f"status {status}"
        piece = worker.piece
        if piece is None:
            raise PipelineError(f"a worker process ended before it began to work ({how})")
        key = (piece.task, piece.number if isinstance(piece, Part) else None)
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if self._deaths[key] < MAX_DEATHS:
            self._first.append(piece)
        elif not self._files[piece.task].ended:
            self._fail(
                self._files[piece.task],
                PipelineError(f"{piece.task.source}: the process that works on it dies ({how}), {MAX_DEATHS} times"),
            )

    def _fail(self, file: _File, error: TrtAnonError) -> None:
        self._recorder.ended(file.task, error)
        self._report(file, failure_report(file.task, error, time.perf_counter() - file.began))

    def _report(self, file: _File, report: FileReport) -> None:
        file.ended = True
        self._reports[file.task] = report
        self._tell(Event("end", file.task, report.frames, report=report))
