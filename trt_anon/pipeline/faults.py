"""What a fault in one frame leads to: the end of its file, or that frame redacted whole and counted."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from trt_anon.errors import InputError, PipelineError, TrtAnonError
from trt_anon.types import Frame

_log = logging.getLogger(__name__)

OnError = Literal["stop", "redact-frame"]


class FrameFaults:
    """Faults of one file, counted by stage; thread safe.

    With `stop` the first fault is raised, as it is. With `redact-frame` it is counted, and whoever reports it must
    redact that frame whole: a stage that failed has said nothing about what is in the picture. Interrupts and
    SystemExit are not faults; a failing sink is never reported here, for what cannot be written cannot be redacted.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error = on_error
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._first: Exception | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """Frames redacted whole so far, by the stage that failed."""
        with self._lock:
            return dict(self._counts)

    def note(self, stage: str, frame: Frame, error: Exception) -> None:
        """Count a fault of `stage` in `frame`, or raise it."""
        if self._on_error == "stop":
            raise error
        with self._lock:
            self._counts[stage] += 1
            first_of_stage = self._counts[stage] == 1
            self._first = self._first or error
        # The type alone: the words of a foreign library's error are not ours to vouch for.
        level = logging.WARNING if first_of_stage else logging.DEBUG
        _log.log(level, "%s failed in frame %d (%s): the frame is redacted whole", stage, frame.index, _kind(error))

    def note_concealed(self, frame: Frame) -> None:
        """Count a frame that the decoder could not give as the file means it, or raise InputError."""
        self.note("decode", frame, InputError(f"frame {frame.index} cannot be decoded cleanly"))

    def check(self, frames: int) -> None:
        """Raise PipelineError where not one of `frames` frames went through: that is no result to publish."""
        with self._lock:
            first, failed = self._first, sum(self._counts.values())
        if first is not None and failed >= frames:
            raise PipelineError(f"every frame failed; the first because of: {_cause(first)}") from first


def _kind(error: Exception) -> str:
    return type(error).__name__


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, TrtAnonError) else _kind(error)
