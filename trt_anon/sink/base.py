"""The protocol of sinks."""

from __future__ import annotations

from typing import Protocol

from trt_anon.types import Frame


class Sink(Protocol):
    """Writes frames to one file at a path that nobody reads yet; publication by rename is the job's part."""

    def write(self, frame: Frame) -> None:
        """Add a frame; frames come in presentation order. Raises OutputError."""
        ...

    def finish(self) -> None:
        """Flush encoders and close the file, complete. Raises OutputError."""
        ...

    def abort(self) -> None:
        """Release everything without completing the file; safe after finish and after a failure."""
        ...
