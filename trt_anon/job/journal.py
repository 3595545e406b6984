"""The journal of a job: which of its files and segments are done, in an SQLite file that outlives any crash.

It holds hashes and counts and no names, no paths, no boxes: a file is known by the digest of the place of its output.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs

from trt_anon.errors import UsageError
from trt_anon.files import hash_of, private_folder

State = Literal["running", "publishing", "done", "failed"]

_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, attempts INTEGER NOT NULL, input TEXT NOT NULL,
    input_stamp TEXT NOT NULL, identity TEXT NOT NULL, output TEXT, output_stamp TEXT,
    frames INTEGER NOT NULL DEFAULT 0, counts TEXT NOT NULL DEFAULT '{}', error TEXT, plan TEXT, verification TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    key TEXT NOT NULL, number INTEGER NOT NULL, sha256 TEXT NOT NULL, frames INTEGER NOT NULL, counts TEXT NOT NULL,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: its SHA-256, and the stamp by which it is seen that nobody touched it since."""

    sha256: str
    stamp: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the job as the journal knows it.

    identity: hash of what shaped the output beside the input (configuration, models). attempts: how often work on it
    began since it last ended. output: None until the output was about to be published. error: class name, where it
    failed. plan: how a video was cut, as JSON, None if it was not. verification: what a second look found.
    """

    state: State
    attempts: int
    input: Content
    identity: str
    output: Content | None = None
    frames: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    frames_redacted_whole: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    plan: str | None = None
    verification: Mapping[str, Any] | None = None


def place_of(output: Path) -> Path:
    """Where the journal of jobs that write to `output` lies: TRT_ANON_STATE, else the user's state folder.

    Not beside the output: that folder is made to be passed on, and hashes of what was redacted do not belong there.
    """
    root = os.environ.get("TRT_ANON_STATE")
    folder = (Path(root).expanduser() if root else platformdirs.user_state_path("trt-anon")) / "jobs"
    return folder / f"{key_of(output)[:32]}.sqlite"


def key_of(destination: Path) -> str:
    """What a destination is known by: a digest of its absolute path, links resolved but for its own name."""
    place = os.path.join(os.path.realpath(destination.parent), destination.name)  # noqa: PTH118 - no Path for digests
    return hashlib.sha256(os.fsencode(place)).hexdigest()


def stamp_of(path: Path) -> str:
    """Size, times and place of a file; with the time of its last change, which no program can set back."""
    state = path.stat()
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}:{state.st_dev}"


def content_of(path: Path, known: Content | None = None) -> Content:
    """A file's content; read only where its stamp is not the known one. Raises OSError."""
    stamp = stamp_of(path)
    if known is not None and known.stamp == stamp:
        return known
    return Content(hash_of(path), stamp)


class Journal:
    """One job's books. Each change is on the disk when its method returns; threads may share it.

    Raises UsageError where the file cannot be used, or another run holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        private_folder(path.parent, "set TRT_ANON_STATE to a folder of your own, or name a file with --journal")
        self._held = self._hold()
        self._connection: sqlite3.Connection | None = None
        try:
            with self._errors():
                self._connection = self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def entry(self, key: str) -> Entry | None:
        """What is known of a file."""
        row = self._execute(
            "SELECT state, attempts, input, input_stamp, identity, output, output_stamp, frames, counts, error, plan, "
            "verification FROM files WHERE key = ?",
            key,
        ).fetchone()
        if row is None:
            return None
        output = None if row[5] is None else Content(row[5], row[6] or "")
        return Entry(
            row[0],
            row[1],
            Content(row[2], row[3]),
            row[4],
            output,
            row[7],
            *_counts(row[8]),
            row[9],
            row[10],
            _loaded(row[11]),
        )

    def begin(self, key: str, source: Content, identity: str, plan: str | None = None) -> None:
        """Work on a file starts; segments that were done for another input, configuration or cut are forgotten."""
        known = self.entry(key)
        same = known is not None and (known.input.sha256, known.identity, known.plan) == (source.sha256, identity, plan)
        attempts = known.attempts + 1 if known is not None and same and known.state in ("running", "publishing") else 1
        if not same:
            self._execute("DELETE FROM segments WHERE key = ?", key)
        self._execute(
            "INSERT OR REPLACE INTO files (key, state, attempts, input, input_stamp, identity, plan) "
            "VALUES (?, 'running', ?, ?, ?, ?, ?)",
            *(key, attempts, source.sha256, source.stamp, identity, plan),
        )

    def publishing(
        self, key: str, output_sha256: str, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """The output is complete and about to get its name: if that is the last that happens, it is known again."""
        self._execute(
            "UPDATE files SET state = 'publishing', output = ?, output_stamp = '', frames = ?, counts = ? "
            "WHERE key = ?",
            *(output_sha256, frames, _as_json(objects, whole), key),
        )

    def verified(self, key: str, verification: Mapping[str, Any]) -> None:
        """What a second look at the output found."""
        self._execute("UPDATE files SET verification = ? WHERE key = ?", json.dumps(dict(verification)), key)

    def done(self, key: str, output_stamp: str) -> None:
        """The output has its name; the file's segments are needed no more."""
        self._execute(
            "UPDATE files SET state = 'done', attempts = 0, output_stamp = ? WHERE key = ?", output_stamp, key
        )
        self._execute("DELETE FROM segments WHERE key = ?", key)

    def failed(self, key: str, error: str) -> None:
        """The file failed; `error` is the name of a class, for messages name files."""
        self._execute("UPDATE files SET state = 'failed', attempts = 0, error = ? WHERE key = ?", error, key)

    def segment_done(
        self, key: str, number: int, sha256: str, frames: int, objects: Mapping[str, int], whole: Mapping[str, int]
    ) -> None:
        """A segment of a video is written whole: that is progress, whatever ends the process later."""
        self._execute(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?)",
            *(key, number, sha256, frames, _as_json(objects, whole)),
        )
        self._execute("UPDATE files SET attempts = 1 WHERE key = ?", key)

    def segments(self, key: str) -> dict[int, tuple[str, int, dict[str, int], dict[str, int]]]:
        """Segments that are done: number to (hash, frames, objects, frames redacted whole)."""
        rows = self._execute("SELECT number, sha256, frames, counts FROM segments WHERE key = ?", key).fetchall()
        return {number: (sha256, frames, *_counts(counts)) for number, sha256, frames, counts in rows}

    def close(self) -> None:
        """Close the file and let others have it; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def _hold(self) -> int | None:
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise UsageError(f"cannot use the journal {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            raise UsageError("another run is at work on this output; wait for it, or pass --no-resume") from None
        return held

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise UsageError(f"{self._path} is the journal of another version of this program; delete it")
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        with self._lock, self._errors():
            if self._connection is None:
                raise UsageError(f"the journal {self._path} is closed")
            return self._connection.execute(statement, values)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise UsageError(
                f"cannot use the journal {self._path}: {error}; delete it to start over (outputs stay), "
                "or pass --no-resume"
            ) from error


def _as_json(objects: Mapping[str, int], whole: Mapping[str, int]) -> str:
    return json.dumps({"objects": dict(objects), "frames_redacted_whole": dict(whole)})


def _counts(text: str) -> tuple[dict[str, int], dict[str, int]]:
    counts = json.loads(text)
    return counts.get("objects", {}), counts.get("frames_redacted_whole", {})


def _loaded(text: str | None) -> dict[str, Any] | None:
    return None if text is None else dict(json.loads(text))
