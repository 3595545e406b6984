"""Jobs that go on where they ended: what is done is skipped, what failed is told, what is left is worked on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from trt_anon.config import AnonymizeConfig
from trt_anon.errors import (
    InputError,
    MediaError,
    MissingError,
    OutputError,
    PipelineError,
    TrtAnonError,
    UsageError,
    VerificationFailed,
)
from trt_anon.job.inputs import Failure, Plan, Task
from trt_anon.job.journal import Entry, Journal, content_of, key_of, place_of, stamp_of
from trt_anon.job.parts import Parts, SegmentDone, remove_parts
from trt_anon.job.publish import remove_stale
from trt_anon.job.report import FileReport
from trt_anon.job.segments import DEFAULT_SEGMENT_SECONDS, threads_of
from trt_anon.job.space import DEFAULT_KEEP_FREE_MIB
from trt_anon.job.verify import Verifier
from trt_anon.models.recipe import Recipe

_log = logging.getLogger("trt_anon")

_OF_THE_MACHINE = frozenset(
    kind.__name__ for base in (OutputError, MissingError) for kind in (base, *base.__subclasses__())
) | {PipelineError.__name__}
"""Errors that another attempt may not meet again."""


def identity_of(
    config: AnonymizeConfig, recipes: Sequence[Recipe], version: str, *, detections: str | None = None
) -> str:
    """SHA-256 of everything beside its input that shapes an output; how many threads or frames wait does not.

    detections: the hash of the file that stands in the place of a detector.
    """
    values: dict[str, Any] = config.model_dump(mode="json")
    values["runtime"].pop("threads")
    for name in ("queue_frames", "batch", "gpu_memory_mib", "videos_at_once"):
        values["pipeline"].pop(name)
    values["runtime"].pop("devices")
    values["recipes"] = [recipe.model_dump(mode="json") for recipe in recipes]  # with the hashes of their models
    values["version"] = version
    values["detections"] = detections
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Resume:
    """How a job is made one that goes on.

    journal: the file of its books, None is one of the user's state folder that belongs to the output. retry: try again
    what failed on its own account. keep_free_mib: how much of the disk stays free, 0 looks at no disk. segment_seconds:
    videos of twice that length or more are cut at key frames into segments of at least that length, 0 cuts none.
    workers: processes that work side by side, each with its own copy of the detectors.
    """

    journal: Path | None = None
    retry: bool = False
    keep_free_mib: int = DEFAULT_KEEP_FREE_MIB
    segment_seconds: float = DEFAULT_SEGMENT_SECONDS
    workers: int = 1

    def of(self, output: Path) -> Resume:
        """The same with the journal that belongs to `output`, where none was named."""
        return self if self.journal is not None else replace(self, journal=place_of(output))

    @property
    def path(self) -> Path:
        """The journal's file. Raises UsageError where it is not known."""
        if self.journal is None:
            raise UsageError("name the journal's file, or the output that it belongs to: Resume().of(output)")
        return self.journal

    @property
    def keep_free_bytes(self) -> int:
        """`keep_free_mib` in bytes."""
        return self.keep_free_mib * 2**20


@dataclass(frozen=True, slots=True)
class Settled:
    """A plan without what is done, or failed, already; `ended`: the tasks that are not in it, and how they ended."""

    plan: Plan
    ended: tuple[tuple[Task, FileReport], ...]

    @property
    def unchanged(self) -> tuple[FileReport, ...]:
        """Reports of what is done already."""
        return tuple(report for _, report in self.ended if report.status == "unchanged")


class Books(Protocol):
    """Where it is written down that an output is about to be published."""

    def ready(
        self, task: Task, written: Path, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """The output is complete under another name: whoever finds it under its own knows whose it is."""
        ...


class Recorder:
    """Keeps a journal for a run: what is asked of it before the work, and what it is told while that goes on."""

    def __init__(self, journal: Journal | None, identity: str, verifier: Verifier | None = None) -> None:
        """journal: None keeps no books. verifier: looks at each output before it is published."""
        self._journal = journal
        self._giving_up = threading.Lock()
        self._verifier = verifier
        self.identity = identity
        self.verifications: dict[Path, Mapping[str, Any]] = {}

    def settle(self, job: Plan, *, overwrite: bool, retry: bool) -> Settled:
        """Look up each task; `job` was planned as if every output might be replaced.

        An output that is as it was left, from the same input and configuration, is unchanged. A file that failed on its
        own account fails again at once, unless `retry`. An output that exists otherwise fails without `overwrite`.
        Files during which the whole process ended come last, so that one that always ends it keeps nobody waiting.
        """
        todo: list[tuple[int, Task]] = []
        failures: list[Failure] = []
        ended: list[tuple[Task, FileReport]] = []
        for task in job.tasks:
            entry = self._same(task)
            report = self._done(task, entry)
            if report is not None and (self._verifier is None or report.verification is not None):
                ended.append((task, report))
                continue
            if report is not None:
                late = self._verified_late(task, report)
                if isinstance(late, FileReport):
                    ended.append((task, late))
                    continue
                error: TrtAnonError | None = late
            else:
                error = _remembered(task, entry, retry) or _in_the_way(task, overwrite)
            if error is None:
                todo.append((entry.attempts if entry is not None else 0, task))
            else:
                failures.append(Failure(task.source, task.destination, error))
                ended.append((task, FileReport.failure(task.source, task.destination, error, kind=task.kind)))
        todo.sort(key=lambda item: item[0])
        ordered = tuple(task for _, task in todo)
        return Settled(Plan(ordered, (*job.failures, *failures), job.skipped), tuple(ended))

    def begin(self, task: Task, plan: str | None = None) -> None:
        """Work on a task starts. Raises InputError where its source cannot be read."""
        journal = self._journal
        if journal is None:
            return
        key = key_of(task.destination)
        try:
            known = journal.entry(key)
            source = content_of(task.source, known.input if known else None)
            journal.begin(key, source, self.identity, plan)
        except OSError as error:
            raise InputError(f"cannot read {task.source}: {error.strerror}") from error
        except UsageError as error:
            self._give_up(error)

    def segments(self, task: Task, parts: Parts) -> dict[int, SegmentDone]:
        """The segments of a task that are done, their files whole."""
        if self._journal is None:
            return {}
        known = {
            number: SegmentDone(*done) for number, done in self._journal.segments(key_of(task.destination)).items()
        }
        return {number: done for number, done in known.items() if parts.intact(number, done.sha256)}

    def segment_done(self, task: Task, number: int, done: SegmentDone) -> None:
        """A segment is written."""
        if self._journal is None:
            return
        try:
            self._journal.segment_done(
                key_of(task.destination), number, done.sha256, done.frames, done.objects, done.frames_redacted_whole
            )
        except UsageError as error:
            self._give_up(error)

    def encoder_threads(self, task: Task) -> int | None:
        """With how many threads the segments of a task that are done were encoded; None if there are none."""
        entry = self._same(task)
        return None if entry is None else threads_of(entry.plan)

    def ready(
        self, task: Task, written: Path, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """The output is complete under another name.

        Raises OutputError where it cannot be read back, VerificationFailed where a second look fails it.
        """
        if self._verifier is not None:
            result = self._verifier.verify(written, task.source)
            self.verified(task, result.to_dict())
            result.check(task.destination)
        try:
            sha256 = content_of(written).sha256
        except OSError as error:
            raise OutputError(f"cannot read back the output for {task.destination}: {error.strerror}") from error
        self.publishing(task, sha256, frames, objects, whole)

    def verified(self, task: Task, verification: Mapping[str, Any]) -> None:
        """What a second look at a task's output found."""
        self.verifications[task.destination] = verification
        if self._journal is None:
            return
        try:
            self._journal.verified(key_of(task.destination), verification)
        except UsageError as error:
            self._give_up(error)

    def publishing(
        self, task: Task, sha256: str, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """An output of that hash is about to get its name."""
        if self._journal is None:
            return
        try:
            self._journal.publishing(key_of(task.destination), sha256, frames, objects, whole)
        except UsageError as error:
            self._give_up(error)

    def ended(self, task: Task, error: TrtAnonError | None = None) -> None:
        """The output was published, or the task failed."""
        journal, key = self._journal, key_of(task.destination)
        if journal is None:
            return
        try:
            if error is None:
                journal.done(key, stamp_of(task.destination))
            elif journal.entry(key) is not None:
                journal.failed(key, type(error).__name__)
                if type(error).__name__ not in _OF_THE_MACHINE:
                    remove_parts(task.destination)
        except OSError:  # the output was moved away at once
            return
        except UsageError as failure:
            self._give_up(failure)

    @property
    def journal(self) -> Journal | None:
        """The journal, None once it could not be written."""
        return self._journal

    def _give_up(self, error: UsageError) -> None:
        # The outputs matter more than the books: the job goes on, and cannot be resumed from here.
        with self._giving_up:  # two pictures side by side may both have met the full disk
            given_up, self._journal = self._journal is None, None
        if not given_up:
            _log.warning("this job cannot be resumed: %s", error)

    def _same(self, task: Task) -> Entry | None:
        """What is known of a task, if it is about this input and this configuration."""
        entry = None if self._journal is None else self._journal.entry(key_of(task.destination))
        if entry is None or entry.identity != self.identity:
            return None
        try:
            found = content_of(task.source, entry.input)
        except OSError:
            return None
        return entry if found.sha256 == entry.input.sha256 else None

    def _verified_late(self, task: Task, report: FileReport) -> FileReport | TrtAnonError:
        """A second look at what an earlier run published without one."""
        assert self._verifier is not None
        try:
            result = self._verifier.verify(task.destination, task.source)
            self.verified(task, result.to_dict())
            result.check(task.destination)
        except TrtAnonError as error:
            return error
        return replace(report, verification=result.to_dict())

    def _done(self, task: Task, entry: Entry | None) -> FileReport | None:
        if entry is None or entry.output is None or entry.state not in ("done", "publishing"):
            return None
        try:
            if (
                task.destination.is_symlink()
                or content_of(task.destination, entry.output).sha256 != entry.output.sha256
            ):
                return None
            if entry.state == "publishing" and self._journal is not None:  # ended between its name and the journal
                remove_stale(task.destination)  # its other name, if that is left
                remove_parts(task.destination)
                self._journal.done(key_of(task.destination), stamp_of(task.destination))
        except OSError:
            return None
        return FileReport(
            task.source,
            task.destination,
            "unchanged",
            task.kind,
            frames=entry.frames,
            objects=entry.objects,
            frames_redacted_whole=entry.frames_redacted_whole,
            verification=entry.verification,
        )


@contextlib.contextmanager
def recorded(recorder: Recorder | None, task: Task, plan: str | None = None) -> Iterator[None]:
    """The books of one task: begun, and ended with the block. An interrupt leaves it begun: it is tried again."""
    if recorder is None:
        yield
        return
    recorder.begin(task, plan)
    try:
        yield
    except TrtAnonError as error:
        recorder.ended(task, error)
        raise
    except MemoryError:
        recorder.ended(task, PipelineError("out of memory"))
        raise
    recorder.ended(task)


def _remembered(task: Task, entry: Entry | None, retry: bool) -> TrtAnonError | None:
    """Why a task is not tried again."""
    if entry is None or retry:
        return None
    if entry.state == "failed" and entry.error not in _OF_THE_MACHINE:
        kind = VerificationFailed if entry.error == VerificationFailed.__name__ else InputError
        return kind(f"{task.source} failed before ({entry.error}); --retry tries it again")
    return None


def _in_the_way(task: Task, overwrite: bool) -> MediaError | None:
    exists = task.destination.is_symlink() or task.destination.exists()
    if overwrite or not exists:
        return None
    return OutputError(
        f"{task.destination} exists already and is not what this command would make of this input; pass --overwrite "
        "(overwrite=True) to replace it"
    )
