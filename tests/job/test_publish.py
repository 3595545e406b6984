"""Atomic output: complete or not at all, whoever else writes there, whatever ends the work."""

# ruff: noqa: PT012 - what happens inside the block is what is tested

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from trt_anon.errors import OutputError
from trt_anon.job import publish
from trt_anon.job.publish import PARTIAL_PREFIX, atomic_output


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(publish.__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def test_the_file_appears_at_the_end_of_the_block(tmp_path: Path) -> None:
    dst = tmp_path / "deep" / "er" / "a.mp4"
    with atomic_output(dst, overwrite=False) as path:
        assert path.parent == dst.parent
        assert path.name.startswith(PARTIAL_PREFIX)
        assert path.suffix == ".mp4"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.write_bytes(b"content")
        assert not dst.exists()
    assert dst.read_bytes() == b"content"
    assert files(tmp_path) == ["deep", "deep/er", "deep/er/a.mp4"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_decides_the_mode(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with atomic_output(tmp_path / "a", overwrite=False) as path:
            path.write_bytes(b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_output(tmp_path / "made" / "here" / "a.png", overwrite=False) as path:
        path.write_bytes(b"half a face")
        raise error
    assert files(tmp_path) == []


def test_folders_that_others_use_by_now_are_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), atomic_output(tmp_path / "x" / "y" / "a", overwrite=False):
        (tmp_path / "x" / "other").touch()
        raise ValueError("stop")
    assert files(tmp_path) == ["x", "x/other"]


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    dst = tmp_path / "a"
    dst.write_text("old")
    with pytest.raises(OutputError, match="--overwrite"), atomic_output(dst, overwrite=False):
        pytest.fail("the block must not run")
    assert dst.read_text() == "old"
    assert files(tmp_path) == ["a"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    dst = tmp_path / "a"
    with pytest.raises(OutputError, match="exists"), atomic_output(dst, overwrite=False) as path:
        path.write_text("mine")
        dst.write_text("theirs")
    assert dst.read_text() == "theirs"
    assert files(tmp_path) == ["a"]


def test_overwriting_replaces_whole_and_only_at_the_end(tmp_path: Path) -> None:
    dst = tmp_path / "a"
    dst.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_output(dst, overwrite=True) as path:
        path.write_text("new")
        raise ValueError("stop")
    assert dst.read_text() == "old"
    with atomic_output(dst, overwrite=True) as path:
        path.write_text("new")
        assert dst.read_text() == "old"
    assert dst.read_text() == "new"
    assert files(tmp_path) == ["a"]


def test_overwriting_a_link_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("original")
    (tmp_path / "a").symlink_to("target")
    with atomic_output(tmp_path / "a", overwrite=True) as path:
        path.write_text("new")
    assert (tmp_path / "target").read_text() == "original"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_and_special_files_are_no_destinations(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(OutputError, match=name), atomic_output(tmp_path / name, overwrite=overwrite):
            pytest.fail("the block must not run")
    assert files(tmp_path) == ["folder", "link", "pipe"]


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for name in ("x/a", "x/y/a"):
        with pytest.raises(OutputError, match="cannot write"), atomic_output(tmp_path / name, overwrite=False):
            pytest.fail("the block must not run")
    assert files(tmp_path) == ["x"]


def test_a_name_too_long(tmp_path: Path) -> None:
    long = "n" * 251 + ".png"
    with atomic_output(tmp_path / long, overwrite=False) as path:
        path.touch()
    assert files(tmp_path) == [long]
    with pytest.raises(OutputError, match="name too long"), atomic_output(tmp_path / f"x{long}", overwrite=False):
        pass
    with pytest.raises(OutputError, match="name too long"), atomic_output(tmp_path / f"s/a.{long}", overwrite=False):
        pass
    assert files(tmp_path) == [long]


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    dst = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    with atomic_output(dst, overwrite=False) as path:
        path.touch()
    assert dst.exists()


@pytest.mark.parametrize("failing", ["link", "fsync"])
def test_a_failing_system_call_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, fail)
    with (
        pytest.raises(OutputError, match="No space left"),
        atomic_output(tmp_path / "b" / "a", overwrite=False) as path,
    ):
        path.write_text("x")
    assert files(tmp_path) == []


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", fail)
    with atomic_output(tmp_path / "a", overwrite=False) as path:
        path.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    with pytest.raises(OutputError, match="exists"), atomic_output(tmp_path / "b", overwrite=False) as path:
        (tmp_path / "b").write_text("theirs")
    assert (tmp_path / "b").read_text() == "theirs"
    assert files(tmp_path) == ["a", "b"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with atomic_output(tmp_path / "a", overwrite=False) as path:
        assert publish.remove_stale(tmp_path / "a") == 0  # who lives cannot be told: nothing is deleted
        path.touch()
    assert files(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"), atomic_output(tmp_path / "a", overwrite=False):
            pytest.fail("the block must not run")
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_file_system() -> None:
    with pytest.raises(OutputError, match="cannot write"), atomic_output(Path("/proc/x/a"), overwrite=False):
        pytest.fail("the block must not run")


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: writing fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError, match="File too large"), atomic_output(tmp_path / "a", overwrite=False) as path:
            path.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files(tmp_path) == []


WAIT = """
    import sys, time
    from pathlib import Path
    from trt_anon.job.publish import atomic_output
    with atomic_output(Path(sys.argv[1]), overwrite=False) as path:
        path.write_text("half")
        print("ready", flush=True)
        time.sleep(60)
"""


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with run(WAIT, str(tmp_path / "made" / "a")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    assert files(tmp_path) == []


def test_a_killed_run_is_cleaned_up_by_the_next_for_the_same_file(tmp_path: Path) -> None:
    with run(WAIT, str(tmp_path / "a")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with atomic_output(tmp_path / "b", overwrite=False):  # for another file: nothing is touched
            assert len(files(tmp_path)) == 2
        (tmp_path / "b").unlink()
        assert publish.remove_stale(tmp_path / "a") == 0  # it lives
        process.kill()
        process.wait(30)
    assert len(files(tmp_path)) == 1
    with atomic_output(tmp_path / "b", overwrite=False) as path:
        path.touch()
    assert len(files(tmp_path)) == 2
    with atomic_output(tmp_path / "a", overwrite=False) as path:
        path.write_text("whole")
    assert files(tmp_path) == ["a", "b"]


def test_of_many_writers_one_wins_and_nothing_is_left(tmp_path: Path) -> None:
    dst = tmp_path / "x" / "a"
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            with atomic_output(dst, overwrite=False) as path:
                path.write_text(str(number) * 1000)
                time.sleep(0.01)
            outcomes.append(str(number))
        except OutputError:
            pass

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert dst.read_text() == outcomes[0] * 1000
    assert files(tmp_path) == ["x", "x/a"]


def test_a_writer_may_replace_the_private_file(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "a", overwrite=False) as path:
        path.unlink()
        path.write_text("made anew")
    assert (tmp_path / "a").read_text() == "made anew"
    with pytest.raises(OutputError), atomic_output(tmp_path / "b", overwrite=False) as path:
        path.unlink()
    assert files(tmp_path) == ["a"]
