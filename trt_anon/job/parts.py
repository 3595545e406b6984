"""The files of a video's segments, until they are joined."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trt_anon.files import hash_of
from trt_anon.job.journal import key_of
from trt_anon.job.publish import PARTIAL_PREFIX, as_output_error
from trt_anon.job.segments import SegmentPlan


@dataclass(frozen=True, slots=True)
class SegmentDone:
    """A segment that is written: hash of its file, its frames, detections per class, frames redacted whole by stage."""

    sha256: str
    frames: int
    objects: Mapping[str, int]
    frames_redacted_whole: Mapping[str, int] = field(default_factory=dict)


class Parts:
    """The files of a video's segments: in a private folder beside its output, until they are joined."""

    def __init__(self, destination: Path, plan: SegmentPlan, identity: str) -> None:
        self.folder = folder_of(destination)
        self._stem = hashlib.sha256(f"{identity}\n{plan.describe()}".encode()).hexdigest()[:16]
        self._destination = destination

    def path(self, number: int) -> Path:
        """The file of a segment."""
        return self.folder / f"{self._stem}-{number:06}.part"

    def prepare(self) -> None:
        """Make the folder, and remove what lies in it from another input, configuration or cut. Raises OutputError."""
        with as_output_error(self._destination):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            for path in self.folder.iterdir():
                if not path.name.startswith(self._stem):
                    path.unlink()

    def intact(self, number: int, sha256: str) -> bool:
        """Whether a segment's file is what was written there."""
        try:
            return hash_of(self.path(number)) == sha256
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the folder with all in it; what cannot be removed stays."""
        remove_parts(self._destination)


def folder_of(destination: Path) -> Path:
    """The folder of the segments of an output."""
    return destination.parent / f"{PARTIAL_PREFIX}job-{key_of(destination)[:16]}"


def remove_parts(destination: Path) -> None:
    """Remove an output's segments, if there are any; what cannot be removed stays."""
    folder = folder_of(destination)
    if not folder.is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()  # succeeds only where nothing was published
