"""A part that can be measured, and one pass of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from trt_anon.bench.result import Traffic
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Spread


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a part over the clip: frames, wall and processor seconds, and what single frames took."""

    frames: int
    wall_seconds: float
    cpu_seconds: float
    latencies_seconds: tuple[float, ...] = ()


@dataclass
class Clock:
    """Measures a pass: use it as a context manager, and note what single frames take."""

    latencies: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __enter__(self) -> Clock:
        self.cpu_seconds, self.wall_seconds = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.wall_seconds = time.perf_counter() - self.wall_seconds
        self.cpu_seconds = time.process_time() - self.cpu_seconds

    def each(self, items: Iterable[Any], work: Callable[[Any], object]) -> None:
        """Do the work for each item, and note how long each took."""
        for item in items:
            start = time.perf_counter()
            work(item)
            self.latencies.append(time.perf_counter() - start)

    def windowed(
        self, items: Iterable[Any], submit: Callable[[Any], Any], result: Callable[[Any], object], depth: int
    ) -> None:
        """Submit each item, waiting for the oldest once more than `depth` are under way; notes submission to result."""
        waiting: deque[tuple[float, Any]] = deque()

        def finish() -> None:
            start, pending = waiting.popleft()
            result(pending)
            self.latencies.append(time.perf_counter() - start)

        for item in items:
            waiting.append((time.perf_counter(), submit(item)))
            if len(waiting) > depth:
                finish()
        while waiting:
            finish()

    def done(self, frames: int) -> Pass:
        """The pass, once the context has ended."""
        return Pass(frames, self.wall_seconds, self.cpu_seconds, tuple(self.latencies))


class Subject(Protocol):
    """A clip on a device, whose parts can be measured one pass at a time; a context manager.

    parts: by name, in the order in which a frame meets them; `decode`, `engine`, `detect` and `pipeline` are among
    them; known once it holds the clip. missing: what cannot be measured here, and why. traffic: of the steady pipeline,
    None where there is none.     cores: processors that the stages share, None where most of the work is elsewhere.
    """

    parts: dict[str, Callable[[], Pass]]
    missing: dict[str, str]
    traffic: Traffic | None
    cores: int | None

    @property
    def frames(self) -> int:
        """Frames of the clip."""
        ...

    @property
    def found_per_frame(self) -> float:
        """Objects that are redacted."""
        ...

    @property
    def extra_shares(self) -> Mapping[str, Spread]:
        """How much of limits of this kind of device was reached, once the parts have run."""
        ...

    def warm_up(self) -> None:
        """One pass of the whole, with nothing held in memory besides."""
        ...

    def hold(self) -> MediaInfo:
        """Get the parts that run alone ready."""
        ...

    def __enter__(self) -> Subject:
        """The subject."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free everything."""
        ...
