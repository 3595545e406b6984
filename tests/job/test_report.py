"""Reports: totals, exit codes, and a JSON file without boxes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trt_anon.errors import InputError, ModelMissing, OutputError, PackageMissing, TrtAnonError
from trt_anon.job.report import FileReport, JobReport


def done(name: str = "a.mp4", **values: Any) -> FileReport:
    return FileReport(Path(name), Path("out") / name, "done", "video", **values)


def failed(error: TrtAnonError) -> FileReport:
    return FileReport.failure(Path("b.jpg"), Path("out/b.jpg"), error, kind="image", seconds=0.5)


SKIPPED = FileReport(Path("notes.txt"), None, "skipped")


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ((), 0),
        ((done(),), 0),
        ((done(), SKIPPED), 0),
        ((done(), failed(InputError("broken"))), 1),
        ((failed(OutputError("full")), done()), 1),
        ((failed(ModelMissing("none")),), 3),
        ((failed(InputError("broken")), failed(PackageMissing("none"))), 3),
    ],
)
def test_exit_codes(files: tuple[FileReport, ...], code: int) -> None:
    assert JobReport(files, 1.0).exit_code == code


def test_totals() -> None:
    report = JobReport(
        (
            done(frames=30, objects={"face": 5}, seconds=2.0, frames_redacted_whole={"decode": 2, "detect": 1}),
            done("c.mp4", frames=10, objects={"face": 1, "license_plate": 2}, frames_redacted_whole={"decode": 1}),
            failed(InputError("broken")),
            SKIPPED,
        ),
        seconds=2.5,
        version="1.2.3",
    )
    assert (report.done, report.failed, report.skipped, report.frames) == (2, 1, 1, 40)
    assert dict(report.objects) == {"face": 6, "license_plate": 2}
    assert report.fps == 16
    assert report.files[0].fps == 15
    totals = json.loads(report.to_json())["totals"]
    assert totals == {
        "files": 4, "done": 2, "failed": 1, "skipped": 1, "unchanged": 0, "frames": 40,
        "objects": {"face": 6, "license_plate": 2},
        "seconds": 2.5, "fps": 16.0, "exit_code": 1,
        "frames_redacted_whole": {"decode": 3, "detect": 1},
    }  # fmt: skip
    assert json.loads(report.to_json())["version"] == "1.2.3"


def test_a_file_in_json() -> None:
    values = json.loads(JobReport((failed(InputError("b.jpg is broken")),), 1.0).to_json())["files"][0]
    assert values == {
        "source": "b.jpg", "destination": "out/b.jpg", "status": "failed", "kind": "image", "frames": 0, "objects": {},
        "frames_redacted_whole": {}, "metadata_kept": [], "verification": None,
        "seconds": 0.5, "fps": 0.0, "error": "the input is broken", "error_type": "InputError",
    }  # fmt: skip


def test_nothing_timed_is_no_division() -> None:
    assert done(frames=3).fps == 0
    assert JobReport((), 0.0).fps == 0


def test_a_name_that_is_not_unicode_comes_back_from_json() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    text = JobReport((done(name),), 1.0).to_json()
    assert text.isascii()
    assert json.loads(text)["files"][0]["source"] == name


def test_reports_cannot_be_changed() -> None:
    report = done(objects={"face": 1})
    with pytest.raises(TypeError):
        report.objects["face"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        report.frames = 9  # type: ignore[misc]


@pytest.mark.parametrize(("status", "error"), [("failed", None), ("done", "broken")])
def test_status_and_error_agree(status: Any, error: str | None) -> None:
    with pytest.raises(ValueError, match="failed file"):
        FileReport(Path("a"), None, status, error=error)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    report = JobReport((done(),), 1.0)
    report.write(tmp_path / "x" / "r.json")
    assert json.loads((tmp_path / "x" / "r.json").read_text())["totals"]["done"] == 1
    with pytest.raises(OutputError, match="exists"):
        report.write(tmp_path / "x" / "r.json")
    report.write(tmp_path / "x" / "r.json", overwrite=True)
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["r.json"]
