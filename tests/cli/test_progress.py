"""The views of a job's progress, fed with events."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from trt_anon.cli import progress
from trt_anon.job.files import Event
from trt_anon.job.inputs import Kind, Task
from trt_anon.job.report import FileReport


def task(name: str, kind: Kind = "video") -> Task:
    return Task(Path("in") / name, Path("out") / name, kind)


def test_the_bar_shows_files_and_the_frames_of_a_video() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    clip, picture = task("[bold]clip.mp4"), task("a.png", "image")
    with progress._Bar(console, 2) as bar:
        bar(Event("start", picture))
        bar(Event("frames", picture, 1))  # pictures have no bar of their own
        bar(Event("end", picture))
        bar(Event("start", clip, frames_total=40))
        for frames in (10, 25):
            bar(Event("frames", clip, frames, 40))
        bar._progress.refresh()
        shown = out.getvalue()
        assert "(bold)clip.mp4" in shown
        assert "25/40" in shown
        assert "1/2" in shown
        assert "fps" in shown
        bar(Event("end", clip, 40))
        assert bar._progress.tasks[0].completed == 2
        assert len(bar._progress.tasks) == 1


def test_a_single_video_has_one_bar_whose_length_may_be_unknown() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    clip = task("a.mp4")
    with progress._Bar(console, 1) as bar:
        bar(Event("start", clip, frames_total=None))
        bar(Event("frames", clip, 3, None))
        (shown,) = bar._progress.tasks
        assert (shown.completed, shown.total) == (3, None)
        bar(Event("end", clip, 3))
        assert bar._progress.tasks == []


def test_a_file_that_fails_before_it_starts_is_counted() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress._Bar(console, 2) as bar:
        bar(Event("end", task("a.mp4")))
        assert bar._progress.tasks[0].completed == 1


def test_plain_lines_come_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    clip = task("a.mp4")
    with progress._Lines(3) as lines:
        for second in range(1, 13):
            now = 100.0 + second
            lines(Event("frames", clip, 10 * second, 200 if second < 8 else None))
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            lines(Event("end", task(name)))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["a.mp4: 50/200 frames", "a.mp4: 100 frames", "3/3 files"]


def test_the_view_fits_where_standard_error_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(progress.progress_view(1, quiet=True), progress._Silent)
    assert isinstance(progress.progress_view(1, quiet=False), progress._Lines)
    monkeypatch.setattr(Console, "is_terminal", True)
    assert isinstance(progress.progress_view(1, quiet=False), progress._Bar)


def test_a_whole_job_is_weighed_by_the_sizes_of_its_inputs(tmp_path: Path) -> None:
    tasks = []
    for name, size in (("a.mp4", 600), ("b.mp4", 300), ("c.png", 100), ("old.mp4", 5000)):
        (tmp_path / name).write_bytes(bytes(size))
        tasks.append(Task(tmp_path / name, tmp_path / "out" / name, "video"))
    clock = [0.0]
    whole = progress.Whole([task.source for task in tasks], lambda: clock[0])

    def ended(task: Task, seconds: float) -> Event:
        return Event("end", task, report=FileReport(task.source, task.destination, "done", "video", seconds=seconds))

    whole(ended(tasks[3], 0.0))  # an earlier run did it
    assert (whole.share, str(whole)) == (0, "0%")
    clock[0] = 10.0
    whole(Event("frames", tasks[0], 50, 100))
    assert str(whole) == "30%, 0:00:23 left"
    whole(ended(tasks[0], 3.0))
    whole(Event("frames", tasks[1], 200, 100))  # more than was announced
    whole(ended(tasks[2], 1.0))
    assert whole.share == 1.0
    assert str(progress.Whole(())) == ""
