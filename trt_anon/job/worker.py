"""A worker process: takes pieces of a job one after another, and tells how each ended.

It speaks with its coordinator over a socket pair that no other process has. It dies with its coordinator, whatever ends
that, and leaves nothing that the next run would not remove.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from trt_anon import errors
from trt_anon.config import AnonymizeConfig
from trt_anon.errors import PipelineError, TrtAnonError
from trt_anon.job.device_detection import load_detection
from trt_anon.job.files import Event, anonymize_file
from trt_anon.job.given import GivenDetections
from trt_anon.job.inputs import Task
from trt_anon.job.journal import content_of
from trt_anon.job.long import anonymize_segment, join_segments
from trt_anon.job.parts import SegmentDone
from trt_anon.job.segments import SegmentPlan
from trt_anon.job.space import SpaceGuard
from trt_anon.job.verify import Verifier
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detecting import DetectsFiles

_TELL_EVERY_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker loads: the configuration, and its detectors or a file of detections.

    verify: whether a second look is taken at each output before it is published.
    """

    config: AnonymizeConfig
    registry: Registry | None = None
    recipes: tuple[Recipe, ...] = ()
    detections: Path | None = None
    verify: bool = False

    def verifier(self) -> Verifier | None:
        """What takes the second look, if one is asked for."""
        if not self.verify:
            return None
        return Verifier(self.config, self.registry or Registry(), tuple(recipe.name for recipe in self.recipes))

    def load(self) -> DetectsFiles:
        """What gives the detections. Raises what loading it raises."""
        if self.detections is not None:
            return GivenDetections(self.detections)
        return load_detection(self.config, self.registry or Registry(), self.recipes)


@dataclass(frozen=True, slots=True)
class Whole:
    """A piece of work: a whole file."""

    task: Task
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of work: a segment of a video, into the file `path`."""

    task: Task
    plan: SegmentPlan
    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class Join:
    """A piece of work: the segments of a video, joined and published."""

    task: Task
    plan: SegmentPlan
    paths: tuple[Path, ...]
    overwrite: bool
    counts: tuple[int, Mapping[str, int], Mapping[str, int]]


Piece = Whole | Part | Join


@dataclass(frozen=True, slots=True)
class Failed:
    """How a piece failed: the class of a TrtAnonError, and its message."""

    kind: str
    message: str

    def error(self) -> TrtAnonError:
        """The error again, as far as it can be told."""
        made: TrtAnonError = getattr(errors, self.kind, PipelineError)(self.message)
        return made


def main(handle: int, coordinator: int) -> None:
    """Entry point of the process: serve whoever has the other end of the socket `handle`, until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the coordinator says when to end
    signal.signal(signal.SIGTERM, _terminated)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != coordinator:  # it ended before that call
        return
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with contextlib.suppress(BrokenPipeError, ConnectionError), Connection(handle) as connection:
        try:
            setup, keep_free_bytes = connection.recv()
            verifier = setup.verifier()
            detector = setup.load()
        except EOFError:
            return
        except TrtAnonError as error:
            connection.send(("ended", Failed(type(error).__name__, str(error))))
            return
        try:
            connection.send(("ready", None))
            _serve(connection, setup.config, detector, verifier, keep_free_bytes)
        finally:
            detector.close()
            if verifier is not None:
                verifier.close()


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _serve(
    connection: Connection,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    verifier: Verifier | None,
    keep_free_bytes: int,
) -> None:
    while True:
        try:
            piece: Piece = connection.recv()
        except EOFError:
            return
        try:
            result: SegmentDone | Failed | None = _work(connection, config, detector, verifier, piece, keep_free_bytes)
        except TrtAnonError as error:
            result = Failed(type(error).__name__, str(error))
        except MemoryError:
            result = Failed(PipelineError.__name__, "out of memory")
        connection.send(("ended", result))


def _work(
    connection: Connection,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    verifier: Verifier | None,
    piece: Piece,
    keep_free_bytes: int,
) -> SegmentDone | None:
    guard = SpaceGuard(piece.task.destination.parent, keep_free_bytes)
    guard.check()
    told = time.monotonic()

    def on_frame(frames: int, frames_total: int | None = None) -> None:
        nonlocal told
        guard.check()
        if time.monotonic() - told >= _TELL_EVERY_SECONDS:
            told = time.monotonic()
            connection.send(("frames", (frames, frames_total)))

    if isinstance(piece, Part):
        return anonymize_segment(piece.task, config, detector, piece.plan, piece.number, piece.path, on_frame)
    books = _Books(connection, verifier)
    if isinstance(piece, Join):
        counts = piece.counts

        def on_ready(path: Path) -> None:
            books.ready(piece.task, path, *counts)

        join_segments(piece.task, config, piece.plan, piece.paths, overwrite=piece.overwrite, on_ready=on_ready)
        return None

    def on_event(event: Event) -> None:
        if event.kind == "frames":
            on_frame(event.frames, event.frames_total)

    anonymize_file(piece.task, config, detector, overwrite=piece.overwrite, on_event=on_event, books=books)
    return None  # its counts have gone to the books


class _Books:
    """The coordinator's journal, as far as a worker writes to it: that an output is about to get its name."""

    def __init__(self, connection: Connection, verifier: Verifier | None) -> None:
        self._connection = connection
        self._verifier = verifier

    def ready(
        self, task: Task, written: Path, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """Take a second look where that is asked for, tell the coordinator, and wait until it has written it down."""
        verification = None
        if self._verifier is not None:
            result = self._verifier.verify(written, task.source)
            result.check(task.destination)
            verification = result.to_dict()
        sha256 = content_of(written).sha256
        self._connection.send(("publishing", (sha256, frames, dict(objects), dict(whole), verification)))
        self._connection.recv()
