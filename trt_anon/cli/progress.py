"""Progress of a job: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from trt_anon.cli.printable import plain

if TYPE_CHECKING:
    from trt_anon.job.files import Event

_LINE_EVERY_SECONDS = 5.0
_TOTAL_EVERY_SECONDS = 30.0


class ProgressView(Protocol):
    """Shows the events of a job; a context manager."""

    def __enter__(self) -> ProgressView:
        """Start showing."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        ...

    def __call__(self, event: Event) -> None:
        """Show an event."""
        ...


def progress_view(files: int, *, quiet: bool, sources: Sequence[Path] = ()) -> ProgressView:
    """The view that fits where standard error goes. sources: of all files, to weigh them by their sizes."""
    console = Console(stderr=True)
    if quiet:
        return _Silent()
    whole = Whole(sources)
    return _Bar(console, files, whole) if console.is_terminal else _Lines(files, whole)


class Whole:
    """How much of a whole job is done, by the sizes of its inputs, and how long the rest will take at that pace.

    What an earlier run did is not counted as done by this one.
    """

    def __init__(self, sources: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._sizes = {source: _size(source) for source in sources}
        self._left = float(sum(self._sizes.values()))
        self._done = 0.0
        self._under_way: dict[object, float] = {}
        self._clock = clock
        self._started = clock()

    def __call__(self, event: Event) -> None:
        """Take in what happened."""
        size = self._sizes.get(event.task.source, 0)
        if event.kind == "frames" and event.frames_total:
            self._under_way[event.task] = size * min(1.0, event.frames / event.frames_total)
        elif event.kind == "end":
            self._under_way.pop(event.task, None)
            if event.report is not None and event.report.seconds == 0:  # it was done, or failed, before
                self._left -= size
            else:
                self._done += size

    @property
    def share(self) -> float:
        """From 0 to 1."""
        done = self._done + sum(self._under_way.values())
        return min(1.0, done / self._left) if self._left > 0 else 1.0

    def __str__(self) -> str:
        if not self._sizes:
            return ""
        share, spent = self.share, self._clock() - self._started
        if share < 0.005 or spent < 1:
            return f"{share:.0%}"
        left = datetime.timedelta(seconds=round(spent * (1 - share) / share))
        return f"{share:.0%}, {left} left"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        pass


class _Fps(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} fps", style="cyan")


class _Bar:
    def __init__(self, console: Console, files: int, whole: Whole | None = None) -> None:
        self._whole = whole or Whole(())
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Fps(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._files = self._progress.add_task("files", total=files) if files > 1 else None
        self._shown: dict[object, TaskID] = {}

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        self._whole(event)
        if self._files is not None:
            self._progress.update(self._files, description=f"files {self._whole}")
        if event.kind == "start" and event.task.kind == "video":
            name = event.task.source.name
            self._shown[event.task] = self._progress.add_task(_shortened(name), total=event.frames_total)
        elif event.kind == "frames" and event.task in self._shown:
            self._progress.update(self._shown[event.task], completed=event.frames)
        elif event.kind == "end":
            if event.task in self._shown:
                self._progress.remove_task(self._shown.pop(event.task))
            if self._files is not None:
                self._progress.advance(self._files)


class _Lines:
    def __init__(self, files: int, whole: Whole | None = None) -> None:
        self._files = files
        self._whole = whole or Whole(())
        self._ended = 0
        self._started = time.monotonic()
        self._last = self._told = self._started

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        self._whole(event)
        if event.kind == "end":
            self._ended += 1
            if self._files > 1 and (self._ended == self._files or now - self._last >= _LINE_EVERY_SECONDS):
                self._last = now
                rest = "" if self._ended == self._files else f", {self._whole}".removesuffix(", ")
                print(f"{self._ended}/{self._files} files{rest}", file=sys.stderr, flush=True)  # noqa: T201
        elif event.kind == "frames" and now - self._last >= _LINE_EVERY_SECONDS:
            self._last = now
            of = f"/{event.frames_total}" if event.frames_total else ""
            line = f"{plain(event.task.source.name)}: {event.frames}{of} frames"
            if self._files > 1 and now - self._told >= _TOTAL_EVERY_SECONDS:
                self._told = now
                line += f"; of all {self._whole}"
            print(line, file=sys.stderr, flush=True)  # noqa: T201


def _shortened(name: str, limit: int = 32) -> str:
    # Square brackets would be read as markup.
    name = plain(name).replace("[", "(").replace("]", ")")
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
