"""Frames on a device: how their planes lie in one piece of memory, and the ring of batches that a pipeline fills."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.memory import DeviceMemory, Group
from trt_anon.types import Frame, PixelFormat

PITCH_BYTES = 256
"""Rows begin at multiples of this, as NVDEC's do."""


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Where the planes of frames of one format and size lie in their memory, one behind the other.

    offsets, pitches: of each plane, in bytes. size_bytes: of a frame, a multiple of PITCH_BYTES.
    """

    pixel_format: PixelFormat
    width_px: int
    height_px: int
    offsets: tuple[int, ...]
    pitches: tuple[int, ...]
    size_bytes: int

    @classmethod
    def of(cls, pixel_format: PixelFormat, width_px: int, height_px: int) -> FrameLayout:
        """The layout for frames of that format and size."""
        offsets, pitches, at = [], [], 0
        for shape in pixel_format.plane_shapes(width_px, height_px):
            row = int(np.prod(shape[1:])) * pixel_format.dtype.itemsize
            offsets.append(at)
            pitches.append(-(-row // PITCH_BYTES) * PITCH_BYTES)
            at += shape[0] * pitches[-1]
        return cls(pixel_format, width_px, height_px, tuple(offsets), tuple(pitches), at)

    def planes(self, memory: Any) -> tuple[Any, ...]:
        """The planes in a frame's memory (size_bytes,) uint8, NumPy's or CuPy's; they share it."""
        found = []
        shapes = self.pixel_format.plane_shapes(self.width_px, self.height_px)
        for shape, offset, pitch in zip(shapes, self.offsets, self.pitches, strict=True):
            rows = memory[offset : offset + shape[0] * pitch].view(self.pixel_format.dtype)
            samples = int(np.prod(shape[1:]))
            found.append(rows.reshape(shape[0], -1)[:, :samples].reshape(shape))  # a view: rows stay whole
        return tuple(found)


class BatchBuffer:
    """Room for one batch of frames on the device, and its twin on the host where frames cross to or from it.

    planes: of each frame. frames: those that are in it, as the source described them; fewer than `capacity` only at the
    end of a file. filled: the event after which the planes hold them. host_planes: of each frame, in pinned memory;
    None without a twin.
    """

    def __init__(self, layout: FrameLayout, capacity: int, memory: DeviceMemory, group: Group, *, twin: bool) -> None:
        self.layout, self.capacity = layout, capacity
        self.block = group.empty((capacity, layout.size_bytes))
        self.planes = [layout.planes(self.block[place]) for place in range(capacity)]
        self.host_block: NDArray[np.uint8] | None = memory.pinned((capacity, layout.size_bytes)) if twin else None
        self.host_planes: list[tuple[Any, ...]] | None = None
        if self.host_block is not None:
            self.host_planes = [layout.planes(self.host_block[place]) for place in range(capacity)]
        self.frames: list[Frame] = []
        self.filled: Any = None
        self.redacted: Any = None

    def __repr__(self) -> str:
        return f"BatchBuffer({len(self.frames)} of {self.capacity} frames)"


class BatchRing:
    """The batches of a pipeline: taken to be filled, given back when nobody looks at their frames any more.

    Thread safe; `waited_seconds` were spent in `take`. However far the stages are apart, no more than these frames are
    ever on the device.
    """

    def __init__(
        self, layout: FrameLayout, capacity: int, batches: int, memory: DeviceMemory, group: Group, *, twin: bool
    ) -> None:
        self.buffers = tuple(BatchBuffer(layout, capacity, memory, group, twin=twin) for _ in range(batches))
        self._free: deque[BatchBuffer] = deque(self.buffers)
        self._stopped = False
        self.waited_seconds = 0.0
        self._changed = threading.Condition()

    def take(self) -> BatchBuffer | None:
        """A free batch, waiting for one; None once the ring was stopped."""
        began = time.perf_counter()
        with self._changed:
            while not self._free and not self._stopped:
                self._changed.wait()
            self.waited_seconds += time.perf_counter() - began
            if self._stopped:
                return None
            return self._free.popleft()

    def give_back(self, batch: BatchBuffer) -> None:
        """The batch may be filled again; all work on it is done."""
        batch.frames, batch.filled, batch.redacted = [], None, None
        with self._changed:
            self._free.append(batch)
            self._changed.notify()

    def stop(self) -> None:
        """Nobody is waited for any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
