"""What a job did: one line per file and the totals, with nothing personal in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from trt_anon.errors import MissingError, TrtAnonError, VerificationFailed
from trt_anon.job.impersonal import impersonal
from trt_anon.job.publish import as_output_error, atomic_output

Status = Literal["done", "failed", "skipped", "unchanged"]


def _sum(counts: Iterable[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return MappingProxyType(dict(total))


def _version() -> str:
    try:
        return metadata.version("trt-anon")
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"


VERSION = _version()
"""The version of this program."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one input file.

    objects: detections per class, summed over frames. frames_redacted_whole: by the stage that failed in them, with
    `on_error="redact-frame"`. seconds: wall time of this file. error: what went wrong, in words; error_type: the name
    of its class; exit_code: what the command line returns for it. metadata_kept: with `metadata="keep"`, what is in the
    output besides pictures and sounds. A file is `skipped` if it lay in an input folder and is no media, `unchanged` if
    an earlier run had done it: frames and objects are what that found. verification: what a second look found, as
    `Verification.to_dict` says it, None without.
    """

    source: Path
    destination: Path | None
    status: Status
    kind: Literal["image", "video"] | None = None
    frames: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    error_type: str | None = None
    exit_code: int = 0
    frames_redacted_whole: Mapping[str, int] = field(default_factory=dict)
    metadata_kept: tuple[str, ...] = ()
    verification: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("objects", "frames_redacted_whole"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if (self.status == "failed") != (self.error is not None):
            raise ValueError("a failed file has an error, another one has none")

    @classmethod
    def failure(
        cls,
        source: Path,
        destination: Path | None,
        error: TrtAnonError,
        *,
        kind: Literal["image", "video"] | None = None,
        seconds: float = 0.0,
    ) -> FileReport:
        """The report of a file that failed; its paths go out of the error's words (`job.impersonal`)."""
        return cls(
            source,
            destination,
            "failed",
            kind,
            seconds=seconds,
            error=str(impersonal(error, source, destination)),
            error_type=type(error).__name__,
            exit_code=error.exit_code,
        )

    @property
    def fps(self) -> float:
        """Frames per second of wall time, 0 if nothing was timed."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": str(self.source),
            "destination": None if self.destination is None else str(self.destination),
            "status": self.status,
            "kind": self.kind,
            "frames": self.frames,
            "objects": dict(self.objects),
            "frames_redacted_whole": dict(self.frames_redacted_whole),
            "metadata_kept": list(self.metadata_kept),
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 2),
            "error": self.error,
            "error_type": self.error_type,
            "verification": None if self.verification is None else dict(self.verification),
        }


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a whole job did. seconds: wall time of the job, less than the files' sum where they ran side by side."""

    files: tuple[FileReport, ...]
    seconds: float
    version: str = field(default_factory=_version)

    def _count(self, status: Status) -> int:
        return sum(1 for file in self.files if file.status == status)

    @property
    def done(self) -> int:
        """Files published."""
        return self._count("done")

    @property
    def failed(self) -> int:
        """Files that were to be anonymized and were not."""
        return self._count("failed")

    @property
    def skipped(self) -> int:
        """Files of input folders that are no media."""
        return self._count("skipped")

    @property
    def unchanged(self) -> int:
        """Files that an earlier run of the job had published, from the same input and configuration."""
        return self._count("unchanged")

    @property
    def frames(self) -> int:
        """Frames of all files published by this run."""
        return sum(file.frames for file in self.files if file.status == "done")

    @property
    def objects(self) -> Mapping[str, int]:
        """Detections per class over all files."""
        return _sum(file.objects for file in self.files if file.status == "done")

    @property
    def metadata_kept(self) -> Mapping[str, int]:
        """What is in the outputs besides pictures and sounds, and in how many of them; with `metadata="keep"`."""
        return _sum(dict.fromkeys(file.metadata_kept, 1) for file in self.files)

    @property
    def frames_redacted_whole(self) -> Mapping[str, int]:
        """Frames redacted whole over all files, by the stage that failed in them."""
        return _sum(file.frames_redacted_whole for file in self.files if file.status == "done")

    @property
    def fps(self) -> float:
        """Frames per second of the job's wall time, 0 if nothing was timed."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 3 if something needed is missing, 4 if a second look failed a file, else 1."""
        failures = [file for file in self.files if file.status == "failed"]
        if not failures:
            return 0
        telling = (MissingError.exit_code, VerificationFailed.exit_code)
        return next((code for code in telling if any(file.exit_code == code for file in failures)), 1)

    def with_files(self, more: Sequence[FileReport]) -> JobReport:
        """The report with further files in it."""
        return replace(self, files=tuple(sorted((*self.files, *more), key=lambda file: str(file.source))))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: figures and file names, no boxes."""
        return {
            "version": self.version,
            "totals": {
                "files": len(self.files),
                "done": self.done,
                "failed": self.failed,
                "skipped": self.skipped,
                "unchanged": self.unchanged,
                "frames": self.frames,
                "objects": dict(self.objects),
                "frames_redacted_whole": dict(self.frames_redacted_whole),
                "seconds": round(self.seconds, 3),
                "fps": round(self.fps, 2),
                "exit_code": self.exit_code,
            },
            "files": [file.to_dict() for file in self.files],
        }

    def to_json(self) -> str:
        """The report as JSON, ASCII alone: names that are no valid UTF-8 stay readable for programs."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write `to_json()` to a file that appears complete or not at all. Raises OutputError."""
        with as_output_error(path), atomic_output(path, overwrite=overwrite) as partial:
            partial.write_text(self.to_json(), encoding="ascii")
