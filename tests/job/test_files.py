"""Many files through one pipeline: what fails, what goes on, and what is left behind."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer, Event
from trt_anon.errors import MissingError, PackageMissing
from trt_anon.job import way as way_module
from trt_anon.job.report import JobReport
from trt_anon.pipeline.loop import LoopReport


def write_picture(path: Path, picture: np.ndarray) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def left_behind(folder: Path) -> list[str]:
    """Every file below a folder, hidden ones included."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def folder(tmp_path: Path, clips: ModuleType, faces: ModuleType) -> Path:
    """Two good pictures, a good clip, a damaged picture, a cut-off clip, a text file."""
    root = tmp_path / "in"
    write_picture(root / "a.png", faces.picture())
    write_picture(root / "deep" / "er" / "b.jpg", faces.picture())
    faces.face_clip(clips, root / "deep" / "c.mp4", frames=3)
    whole = (root / "deep" / "er" / "b.jpg").read_bytes()
    (root / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    whole = faces.face_clip(clips, tmp_path / "whole.mp4", frames=30).read_bytes()
    (root / "deep" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "notes.txt").write_text("not media")
    return root


def test_a_folder_is_mirrored_and_one_bad_file_stops_nothing(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path, faces: ModuleType
) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    events: list[Event] = []
    out = tmp_path / "out"
    report = anonymizer.files([folder], out, on_event=events.append)
    assert left_behind(out) == ["a.png", "deep/c.mp4", "deep/er/b.jpg"]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before, "inputs stay as they are"
    states = {str(f.source.relative_to(folder)): f.status for f in report.files}
    assert states == {
        "a.png": "done",
        "damaged.jpg": "failed",
        "deep/c.mp4": "done",
        "deep/cut.mp4": "failed",
        "deep/er/b.jpg": "done",
        "notes.txt": "skipped",
    }
    assert (report.done, report.failed, report.skipped, report.frames, report.exit_code) == (3, 2, 1, 5, 1)
    assert dict(report.objects) == {"face": 5}
    for failed in (f for f in report.files if f.status == "failed"):
        assert failed.error is not None
        assert failed.source.name not in failed.error, "the report names its file, and the error does not"
        assert "the input" in failed.error
        assert failed.error_type == "InputError"
    from PIL import Image

    after = np.asarray(Image.open(out / "a.png"))
    assert faces.detail(faces.crop(after, faces.FACE)) < 0.35 * faces.detail(faces.crop(faces.picture(), faces.FACE))
    assert np.array_equal(after[:, 190:], faces.picture()[:, 190:])

    # Each file that was tried starts at most once and ends exactly once; a video says how far it got.
    ended = [e.task.source.name for e in events if e.kind == "end"]
    assert sorted(ended) == ["a.png", "b.jpg", "c.mp4", "damaged.jpg"], "cut.mp4 failed in the plan"
    steps = [(e.kind, e.frames) for e in events if e.task.source.name == "c.mp4"]
    assert steps == [("start", 0), ("frames", 1), ("frames", 2), ("frames", 3), ("end", 3)]
    assert {e.frames_total for e in events if e.task.source.name == "c.mp4" and e.kind == "frames"} == {3}


def test_outputs_that_exist_are_left_alone_and_the_others_done(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_picture(out / "a.png", np.zeros((4, 4, 3), np.uint8))
    old = (out / "a.png").read_bytes()
    report = anonymizer.files([folder], out)
    assert (report.done, report.failed) == (2, 3)
    assert (out / "a.png").read_bytes() == old
    again = anonymizer.files([folder], out, overwrite=True)
    assert (again.done, again.failed) == (3, 2)
    assert (out / "a.png").read_bytes() != old


def test_many_pictures_are_worked_on_side_by_side_and_all_are_reported(
    anonymizer: Anonymizer, faces: ModuleType, tmp_path: Path
) -> None:
    for number in range(9):
        picture = faces.picture().copy()
        picture[-8:, -8:] = 20 * number
        write_picture(tmp_path / "in" / f"{number}.png", picture)
    seen: set[str] = set()

    def watch(event: Event) -> None:
        seen.add(threading.current_thread().name)

    report = anonymizer.files([tmp_path / "in"], tmp_path / "out", on_event=watch)
    assert [f.source.name for f in report.files] == [f"{n}.png" for n in range(9)]
    assert report.done == 9
    from PIL import Image

    for number in range(9):  # none was mixed up with another
        assert (np.asarray(Image.open(tmp_path / "out" / f"{number}.png"))[-8:, -8:] == 20 * number).all()
    assert seen
    assert not [t for t in threading.enumerate() if t.name.startswith("trt-anon-")]


def test_the_exit_code_tells_missing_from_failed(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise PackageMissing("reading video needs the package 'av'")

    monkeypatch.setattr(way_module, "PyAVSource", missing)
    report = anonymizer.files([folder], tmp_path / "out")
    assert report.exit_code == MissingError.exit_code == 3
    assert left_behind(tmp_path / "out") == ["a.png", "deep/er/b.jpg"]


def test_running_out_of_memory_fails_the_file_alone(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = way_module.anonymize_frames

    def hungry(source: Any, sink: Any, *rest: Any) -> LoopReport:
        if source.info.kind == "video":
            raise MemoryError
        return real(source, sink, *rest)

    monkeypatch.setattr(way_module, "anonymize_frames", hungry)
    report = anonymizer.files([folder], tmp_path / "out")
    errors = {f.source.name: f.error for f in report.files if f.status == "failed"}
    assert errors["c.mp4"] == "out of memory"
    assert left_behind(tmp_path / "out") == ["a.png", "deep/er/b.jpg"]


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_bug_ends_the_job_and_leaves_nothing_of_the_file(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    real = way_module.anonymize_frames

    def buggy(source: Any, sink: Any, *rest: Any) -> LoopReport:
        if source.info.kind == kind:
            raise ZeroDivisionError
        return real(source, sink, *rest)

    monkeypatch.setattr(way_module, "anonymize_frames", buggy)
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        anonymizer.files([folder], out)
    assert left_behind(tmp_path / "out") == ([] if kind == "image" else ["a.png", "deep/er/b.jpg"])
    assert not [t for t in threading.enumerate() if t.name.startswith("trt-anon-")]


@pytest.mark.parametrize("at", [1, 7, 15])
@pytest.mark.parametrize("old", [False, True])
def test_an_interrupt_in_the_middle_leaves_the_destination_as_it_was(
    anonymizer: Anonymizer, clips: ModuleType, faces: ModuleType, tmp_path: Path, at: int, old: bool
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", frames=15)
    target = tmp_path / "out" / "b.mp4"
    if old:
        target.parent.mkdir()
        target.write_bytes(b"an older result")

    def interrupt(event: Event) -> None:
        if event.kind == "frames" and event.frames == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anonymizer.files([clip], target, overwrite=old, on_event=interrupt)
    assert left_behind(tmp_path) == ["a.mp4", "out/b.mp4"] if old else ["a.mp4"]
    if old:
        assert target.read_bytes() == b"an older result"
    else:
        assert not target.parent.exists(), "folders made for the output go with it"
    assert not [t for t in threading.enumerate() if t.name.startswith("trt-anon-")]


def test_an_interrupt_among_pictures_keeps_those_that_were_done(
    anonymizer: Anonymizer, faces: ModuleType, tmp_path: Path
) -> None:
    for number in range(12):
        write_picture(tmp_path / "in" / f"{number:02}.png", faces.picture())
    ended: list[str] = []

    def interrupt(event: Event) -> None:
        if event.kind == "end":
            ended.append(event.task.source.name)
            if len(ended) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        anonymizer.files([tmp_path / "in"], tmp_path / "out", on_event=interrupt)
    done = left_behind(tmp_path / "out")
    assert 3 <= len(done) < 12
    assert not [name for name in done if name.startswith(".")]
    from PIL import Image

    for name in done:  # those that are there are whole
        assert np.asarray(Image.open(tmp_path / "out" / name)).shape == faces.picture().shape


def test_a_source_that_vanishes_after_the_plan_fails_alone(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path
) -> None:
    job = anonymizer.plan([folder], tmp_path / "out")
    shutil.rmtree(folder / "deep" / "er")
    report = anonymizer.run(job)
    states = {f.source.name: f.status for f in report.files}
    assert (states["b.jpg"], states["a.png"]) == ("failed", "done")


def test_a_destination_that_appears_after_the_plan_is_not_replaced(
    anonymizer: Anonymizer, folder: Path, tmp_path: Path
) -> None:
    job = anonymizer.plan([folder], tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"somebody else's")
    report: JobReport = anonymizer.run(job)
    assert {f.source.name: f.error_type for f in report.files}["a.png"] == "OutputError"
    assert (tmp_path / "out" / "a.png").read_bytes() == b"somebody else's"


def test_a_failing_view_ends_the_job(anonymizer: Anonymizer, folder: Path, tmp_path: Path) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError, match="no terminal"):
        anonymizer.files([folder], tmp_path / "out", on_event=broken)
    assert left_behind(tmp_path / "out") == []
