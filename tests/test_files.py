from __future__ import annotations

import multiprocessing
import os
import stat
import threading
from pathlib import Path

import pytest

from trt_anon.errors import UsageError
from trt_anon.files import locked, private_folder, write_atomically


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot write .*file: No space left on device"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_private_folder_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o777)
    folder.chmod(0o777)
    assert private_folder(folder, "go away") == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(UsageError, match="belongs to another user; go away"):
        private_folder(folder, "go away")


def test_a_private_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot use the folder .*: Not a directory; set another"):
        private_folder(tmp_path / "file" / "folder", "set another")


def test_one_thread_has_a_lock_at_a_time(tmp_path: Path) -> None:
    inside, waited = [], []

    def work() -> None:
        with locked(tmp_path / "lock", lambda: waited.append(1)):
            inside.append(1)
            assert len(inside) == 1
            event.wait(0.05)
            inside.pop()

    event = threading.Event()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not inside
    assert len(waited) == 3


def _hold(path: Path, started: object, release: object) -> None:
    with locked(path):
        started.set()  # type: ignore[attr-defined]
        release.wait(30)  # type: ignore[attr-defined]


def test_one_process_has_a_lock_and_gives_it_up_when_it_ends(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "lock", started, release))
    process.start()
    assert started.wait(30)
    waited = []

    def kill() -> None:
        waited.append(1)
        process.kill()

    with locked(tmp_path / "lock", kill):
        assert waited
    process.join()


def test_a_lock_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot lock"), locked(tmp_path / "none" / "lock"):
        pass
