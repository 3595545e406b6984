"""Built engines, kept in the user's cache, each with its manifest.

An engine is code that runs on the GPU, and partly on the host. So they lie in a folder that only the user can enter,
and none is loaded but with the hash that its manifest states, and with the manifest that belongs to its name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from trt_anon.errors import HashMismatch, ModelError, ModelMissing, UsageError
from trt_anon.files import locked, private_folder, write_atomically
from trt_anon.runtime.engine_manifest import EngineKey, EngineManifest

_MAX_ENGINE_BYTES = 4 << 30
_MAX_MANIFEST_BYTES = 64 << 20
_log = logging.getLogger("trt_anon")

Built = tuple[bytes, EngineManifest]


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An engine's file, and what its manifest says."""

    path: Path
    manifest: EngineManifest

    @classmethod
    def at(cls, path: Path) -> StoredEngine:
        """The engine in a file, with the manifest beside it.

        Raises ModelMissing where one of them is not there, ModelError for a manifest that is none, UsageError where
        others than the user and root may change them.
        """
        manifest = path.with_suffix(".json")
        for file in (path, manifest):
            if not file.is_file():
                raise ModelMissing(f"{file}: is not there; an engine goes with its manifest: trt-anon build-engine")
            check_nobody_else_writes(file)
        return cls(path, EngineManifest.from_json(read_file(manifest, _MAX_MANIFEST_BYTES), str(manifest)))

    def read(self) -> bytes:
        """The engine's bytes. Raises HashMismatch unless they are those of its manifest."""
        check_nobody_else_writes(self.path)
        data = read_file(self.path, _MAX_ENGINE_BYTES)
        found = hashlib.sha256(data).hexdigest()
        if found != self.manifest.engine_sha256:
            raise HashMismatch(
                f"{self.path}: {len(data)} bytes with the SHA-256 {found}; its manifest states "
                f"{self.manifest.engine_bytes} bytes with {self.manifest.engine_sha256}; refused, as engines are code"
            )
        return data


class EngineStore:
    """The engines in one folder; several processes may use it at a time. folder: None is the user's cache."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or _default_folder()

    @property
    def folder(self) -> Path:
        """Where the engines lie; made, and closed to others, at the first use."""
        return private_folder(self._folder, "set TRT_ANON_CACHE to a folder of your own")

    def get_or_build(
        self, key: EngineKey, build: Callable[[], Built], say: Callable[[str], None] | None = None
    ) -> StoredEngine:
        """The engine of that key, built if it is not there; of several that want it at once one builds it.

        say: told why it is built again, or that another process builds it; by default the log is. Raises what `build`
        raises, and UsageError where the folder cannot be used.
        """
        tell = say or _log.warning
        path = self.folder / key.file_name
        with locked(
            path.with_suffix(".lock"), lambda: tell(f"{key.model}: another process builds this engine; waiting for it")
        ):
            found = self.get(key, tell)
            if found is not None:
                return found
            for reason in self.why_not(key):
                tell(f"{key.model}: {reason}")
            return self._put(path, build(), key)

    def get(self, key: EngineKey, say: Callable[[str], None] | None = None) -> StoredEngine | None:
        """The engine of that key, its hash checked, or one that serves for it; None if there is none."""
        tell = say or _log.warning
        exact = self._intact(self.folder / key.file_name, key, tell)
        if exact is not None:
            return exact
        for engine in self.engines():
            wider = engine.manifest.key
            if wider.serves(key) and wider.digest != key.digest:
                found = self._intact(engine.path, wider, tell)
                if found is not None:
                    return found
        return None

    def add(self, engine: StoredEngine) -> StoredEngine:
        """Take an engine over that was built elsewhere; whoever brings it vouches for it. Raises HashMismatch."""
        key = engine.manifest.key
        path = self.folder / key.file_name
        with locked(path.with_suffix(".lock")):
            return self._put(path, (engine.read(), engine.manifest), key)

    def why_not(self, key: EngineKey) -> tuple[str, ...]:
        """Why none of the engines of the same model, backend and precision will do: at most one line."""
        same = [
            e.manifest.key
            for e in self.engines()
            if (e.manifest.key.model, e.manifest.key.backend, e.manifest.key.precision)
            == (key.model, key.backend, key.precision)
            and e.manifest.key.digest != key.digest
        ]
        if not same:
            return ()
        closest = min((key.differences(other) for other in same), key=len)
        return (f"there is an engine in {key.precision}, but {'; '.join(closest)}: building another",)

    def engines(self) -> Iterator[StoredEngine]:
        """All engines whose manifest can be read, by name; their hashes are not looked at."""
        for path in sorted(self.folder.glob("*.engine")):
            try:
                yield StoredEngine.at(path)
            except (ModelError, ModelMissing, UsageError) as error:
                _log.warning("%s", error)

    def find(self, name: str) -> StoredEngine:
        """The engine whose file is named so, or whose name or hash begins so. Raises UsageError unless it is one."""
        everything = list(self.engines())
        exact = [e for e in everything if name in (e.path.name, e.path.stem)]
        found = exact or [
            e for e in everything if e.path.name.startswith(name) or e.manifest.key.digest.startswith(name)
        ]
        if len(found) != 1:
            known = ", ".join(e.path.name for e in found or everything) or "none; trt-anon build-engine makes one"
            raise UsageError(f"{'several engines match' if found else 'there is no engine'} {name!r}: {known}")
        return found[0]

    def remove(self, engines: Iterable[StoredEngine]) -> int:
        """Remove engines, their manifests, kernels and locks; the bytes that this frees."""
        freed = 0
        for engine in engines:
            with locked(engine.path.with_suffix(".lock")):
                for path in (engine.path, *(engine.path.with_suffix(end) for end in (".json", ".kernels", ".lock"))):
                    freed += path.stat().st_size if path.exists() else 0
                    path.unlink(missing_ok=True)
        return freed

    def remove_leftovers(self, older_than_seconds: float = 3600.0) -> int:
        """Remove what belongs to no engine, as builds leave it that were killed; the bytes that this frees.

        Younger files are left: a build may be writing them.
        """
        freed = 0
        for path in sorted(self.folder.iterdir()):
            engine = path.with_suffix(".engine")
            whole = engine.exists() and engine.with_suffix(".json").exists()
            partial = path.name.startswith(".") and path.suffix == ".partial"
            state = path.stat()
            old = time.time() - state.st_mtime > older_than_seconds
            if old and (partial or (path.suffix in (".engine", ".json", ".kernels", ".lock") and not whole)):
                freed += state.st_size
                path.unlink()
        return freed

    def _put(self, path: Path, built: Built, key: EngineKey) -> StoredEngine:
        data, manifest = built
        if hashlib.sha256(data).hexdigest() != manifest.engine_sha256 or manifest.key != key:
            raise ModelError(f"{key.model}: the manifest is not that of the engine that was built")
        # The manifest first: an engine without one is never looked at.
        write_atomically(path.with_suffix(".json"), manifest.to_json().encode())
        write_atomically(path, data)
        return StoredEngine(path, manifest)

    def _intact(self, path: Path, key: EngineKey, tell: Callable[[str], None]) -> StoredEngine | None:
        if not path.exists():
            return None
        try:
            found = StoredEngine.at(path)
            if found.manifest.key.digest != key.digest:
                raise HashMismatch(f"{path}: its manifest is that of another engine")
            found.read()
        except (ModelError, ModelMissing) as error:
            tell(f"{error}; it is built again")
            return None
        return found


def _default_folder() -> Path:
    root = os.environ.get("TRT_ANON_CACHE")
    return (Path(root).expanduser() if root else platformdirs.user_cache_path("trt-anon")) / "engines"


def read_file(path: Path, most: int) -> bytes:
    """A file's bytes. Raises ModelError where it cannot be read, or has more than `most`."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise ModelError(f"{path}: more than {most} bytes are refused")
    return data


def check_nobody_else_writes(path: Path) -> None:
    """Raise UsageError where another user than this one and root could have put the file there."""
    for place in (path, path.parent):
        state = place.stat()
        sticky_folder = stat.S_ISDIR(state.st_mode) and state.st_mode & stat.S_ISVTX
        if state.st_uid not in (os.geteuid(), 0) or (
            state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky_folder
        ):
            raise UsageError(f"{place} can be written by others, and an engine is code: chmod go-w it, or build again")
