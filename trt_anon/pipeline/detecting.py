"""What the loop asks for detections: loaded detectors, or a file of detections made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trt_anon.media import MediaInfo
from trt_anon.types import Detections, Frame


class Pending(Protocol):
    """Detections of a frame that may not be ready yet."""

    def result(self) -> Detections:
        """Wait for them; raises what went wrong."""
        ...

    def result_with_weak(self) -> tuple[Detections, Detections]:
        """Wait for them and for those that may only continue a track; raises what went wrong."""
        ...


@dataclass(frozen=True, slots=True)
class Ready:
    """Detections that wait for nobody; none of them is weak."""

    _found: Detections

    def result(self) -> Detections:
        """The frame's detections."""
        return self._found

    def result_with_weak(self) -> tuple[Detections, Detections]:
        """The frame's detections, none of them weak."""
        return self._found, Detections.empty(self._found.class_names)


class Detecting(Protocol):
    """Gives the detections of one file's frames; thread safe.

    complete: they are all that is to be redacted, and tracks add nothing to them.
    """

    complete: bool

    @property
    def thresholds(self) -> tuple[float, ...]:
        """For each class the score from which a detection counts by itself."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that its detections may have."""
        ...

    def prepare(self, info: MediaInfo) -> None:
        """Get ready for the frames of a video."""
        ...

    def submit(self, frame: Frame) -> Pending:
        """Start on a frame; its planes are no longer needed afterwards."""
        ...


class DetectsFiles(Protocol):
    """Gives detections for any file of a job."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that its detections may have."""
        ...

    def for_source(self, source: Path) -> Detecting:
        """What gives the detections of this file's frames. Raises InputError where it knows nothing about it."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...
