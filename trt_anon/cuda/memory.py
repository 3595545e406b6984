"""The memory of a device, and the order of work on it: a protocol, and the host in a GPU's place.

Everything that a pipeline asks of CUDA besides its kernels goes through a `DeviceMemory`, which counts it. NumPy's
memory stands in wherever there is no GPU: there everything that is asked for has happened when the call returns.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trt_anon.cuda.device import Side
from trt_anon.cuda.traffic import Purpose, TrafficAccount
from trt_anon.errors import OutOfDeviceMemory

ALIGNMENT_BYTES = 256
"""Every allocation begins at a multiple of this."""


class Graph(Protocol):
    """Work that was recorded once and can be put on a stream as a whole, on the same arrays."""

    def replay(self, stream: Any) -> None:
        """Put it on the stream and return without waiting."""
        ...


class DeviceMemory(Protocol):
    """A device's memory, capped, and its streams; thread safe, but for each stream."""

    traffic: TrafficAccount

    @property
    def side(self) -> Side:
        """Whose arrays these are: `cupy` on a GPU, else `numpy`."""
        ...

    @property
    def device(self) -> int:
        """The number of the device."""
        ...

    @property
    def used_bytes(self) -> int:
        """What all groups hold."""
        ...

    def free_bytes(self) -> int:
        """How much more may be allocated: what the device has left, within the cap."""
        ...

    def group(self) -> Group:
        """Allocations that are freed together."""
        ...

    def take(self, size_bytes: int) -> Any:
        """For `Group`: zeroed bytes (n,) uint8. Raises OutOfDeviceMemory."""
        ...

    def give_back(self, size_bytes: int) -> None:
        """For `Group`: so many bytes are no longer used."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Zeroed host memory that copies to and from the device need not wait for."""
        ...

    def using(self) -> contextlib.AbstractContextManager[Any]:
        """Within it, this device is the current one of the thread."""
        ...

    def new_stream(self) -> Any:
        """A stream that waits for no other."""
        ...

    def handle(self, stream: Any) -> int:
        """The native handle of a stream, for libraries that are given one."""
        ...

    def context(self) -> int:
        """The native handle of the context that everything here lives in, for libraries that are given one."""
        ...

    def record(self, stream: Any) -> Any:
        """An event: everything that is on the stream now."""
        ...

    def after(self, stream: Any, event: Any) -> None:
        """What is put on the stream from now on runs after the event; the host does not wait."""
        ...

    def wait(self, event: Any, reason: str) -> None:
        """Wait on the host for an event."""
        ...

    def upload(self, target: Any, source: NDArray[Any], stream: Any, purpose: Purpose) -> None:
        """Copy pinned memory to the device; both contiguous and of one size."""
        ...

    def download(self, target: NDArray[Any], source: Any, stream: Any, purpose: Purpose) -> None:
        """Copy from the device to pinned memory; both contiguous and of one size."""
        ...

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """Copy inside the device; the same shape and dtype, each with contiguous rows of any stride."""
        ...

    def capture(self, work: Callable[[], None], stream: Any) -> Graph | None:
        """Record what `work` puts on the stream, without running it; None where the device records nothing."""
        ...


class Group:
    """Device memory that is allocated piece by piece and freed as a whole."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._bytes = 0
        self._arrays: list[Any] = []

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        return self._bytes

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> Any:
        """A zeroed array at a multiple of ALIGNMENT_BYTES. Raises OutOfDeviceMemory."""
        wanted = np.dtype(dtype)
        size = max(math.prod(shape) * wanted.itemsize, 1)
        buffer = self._memory.take(size)
        self._bytes += size
        self._arrays.append(buffer)
        return buffer[: math.prod(shape) * wanted.itemsize].view(wanted).reshape(shape)

    def packed(self, fields: Mapping[str, tuple[tuple[int, ...], DTypeLike]]) -> tuple[Any, dict[str, Any]]:
        """One block (n,) uint8 and, by name, arrays inside it: a single copy moves them all."""
        offsets, size = packed_offsets(fields)
        block = self.empty((size,))
        return block, fields_of(block, fields, offsets)

    def free(self) -> None:
        """Free everything; its arrays must not be used any more."""
        self._arrays.clear()
        self._memory.give_back(self._bytes)
        self._bytes = 0


def packed_offsets(fields: Mapping[str, tuple[tuple[int, ...], DTypeLike]]) -> tuple[dict[str, int], int]:
    """Where each field begins in a block that holds them all, at multiples of 16, and the size of the block."""
    offsets, at = {}, 0
    for name, (shape, dtype) in fields.items():
        offsets[name] = at
        at += -(-math.prod(shape) * np.dtype(dtype).itemsize // 16) * 16
    return offsets, at


def fields_of(
    block: Any, fields: Mapping[str, tuple[tuple[int, ...], DTypeLike]], offsets: Mapping[str, int]
) -> dict[str, Any]:
    """The fields of a block (n,) uint8, as arrays inside it."""
    arrays = {}
    for name, (shape, dtype) in fields.items():
        end = offsets[name] + math.prod(shape) * np.dtype(dtype).itemsize
        arrays[name] = block[offsets[name] : end].view(np.dtype(dtype)).reshape(shape)
    return arrays


class HostMemory:
    """NumPy's memory in the place of a GPU's; streams and events are None. limit_bytes: the cap, None without."""

    side: Side = "numpy"
    device = 0

    def __init__(self, *, limit_bytes: int | None = None, traffic: TrafficAccount | None = None) -> None:
        self.traffic = traffic or TrafficAccount()
        self._limit = limit_bytes
        self.used_bytes = 0

    def free_bytes(self) -> int:
        """What the cap leaves; without one, as much as a large GPU has."""
        return (self._limit if self._limit is not None else 1 << 36) - self.used_bytes

    def group(self) -> Group:
        """See `DeviceMemory.group`."""
        return Group(self)

    def take(self, size_bytes: int) -> Any:
        """See `DeviceMemory.take`."""
        if size_bytes > self.free_bytes():
            raise out_of_memory(size_bytes, self.used_bytes, self._limit)
        room = np.zeros(size_bytes + ALIGNMENT_BYTES, np.uint8)
        self.used_bytes += size_bytes
        self.traffic.allocated(size_bytes)
        begin = -room.ctypes.data % ALIGNMENT_BYTES
        return room[begin : begin + size_bytes]

    def give_back(self, size_bytes: int) -> None:
        """See `DeviceMemory.give_back`."""
        self.used_bytes -= size_bytes

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Plain memory: nothing is copied behind anyone's back."""
        return np.zeros(shape, dtype)

    def using(self) -> contextlib.AbstractContextManager[Any]:
        """Nothing to choose."""
        return contextlib.nullcontext()

    def new_stream(self) -> Any:
        """None stands for every stream."""
        return None

    def handle(self, stream: Any) -> int:
        """0."""
        return 0

    def context(self) -> int:
        """0."""
        return 0

    def record(self, stream: Any) -> Any:
        """None: it has happened."""
        return None

    def after(self, stream: Any, event: Any) -> None:
        """Everything is in order."""

    def wait(self, event: Any, reason: str) -> None:
        """Counted as if it had to wait."""
        self.traffic.waited(reason)

    def upload(self, target: Any, source: NDArray[Any], stream: Any, purpose: Purpose) -> None:
        """See `DeviceMemory.upload`."""
        check_copy(target, source)
        flat(target)[...] = flat(source)
        self.traffic.copied_in(purpose, source.nbytes)

    def download(self, target: NDArray[Any], source: Any, stream: Any, purpose: Purpose) -> None:
        """See `DeviceMemory.download`."""
        check_copy(target, source)
        flat(target)[...] = flat(source)
        self.traffic.copied_out(purpose, source.nbytes)

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """See `DeviceMemory.copy`."""
        if source.ndim == 3 and source.shape[2] == 1:  # as decoders describe luma
            source = source[..., 0]
        if target.shape != source.shape or target.dtype != source.dtype:
            raise ValueError(f"cannot copy {source.dtype} {source.shape} to {target.dtype} {target.shape}")
        target[...] = source
        self.traffic.copied_within(source.nbytes)

    def capture(self, work: Callable[[], None], stream: Any) -> Graph | None:
        """None: nothing is recorded."""
        return None


def out_of_memory(wanted_bytes: int, used_bytes: int, limit_bytes: int | None) -> OutOfDeviceMemory:
    """The error for an allocation that does not fit."""
    cap = f", of {limit_bytes / 2**20:.0f} MiB that may be used (--gpu-memory)" if limit_bytes is not None else ""
    return OutOfDeviceMemory(
        f"the device has no {wanted_bytes / 2**20:.1f} MiB left beside {used_bytes / 2**20:.1f} MiB in use{cap}"
    )


def check_copy(target: Any, source: Any) -> None:
    """Raise ValueError where two arrays cannot be copied as one piece."""
    if target.nbytes != source.nbytes or not source.flags.c_contiguous or not target.flags.c_contiguous:
        raise ValueError(f"a copy needs contiguous arrays of one size, not {source.nbytes} and {target.nbytes} bytes")


def flat(array: Any) -> Any:
    """The bytes of a contiguous array."""
    return array.reshape(-1).view(np.uint8)
