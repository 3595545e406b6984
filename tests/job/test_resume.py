"""Jobs that go on: what is done is not done again, what failed is told, what was under way is made anew."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer, Event, Resume
from trt_anon.errors import InputError, OutputError, TrtAnonError, UsageError
from trt_anon.job import space
from trt_anon.job import way as way_module
from trt_anon.job.journal import Journal, content_of, key_of, place_of
from trt_anon.pipeline.loop import LoopReport


def write_picture(path: Path, picture: np.ndarray) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path, clips: ModuleType, faces: ModuleType) -> Path:
    """Three pictures, a clip, and a picture cut in half."""
    root = tmp_path / "in"
    for number in range(3):
        picture = faces.picture().copy()
        picture[-8:] = 20 * number
        write_picture(root / f"{number}.png", picture)
    faces.face_clip(clips, root / "c.mp4", frames=3, options={"preset": "ultrafast"})
    whole = (root / "0.png").read_bytes()
    (root / "bad.png").write_bytes(whole[: len(whole) // 2])
    return root


def worked_on(events: list[Event]) -> list[str]:
    return sorted(e.task.source.name for e in events if e.kind == "end" and e.report and e.report.seconds)


def run(anonymizer: Anonymizer, folder: Path, **options: Any) -> tuple[dict[str, str], list[str]]:
    """(state of each file by name, names of the files that were worked on)."""
    events: list[Event] = []
    overwrite = options.pop("overwrite", False)
    out = folder.parent / "out"
    report = anonymizer.files([folder], out, overwrite=overwrite, on_event=events.append, resume=Resume(**options))
    return {f.source.name: f.status for f in report.files}, worked_on(events)


DONE = {"0.png": "done", "1.png": "done", "2.png": "done", "bad.png": "failed", "c.mp4": "done"}
SAME = {name: "unchanged" if state == "done" else state for name, state in DONE.items()}


def test_a_second_run_does_nothing_and_says_so(anonymizer: Anonymizer, folder: Path) -> None:
    assert run(anonymizer, folder)[0] == DONE
    before = outputs(folder.parent / "out")
    stamps = {p.name: p.stat().st_mtime_ns for p in (folder.parent / "out").iterdir()}
    states, worked = run(anonymizer, folder)
    assert (states, worked) == (SAME, [])
    assert outputs(folder.parent / "out") == before
    assert {p.name: p.stat().st_mtime_ns for p in (folder.parent / "out").iterdir()} == stamps
    report = anonymizer.files([folder], folder.parent / "out", resume=Resume())
    assert (report.done, report.unchanged, report.failed, report.frames, report.exit_code) == (0, 4, 1, 0, 1)
    kept = {f.source.name: (f.frames, dict(f.objects)) for f in report.files if f.status == "unchanged"}
    assert kept["c.mp4"] == (3, {"face": 3})


def test_what_failed_is_tried_again_when_asked_or_changed(anonymizer: Anonymizer, folder: Path) -> None:
    run(anonymizer, folder)
    report = anonymizer.files([folder], folder.parent / "out", resume=Resume())
    (failed,) = (f for f in report.files if f.status == "failed")
    assert failed.error is not None
    assert "failed before (InputError); --retry" in failed.error
    assert run(anonymizer, folder, retry=True) == (SAME, ["bad.png"])
    shutil.copy(folder / "1.png", folder / "bad.png")
    states, worked = run(anonymizer, folder)
    assert (states["bad.png"], worked) == ("done", ["bad.png"])


def test_a_changed_input_is_done_again_and_a_touched_one_is_not(anonymizer: Anonymizer, folder: Path) -> None:
    run(anonymizer, folder)
    os.utime(folder / "0.png")
    shutil.copy(folder / "2.png", folder / "1.png")
    states, worked = run(anonymizer, folder)
    assert (states["1.png"], worked) == ("failed", []), "what is there is not replaced without being asked"
    states, worked = run(anonymizer, folder, overwrite=True)
    assert (states["1.png"], states["0.png"], worked) == ("done", "unchanged", ["1.png"])
    made = outputs(folder.parent / "out")
    assert made["1.png"] == made["2.png"]


def test_another_configuration_is_another_job(anonymizer: Anonymizer, folder: Path) -> None:
    run(anonymizer, folder)
    with Anonymizer(threshold=0.3, method="solid") as other:
        states, worked = run(other, folder)
        assert worked == ["bad.png"], "the outputs of the first are left alone"
        assert set(states.values()) == {"failed"}
        assert run(other, folder, overwrite=True)[1] == ["0.png", "1.png", "2.png", "c.mp4"]
    with Anonymizer(threshold=0.3, method="solid", threads=1, queue_frames=1) as same:
        assert run(same, folder) == (SAME, []), "threads change nothing of an output"


def test_an_output_that_was_removed_is_made_anew_and_one_that_was_altered_is_not_trusted(
    anonymizer: Anonymizer, folder: Path
) -> None:
    run(anonymizer, folder)
    out = folder.parent / "out"
    before = outputs(out)
    (out / "0.png").unlink()
    shutil.copy(folder / "1.png", out / "1.png")  # somebody put the clear picture there
    states, worked = run(anonymizer, folder)
    assert worked == ["0.png"]
    assert (states["0.png"], states["1.png"]) == ("done", "failed")
    assert run(anonymizer, folder, overwrite=True)[1] == ["1.png"]
    assert outputs(out) == before


def test_an_interrupted_job_goes_on(anonymizer: Anonymizer, folder: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "frames" and event.task.source.name == "c.mp4" and event.frames == 2:
            raise KeyboardInterrupt

    out = folder.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        anonymizer.files([folder], out, on_event=interrupt, resume=Resume())
    assert sorted(outputs(out)) == ["0.png", "1.png", "2.png"]
    states, worked = run(anonymizer, folder)
    assert worked == ["c.mp4"]
    assert states == SAME | {"c.mp4": "done"}


def test_an_end_between_the_name_and_the_journal_is_recognised(
    anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "done", killed)
        with pytest.raises(KeyboardInterrupt):
            anonymizer.files([folder / "0.png"], folder.parent / "out" / "0.png", resume=Resume())
    out = folder.parent / "out" / "0.png"
    assert out.is_file()
    report = anonymizer.files([folder / "0.png"], out, resume=Resume())
    assert [f.status for f in report.files] == ["unchanged"]
    write_picture(out, np.zeros((8, 8, 3), np.uint8))
    assert anonymizer.files([folder / "0.png"], out, resume=Resume()).failed == 1


def test_what_ends_the_process_comes_last(anonymizer: Anonymizer, folder: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "start" and event.task.source.name == "0.png":
            raise SystemExit

    out = folder.parent / "out"
    with pytest.raises(SystemExit):
        anonymizer.files([folder], out, on_event=interrupt, resume=Resume())
    shutil.rmtree(out, ignore_errors=True)
    events: list[Event] = []
    anonymizer.files([folder], out, on_event=events.append, resume=Resume())
    images = [e.task.source.name for e in events if e.kind == "start" and e.task.kind == "image"]
    assert images[-1] == "0.png"


def test_faults_of_the_machine_are_tried_again(
    anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = way_module.anonymize_frames

    def hungry(source: Any, *rest: Any) -> LoopReport:
        if source.info.kind == "video":
            raise MemoryError
        return real(source, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(way_module, "anonymize_frames", hungry)
        assert run(anonymizer, folder)[0] == DONE | {"c.mp4": "failed"}
    assert run(anonymizer, folder) == (SAME | {"c.mp4": "done"}, ["c.mp4"])


def test_a_disk_without_room(anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder.parent / "out"
    with monkeypatch.context() as patch:
        patch.setattr(space, "free_bytes", lambda _: 2**20 + 5000)
        with pytest.raises(OutputError, match="not enough room"):
            anonymizer.files([folder], out, resume=Resume(keep_free_mib=1))
    assert not out.exists()
    monkeypatch.setattr(space, "_CHECK_EVERY_SECONDS", 0.0)
    left = iter([2**30] * 2 + [2**30] * 6)

    def filling(_: Path) -> int:
        return next(left, 10)

    monkeypatch.setattr(space, "free_bytes", filling)
    report = anonymizer.files([folder], out, resume=Resume(keep_free_mib=1))
    assert report.failed > 1
    assert {f.error_type for f in report.files if f.status == "failed"} == {"OutputError", "InputError"}
    assert not [name for name in outputs(out) if ".trt-anon" in name]
    monkeypatch.undo()
    assert run(anonymizer, folder)[0] in [SAME | dict.fromkeys(some, "done") for some in _subsets(list(DONE))]


def _subsets(names: list[str]) -> list[list[str]]:
    good = [name for name in names if DONE[name] == "done"]
    return [[n for i, n in enumerate(good) if mask >> i & 1] for mask in range(1 << len(good))]


def test_the_journal_holds_no_names(anonymizer: Anonymizer, tmp_path: Path, faces: ModuleType) -> None:
    write_picture(tmp_path / "Erika_Mustermann" / "secret_name.png", faces.picture())
    books = tmp_path / "books.sqlite"
    anonymizer.files([tmp_path / "Erika_Mustermann"], tmp_path / "out", resume=Resume(journal=books))
    written = b"".join(p.read_bytes() for p in tmp_path.glob("books.sqlite*"))
    assert b"done" in written
    for word in (b"secret_name", b"Mustermann", os.fsencode(tmp_path.name), b"png"):
        assert word not in written
    assert books.stat().st_mode & 0o077 == 0


def test_one_run_at_a_time(anonymizer: Anonymizer, folder: Path) -> None:
    out = folder.parent / "out"
    with Journal(place_of(out)), pytest.raises(UsageError, match="another run"):
        anonymizer.files([folder], out, resume=Resume())
    assert not out.exists()


def test_a_journal_that_is_none_is_refused(anonymizer: Anonymizer, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "books").write_bytes(b"no database at all" * 100)
    out = folder.parent / "out"
    with pytest.raises(UsageError, match="cannot use the journal"):
        anonymizer.files([folder], out, resume=Resume(journal=tmp_path / "books"))
    (tmp_path / "books").unlink()
    with sqlite3.connect(tmp_path / "books") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(UsageError, match="another version"):
        anonymizer.files([folder], out, resume=Resume(journal=tmp_path / "books"))
    with pytest.raises(UsageError, match="cannot use"):
        anonymizer.files([folder], out, resume=Resume(journal=tmp_path))
    assert not out.exists()


def test_books_that_cannot_be_written_cost_the_resuming_and_nothing_else(
    anonymizer: Anonymizer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise UsageError("disk is full")

    monkeypatch.setattr(Journal, "begin", full)
    assert run(anonymizer, folder)[0] == DONE
    assert [r.getMessage() for r in caplog.records] == ["this job cannot be resumed: disk is full"]


def test_contents_are_read_again_only_where_something_was_touched(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = content_of(path)
    assert content_of(path, first) is first
    time.sleep(0.01)
    path.write_bytes(b"two")
    os.utime(path, ns=(path.stat().st_atime_ns, int(first.stamp.split(":")[1])))  # a time that was set back
    assert content_of(path, first).sha256 != first.sha256


def test_destinations_have_keys_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert key_of(tmp_path / "a") == key_of(tmp_path / "link" / "a") == key_of(tmp_path / "." / "a")
    assert key_of(tmp_path / "a") != key_of(tmp_path / "b")


def test_a_source_that_cannot_be_read_fails_alone(anonymizer: Anonymizer, folder: Path) -> None:
    job = anonymizer.plan([folder], folder.parent / "out", overwrite=True)
    (folder / "1.png").unlink()
    report = anonymizer.run(job, resume=Resume().of(folder.parent / "out"))
    assert {f.source.name: f.error_type for f in report.files if f.status == "failed"} == {
        "1.png": "InputError",
        "bad.png": "InputError",
    }
    with pytest.raises(UsageError, match="name the journal"):
        anonymizer.run(job, resume=Resume())
    assert issubclass(InputError, TrtAnonError)
