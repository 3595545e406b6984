"""What a device pipeline does once it is warm: frames, seconds and books of its steady state."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from trt_anon.bench.part import Clock
from trt_anon.bench.result import Traffic
from trt_anon.config import TrackConfig
from trt_anon.cuda.frames import BatchBuffer
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Totals
from trt_anon.media import MediaInfo
from trt_anon.pipeline.device_loop import BATCHES_UNDER_WAY
from trt_anon.sink.base import Sink
from trt_anon.source.device import DeviceSource
from trt_anon.types import Frame


def warm_batches(batch: int, info: MediaInfo, track: TrackConfig) -> int:
    """After how many batches every buffer that a pipeline may have was launched once, and recorded once."""
    waiting = 0.0 if track.track == "off" else track.look_ahead_seconds * float(info.average_rate or 25) + 1
    return 2 * (BATCHES_UNDER_WAY + 1 + math.ceil(waiting / batch))


def decode_steadily(
    source: DeviceSource, buffers: Sequence[BatchBuffer], memory: DeviceMemory, clock: Clock
) -> tuple[int, float]:
    """(frames, seconds) of decoding alone, from the end of the first batch on: a decoder takes a while to be made."""
    batch = buffers[0].capacity
    count = source.fill(buffers[0])
    memory.wait(buffers[0].filled, "measuring")
    begin, frames, number, last = time.perf_counter(), 0, 1, buffers[0].filled
    while count == batch:
        buffer = buffers[number % len(buffers)]
        if source.needs_twin and number >= len(buffers):
            memory.wait(buffer.filled, "measuring")  # its memory on the host is in use until then
        start = time.perf_counter()
        count = source.fill(buffer)
        clock.latencies.append(time.perf_counter() - start)
        frames, number, last = frames + count, number + 1, buffer.filled
    memory.wait(last, "measuring")  # synchronises: the end is within what is timed
    return frames, time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class _Moment:
    """The end of a batch: frames written by then, the clock, the books."""

    frames: int
    seconds: float
    totals: Totals


class SteadySink:
    """Passes frames on, or forgets them on the device, and notes clock and books at the end of every batch.

    The steady state begins once every batch buffer was launched and then recorded, and ends when the source does: at
    both ends the pipeline is full, so what is under way cancels out.
    """

    def __init__(self, inner: Sink | None, clock: Clock, memory: DeviceMemory, batch: int, warm: int) -> None:
        """warm: batches after which the steady state begins."""
        self._inner, self._clock, self._memory, self._batch = inner, clock, memory, batch
        self.on_device = inner is None or getattr(inner, "on_device", False)
        self._warm = warm * batch
        self.started: dict[int, float] = {}
        self._written = 0
        self._begin: _Moment | None = None
        self._end: _Moment | None = None
        self._over = False

    def write(self, frame: Frame) -> None:
        """Write a frame."""
        if self._inner is not None:
            self._inner.write(frame)
        now = time.perf_counter()
        self._clock.latencies.append(now - self.started.pop(frame.index))
        self._written += 1
        if self._written >= self._warm and self._written % self._batch == 0 and not self._over:
            self._end = _Moment(self._written, now, self._memory.traffic.totals)
            self._begin = self._begin or self._end

    def source_ended(self) -> None:
        """No further frames come: what follows is no steady state."""
        self._over = True

    def finish(self) -> None:
        """Finish the file."""
        if self._inner is not None:
            self._inner.finish()

    def abort(self) -> None:
        """Give up the file."""
        if self._inner is not None:
            self._inner.abort()

    def steady(self) -> tuple[int, float] | None:
        """(frames, seconds) of the steady state; None where the clip has none of at least four batches."""
        if self._begin is None or self._end is None or self._end.frames - self._begin.frames < 4 * self._batch:
            return None
        return self._end.frames - self._begin.frames, self._end.seconds - self._begin.seconds

    def steady_latencies(self) -> tuple[float, ...]:
        """Of the frames of the steady state, from the end of their batch's decoding to the end of their writing."""
        if self._begin is None or self._end is None:
            return ()
        return tuple(self._clock.latencies[self._begin.frames : self._end.frames])

    def traffic(self) -> Traffic | None:
        """The books of the steady state, per frame and batch."""
        if self.steady() is None or self._begin is None or self._end is None:
            return None
        books = self._end.totals - self._begin.totals
        frames = self._end.frames - self._begin.frames
        batches = frames / self._batch
        across = {f"{name} to the device": n / frames for name, n in books.to_device.items()}
        across |= {f"{name} to the host": n / frames for name, n in books.to_host.items()}
        return Traffic(
            pcie_bytes_per_frame=across,
            launches_per_batch=sum(books.launches.values()) / batches,
            synchronisations_per_batch=sum(books.waits.values()) / batches,
            allocations_per_batch=books.allocations / batches,
        )


class TimedDeviceSource:
    """A source whose frames are noted when they have been put into their batch."""

    def __init__(self, inner: DeviceSource, sink: SteadySink) -> None:
        self._inner, self._sink = inner, sink
        self.needs_twin = inner.needs_twin

    @property
    def info(self) -> MediaInfo:
        """Of the video."""
        return self._inner.info

    def fill(self, batch: BatchBuffer) -> int:
        """Fill a batch."""
        count = self._inner.fill(batch)
        if count < batch.capacity:
            self._sink.source_ended()
        now = time.perf_counter()
        for frame in batch.frames:
            self._sink.started[frame.index] = now
        return count

    def close(self) -> None:
        """Release the file."""
        self._inner.close()
