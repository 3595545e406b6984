"""Room on the disk: enough before a job starts, and never used up while it runs."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from trt_anon.errors import OutputError
from trt_anon.job.inputs import Task

DEFAULT_KEEP_FREE_MIB = 256
"""How much of a disk a job leaves free, unless told otherwise."""

_CHECK_EVERY_SECONDS = 1.0


def free_bytes(folder: Path) -> int:
    """Bytes that can be written where `folder` is, or will be. Raises OSError."""
    place = Path(os.path.abspath(folder))  # noqa: PTH100 - resolving would fail where links form a circle
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def check_room(tasks: Sequence[Task], keep_free_bytes: int) -> None:
    """Raise OutputError where the outputs will not fit, taking each to be as large as its input.

    Outputs are often larger, so this finds hopeless jobs only; `SpaceGuard` watches while the work goes on.
    """
    needed: dict[int, int] = {}
    folders: dict[int, Path] = {}
    for task in tasks:
        try:
            folder = _existing(task.destination.parent)
            device = folder.stat().st_dev
            size = task.source.stat().st_size
        except OSError:  # the attempt to read or write it says more
            continue
        needed[device] = needed.get(device, 0) + size
        folders[device] = folder
    for device, size in needed.items():
        free = free_bytes(folders[device])
        if size + keep_free_bytes > free:
            raise OutputError(
                f"not enough room on the disk of {folders[device]}: the inputs have {_mib(size)} MiB, {_mib(free)} MiB "
                f"are free, and {_mib(keep_free_bytes)} MiB stay free; make room, or choose otherwise with --keep-free"
            )


class SpaceGuard:
    """Watches the disk of a folder; cheap to ask often."""

    def __init__(self, folder: Path, keep_free_bytes: int) -> None:
        self._folder = folder
        self._keep_free_bytes = keep_free_bytes
        self._next = 0.0

    def check(self) -> None:
        """Raise OutputError where too little is left, looking at most once a second."""
        now = time.monotonic()
        if self._keep_free_bytes <= 0 or now < self._next:
            return
        self._next = now + _CHECK_EVERY_SECONDS
        try:
            free = free_bytes(self._folder)
        except OSError:
            return
        if free < self._keep_free_bytes:
            raise OutputError(
                f"{os.strerror(errno.ENOSPC)}: less than {_mib(self._keep_free_bytes)} MiB are left where the output "
                "goes; make room and run the same command again, or choose otherwise with --keep-free"
            )


def _existing(folder: Path) -> Path:
    place = Path(os.path.abspath(folder))  # noqa: PTH100
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _mib(size: int) -> int:
    return -(-size // 2**20)
