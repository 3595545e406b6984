"""Kernels that TensorRT-RTX compiled on this GPU, kept beside their engine, so that the next process need not again.

They are code, as the engine is: they lie in the same private folder, after a hash that ties them to that very engine,
and are left aside where it does not fit. The library looks itself whether they are of this GPU, driver and version.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from trt_anon.errors import ModelError, UsageError
from trt_anon.files import write_atomically
from trt_anon.runtime.engine_store import StoredEngine, check_nobody_else_writes, read_file

SUFFIX = ".kernels"

_MOST_BYTES = 1 << 30
_HASH_BYTES = 32
_log = logging.getLogger("trt_anon")


class KernelCache:
    """The kernels of one stored engine. Nothing here raises: without them, they are compiled again."""

    def __init__(self, stored: StoredEngine) -> None:
        self._path: Path = stored.path.with_suffix(SUFFIX)
        self._engine_sha256 = stored.manifest.engine_sha256

    def read(self) -> bytes | None:
        """What was kept, None where there is nothing, or nothing that may be used."""
        if not self._path.exists():
            return None
        try:
            check_nobody_else_writes(self._path)
            data = read_file(self._path, _MOST_BYTES)
        except (ModelError, UsageError) as error:
            _log.warning("%s; its kernels are compiled again", error)
            return None
        if data[:_HASH_BYTES] != self._hash(data[_HASH_BYTES:]):
            _log.warning("%s: is not of this engine, or damaged; its kernels are compiled again", self._path)
            return None
        return data[_HASH_BYTES:]

    def keep(self, kernels: bytes) -> None:
        """Keep these from now on."""
        try:
            write_atomically(self._path, self._hash(kernels) + kernels)
        except UsageError as error:
            _log.warning("%s; the kernels are compiled again next time", error)

    def _hash(self, kernels: bytes) -> bytes:
        return hashlib.sha256(self._engine_sha256.encode() + kernels).digest()
