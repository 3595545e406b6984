"""A GPU's memory through CuPy: see `memory.DeviceMemory`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from trt_anon._optional import require
from trt_anon.cuda.device import Side
from trt_anon.cuda.memory import Graph, Group, check_copy, out_of_memory
from trt_anon.cuda.traffic import Purpose, TrafficAccount
from trt_anon.errors import DeviceFailed, DeviceMissing, OutOfDeviceMemory

_PURPOSE = "working on a GPU"


class CudaMemory:
    """A GPU's memory, from CuPy's pool. device: its number. limit_bytes: the cap of what groups hold, None without."""

    side: Side = "cupy"

    def __init__(
        self, device: int = 0, *, limit_bytes: int | None = None, traffic: TrafficAccount | None = None
    ) -> None:
        self._cupy = require("cupy", _PURPOSE)
        self._runtime = self._cupy.cuda.runtime
        try:
            count = int(self._runtime.getDeviceCount())
        except self._runtime.CUDARuntimeError as error:
            raise DeviceMissing(f"CUDA does not start: {error}") from error
        if not 0 <= device < count:
            raise DeviceMissing(f"there is no GPU {device}: this machine shows {count}, numbered from 0")
        self.traffic = traffic or TrafficAccount()
        self._device = self._cupy.cuda.Device(device)
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._used = 0

    @property
    def device(self) -> int:
        """CUDA's number of the GPU."""
        return int(self._device.id)

    @property
    def used_bytes(self) -> int:
        """What all groups hold."""
        return self._used

    def free_bytes(self) -> int:
        """What the driver has left and what CuPy's pool keeps for later, within the cap."""
        with self.using():
            free, _ = self._runtime.memGetInfo()
            there = int(free) + int(self._cupy.get_default_memory_pool().free_bytes())
        return there if self._limit is None else min(there, self._limit - self._used)

    def group(self) -> Group:
        """See `DeviceMemory.group`."""
        return Group(self)

    def take(self, size_bytes: int) -> Any:
        """See `DeviceMemory.take`; CuPy's blocks are aligned to 512 bytes."""
        with self._lock:
            if self._limit is not None and self._used + size_bytes > self._limit:
                raise out_of_memory(size_bytes, self._used, self._limit)
            with self.using():
                try:
                    buffer = self._cupy.zeros(size_bytes, np.uint8)
                except self._cupy.cuda.memory.OutOfMemoryError as error:
                    raise out_of_memory(size_bytes, self._used, None) from error
                # synchronises: zeroed before another stream uses it; only while a pipeline is set up
                self._cupy.cuda.get_current_stream().synchronize()
            self._used += size_bytes
            self.traffic.allocated(size_bytes)
        return buffer

    def give_back(self, size_bytes: int) -> None:
        """See `DeviceMemory.give_back`; what the pool does not need goes back to the driver."""
        with self._lock:
            self._used -= size_bytes
            with self.using():
                self._cupy.get_default_memory_pool().free_all_blocks()

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
        """Page-locked memory. Raises OutOfDeviceMemory where the driver has none."""
        with self.using():
            cupyx = require("cupyx", _PURPOSE)
            try:
                array: NDArray[Any] = cupyx.zeros_pinned(shape, np.dtype(dtype))
            except (self._runtime.CUDARuntimeError, self._cupy.cuda.memory.OutOfMemoryError) as error:
                raise OutOfDeviceMemory(f"the driver locks no {shape} {np.dtype(dtype)} of host memory") from error
        return array

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Within it, this GPU is current; CUDA's own errors become DeviceFailed and OutOfDeviceMemory."""
        runtime = self._runtime
        try:
            with self._device:
                yield
        except (runtime.CUDARuntimeError, self._cupy.cuda.driver.CUDADriverError) as error:
            raise DeviceFailed(f"GPU {self.device}: {error}") from error
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            raise OutOfDeviceMemory(f"GPU {self.device}: {error}") from error

    def new_stream(self) -> Any:
        """A stream that does not wait for the default one."""
        with self.using():
            return self._cupy.cuda.Stream(non_blocking=True)

    def handle(self, stream: Any) -> int:
        """The address of a stream; 0 is the default one."""
        return 0 if stream is None else int(stream.ptr)

    def context(self) -> int:
        """The driver's handle of the GPU's primary context, which CuPy works in."""
        with self.using():
            self._runtime.free(0)  # makes the context current
            return int(self._cupy.cuda.driver.ctxGetCurrent())

    def record(self, stream: Any) -> Any:
        """An event without a time, so that recording costs nothing."""
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def after(self, stream: Any, event: Any) -> None:
        """See `DeviceMemory.after`."""
        if event is not None:
            stream.wait_event(event)

    def wait(self, event: Any, reason: str) -> None:
        """See `DeviceMemory.wait`."""
        self.traffic.waited(reason)
        if event is not None:
            event.synchronize()  # synchronises: the reason is the caller's

    def upload(self, target: Any, source: NDArray[Any], stream: Any, purpose: Purpose) -> None:
        """See `DeviceMemory.upload`."""
        check_copy(target, source)
        kind = self._runtime.memcpyHostToDevice
        self._runtime.memcpyAsync(target.data.ptr, source.ctypes.data, source.nbytes, kind, stream.ptr)
        self.traffic.copied_in(purpose, source.nbytes)

    def download(self, target: NDArray[Any], source: Any, stream: Any, purpose: Purpose) -> None:
        """See `DeviceMemory.download`."""
        check_copy(target, source)
        kind = self._runtime.memcpyDeviceToHost
        self._runtime.memcpyAsync(target.ctypes.data, source.data.ptr, source.nbytes, kind, stream.ptr)
        self.traffic.copied_out(purpose, source.nbytes)

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """See `DeviceMemory.copy`; the source may be any array with `__cuda_array_interface__`."""
        shape, dtype, pitch, address = _rows_of(source)
        if tuple(target.shape) != shape or target.dtype != dtype:
            raise ValueError(f"cannot copy {dtype} {shape} to {target.dtype} {target.shape}")
        width = int(np.prod(shape[1:])) * dtype.itemsize
        self._runtime.memcpy2DAsync(
            target.data.ptr,
            target.strides[0],
            address,
            pitch,
            width,
            shape[0],
            self._runtime.memcpyDeviceToDevice,
            stream.ptr,
        )
        self.traffic.copied_within(width * shape[0])

    def capture(self, work: Callable[[], None], stream: Any) -> Graph | None:
        """Record a CUDA graph; see `DeviceMemory.capture`."""
        with self.using(), stream, self.traffic.recording() as books:
            stream.begin_capture()
            try:
                work()
            except BaseException:
                stream.end_capture()  # else the stream stays unusable
                raise
            graph = stream.end_capture()
        return _CudaGraph(graph, self.traffic, books)


class _CudaGraph:
    def __init__(self, graph: Any, traffic: TrafficAccount, books: Any) -> None:
        self._graph, self._traffic, self._books = graph, traffic, books

    def replay(self, stream: Any) -> None:
        self._graph.launch(stream)
        self._traffic.replayed(self._books)


def _rows_of(array: Any) -> tuple[tuple[int, ...], np.dtype[Any], int, int]:
    """Shape, dtype, bytes from row to row, and address, of an array whose rows are contiguous."""
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(int(n) for n in interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if len(shape) == 3 and shape[2] == 1:  # as decoders describe luma
        shape, strides = shape[:2], None if strides is None else strides[:2]
    row = int(np.prod(shape[1:])) * dtype.itemsize
    if strides is not None:
        expected = dtype.itemsize
        for side, stride in zip(reversed(shape[1:]), reversed(strides[1:]), strict=True):
            if side != 1 and stride != expected:
                raise ValueError(f"rows must be contiguous, got the strides {strides} for {shape}")
            expected *= side
    return shape, dtype, row if strides is None else int(strides[0]), int(interface["data"][0])
