"""Parts of a device pipeline for tests: recorded work, sinks that remember, sources that end early or fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from trt_anon.cuda.memory import HostMemory
from trt_anon.types import Frame


class RecordingMemory(HostMemory):
    """Host memory that records work as a GPU does: the work runs when it is replayed, on the arrays of then."""

    def capture(self, work: Callable[[], None], stream: Any) -> Any:
        memory = self

        class Recorded:
            def replay(self, stream: Any) -> None:
                with memory.traffic.recording() as books:
                    work()
                memory.traffic.replayed(books)

        return Recorded()


class KeepingSink:
    """Remembers the planes of every frame, and how it ended."""

    def __init__(self, fail_at: int | None = None, *, on_device: bool = False) -> None:
        self.on_device = on_device
        self.frames: list[Frame] = []
        self.planes: list[list[np.ndarray]] = []
        self.ended: list[str] = []
        self._fail_at = fail_at

    def write(self, frame: Frame) -> None:
        if len(self.frames) == self._fail_at:
            raise OSError("disk full")
        self.frames.append(frame)
        self.planes.append([np.array(plane) for plane in frame.planes])

    def finish(self) -> None:
        self.ended.append("finish")

    def abort(self) -> None:
        self.ended.append("abort")


class ListSource:
    """A source on the CPU of frames that are there already."""

    def __init__(self, info: Any, frames: Sequence[Frame], fail_at: int | None = None, error: Any = None) -> None:
        self.info = info
        self._frames, self._fail_at, self._error = frames, fail_at, error

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self._frames):
            if index == self._fail_at:
                raise self._error
            yield frame

    def close(self) -> None:
        pass


def as_planar(planes: list[np.ndarray], shift: int = 0) -> list[np.ndarray]:
    """NV12 or P010 as planar 4:2:0."""
    if len(planes) != 2:
        return planes
    return [planes[0] >> shift, planes[1][..., 0] >> shift, planes[1][..., 1] >> shift]
