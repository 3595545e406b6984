"""Progress of a job: a bar in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
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


def progress_view(files: int, *, quiet: bool) -> ProgressView:
    """The view that fits where standard error goes."""
    console = Console(stderr=True)
    if quiet:
        return _Silent()
    return _Bar(console, files) if console.is_terminal else _Lines(files)


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
    def __init__(self, console: Console, files: int) -> None:
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
    def __init__(self, files: int) -> None:
        self._files = files
        self._ended = 0
        self._started = time.monotonic()
        self._last = self._started

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "end":
            self._ended += 1
            if self._files > 1 and (self._ended == self._files or now - self._last >= _LINE_EVERY_SECONDS):
                self._last = now
                print(f"{self._ended}/{self._files} files", file=sys.stderr, flush=True)  # noqa: T201
        elif event.kind == "frames" and now - self._last >= _LINE_EVERY_SECONDS:
            self._last = now
            of = f"/{event.frames_total}" if event.frames_total else ""
            print(f"{plain(event.task.source.name)}: {event.frames}{of} frames", file=sys.stderr, flush=True)  # noqa: T201


def _shortened(name: str, limit: int = 32) -> str:
    # Square brackets would be read as markup.
    name = plain(name).replace("[", "(").replace("]", ")")
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
