"""Memory and streams of the device that a runner works on: a GPU through CuPy, or the host in its place."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Protocol

import numpy as np

from trt_anon._optional import require
from trt_anon.runtime.device_tensors import Memory

ALIGNMENT_BYTES = 256


class RunnerMemory(Protocol):
    """Where a runner's own buffers lie, and what order its work has."""

    @property
    def device(self) -> int:
        """The number of the device."""
        ...

    @property
    def kind(self) -> Memory:
        """Where the arrays of the caller have to lie."""
        ...

    def allocate(self, size_bytes: int) -> tuple[Any, int]:
        """Zeroed bytes, as long as the first value lives, and their address, aligned to ALIGNMENT_BYTES."""
        ...

    def using(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, this device is the current one."""
        ...

    def new_stream(self) -> Any:
        """A stream of its own."""
        ...

    def handle(self, stream: Any) -> int:
        """The native handle of a stream; of None, the current stream's."""
        ...

    def order(self, first: Any, then: Any) -> None:
        """What is put on the stream `then` from now on runs after what is on `first`; None is the current stream."""
        ...

    def wait(self, stream: Any) -> None:
        """Wait until everything on the stream has run."""
        ...


class CudaRunnerMemory:
    """A GPU: memory from CuPy's pool, which its owner may bound, and CuPy's streams. device: its number, None is the
    current one.
    """

    kind: Memory = "cuda"

    def __init__(self, device: int | None = None) -> None:
        self._cupy = require("cupy", "running a detector on a GPU")
        self._device = self._cupy.cuda.Device(device)
        self._local = threading.local()

    @property
    def device(self) -> int:
        """CUDA's number of the GPU."""
        return int(self._device.id)

    def allocate(self, size_bytes: int) -> tuple[Any, int]:
        """Zeroed bytes of CuPy's pool, whose blocks are aligned to 512."""
        with self._device:
            buffer = self._cupy.zeros(max(size_bytes, 1), np.uint8)
            self._cupy.cuda.get_current_stream().synchronize()  # synchronises: zeroed before another stream uses it
        return buffer, int(buffer.data.ptr)

    def using(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, this device is the current one."""
        device: contextlib.AbstractContextManager[Any] = self._device
        return device

    def new_stream(self) -> Any:
        """A stream that does not wait for the default one."""
        with self._device:
            return self._cupy.cuda.Stream(non_blocking=True)

    def handle(self, stream: Any) -> int:
        """The address of a CuPy stream; of None, of CuPy's current one."""
        return int((self._cupy.cuda.get_current_stream() if stream is None else stream).ptr)

    def order(self, first: Any, then: Any) -> None:
        """What is put on the stream `then` from now on runs after what is on `first`; nothing waits on the host."""
        event = getattr(self._local, "event", None)
        if event is None:
            event = self._local.event = self._cupy.cuda.Event(disable_timing=True)
        current = self._cupy.cuda.get_current_stream()
        event.record(current if first is None else first)
        (current if then is None else then).wait_event(event)

    def wait(self, stream: Any) -> None:
        """Wait until everything on the stream has run."""
        stream.synchronize()  # synchronises: asked for


class HostRunnerMemory:
    """NumPy's memory in the place of a GPU's; what is put on a stream has run when the call returns."""

    kind: Memory = "host"
    device = 0

    def allocate(self, size_bytes: int) -> tuple[Any, int]:
        """Zeroed bytes of the host."""
        room = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8)
        return room, -(-room.ctypes.data // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def using(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing to choose."""
        return contextlib.nullcontext()

    def new_stream(self) -> Any:
        """None stands for every stream."""
        return None

    def handle(self, stream: Any) -> int:
        """0."""
        return 0

    def order(self, first: Any, then: Any) -> None:
        """Everything is in order."""

    def wait(self, stream: Any) -> None:
        """Nothing to wait for."""
