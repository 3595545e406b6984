"""Arrays of other libraries that lie on a GPU, taken as they are: CuPy, PyTorch, PyCUDA and DALI; nothing is copied.

What they offer decides, not who they are: `__cuda_array_interface__` (CuPy, PyCUDA's GPUArray, Numba, DALI) or DLPack
(PyTorch, JAX, DALI). DALI's lists of tensors give one by `as_tensor`. On the host, where NumPy stands in for a GPU,
DLPack of host memory is taken, so that all of this runs without one.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from trt_anon._optional import require
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import UsageError

_CPU, _CUDA, _CUDA_MANAGED = 1, 2, 13  # DLDeviceType


def is_foreign(value: Any) -> bool:
    """Whether this is an array, or a list of arrays of one shape, that may lie on a GPU: anything but NumPy's."""
    if isinstance(value, np.ndarray):
        return False
    if hasattr(value, "__cuda_array_interface__"):  # raises in PyTorch for tensors of a CPU, which is no AttributeError
        return True
    return hasattr(value, "__dlpack__") or hasattr(value, "as_tensor")


def as_device_array(value: Any, memory: DeviceMemory, stream: Any, name: str = "frames") -> Any:
    """The same memory as an array of the device: CuPy's, or NumPy's where the host stands in for a GPU.

    stream: the caller's, on which the array is ready, or has been made so by the producer where DLPack tells it to.
    Raises UsageError where the array lies elsewhere, is read-only, or offers no way to share it.
    """
    if hasattr(value, "as_tensor") and not hasattr(value, "__dlpack__"):
        value = value.as_tensor()
    return _on_gpu(value, memory, stream, name) if memory.side == "cupy" else _on_host(value, name)


@contextlib.contextmanager
def callers_context(memory: DeviceMemory, driver: Any = None) -> Iterator[None]:
    """Within it anything may be done on the GPU; afterwards the caller's thread has the context that it had before.

    CUDA's runtime, and so CuPy, makes the primary context current and leaves it so, which would take PyCUDA's from
    under its feet. driver: the driver's library, by default the one that is there.
    """
    if memory.side == "numpy" and driver is None:
        yield
        return
    driver = driver or ctypes.CDLL("libcuda.so.1")
    before = ctypes.c_void_p()
    failed = driver.cuCtxGetCurrent(ctypes.byref(before))
    try:
        yield
    finally:
        if not failed and before.value:
            driver.cuCtxSetCurrent(before)


def _on_gpu(value: Any, memory: DeviceMemory, stream: Any, name: str) -> Any:
    cupy = require("cupy", "working on arrays of a GPU")
    interface = _interface(value)
    if interface is not None:
        if interface["data"][1]:
            raise UsageError(f"{name}: the array is read-only, so nothing can be redacted in it")
        array = cupy.asarray(value)
        producer = interface.get("stream")
        if producer is not None and _legacy(producer) != _legacy(memory.handle(stream)):
            memory.after(stream, memory.record(stream_at(int(producer))))  # what is on the producer's comes first
    elif hasattr(value, "__dlpack__"):
        kind, number = value.__dlpack_device__()
        if int(kind) not in (_CUDA, _CUDA_MANAGED):
            raise UsageError(f"{name}: the array does not lie on a GPU; give it as a NumPy array")
        if int(number) != memory.device:
            raise UsageError(f"{name}: the array lies on GPU {number}, this Anonymizer works on GPU {memory.device}")
        with stream:
            array = cupy.from_dlpack(value)
    else:
        raise UsageError(f"{name}: {type(value).__name__} offers neither __cuda_array_interface__ nor DLPack")
    if int(array.device.id) != memory.device:
        raise UsageError(
            f"{name}: the array lies on GPU {array.device.id}, this Anonymizer works on GPU {memory.device}"
        )
    return array


def _on_host(value: Any, name: str) -> Any:
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__dlpack__"):
        raise UsageError(f"{name}: {type(value).__name__} offers no DLPack")
    if int(value.__dlpack_device__()[0]) != _CPU:
        raise UsageError(f"{name}: the array lies on a GPU; this Anonymizer has none")
    array = np.from_dlpack(value)
    if not array.flags.writeable:
        raise UsageError(f"{name}: the array is read-only, so nothing can be redacted in it")
    return array


def _interface(value: Any) -> dict[str, Any] | None:
    """What an array says of its place on a GPU; None where it says nothing."""
    try:
        found: dict[str, Any] | None = getattr(value, "__cuda_array_interface__", None)
    except (TypeError, RuntimeError):  # PyTorch's way to say that a tensor needs DLPack, or is none of a GPU
        return None
    return found


def stream_at(handle: int) -> Any:
    """CuPy's object for a stream that another library has made."""
    cupy = require("cupy", "working on arrays of a GPU")
    if hasattr(cupy.cuda.Stream, "from_external"):  # CuPy 14; what was there before is deprecated now
        return cupy.cuda.Stream.from_external(_Handle(handle))
    return cupy.cuda.ExternalStream(handle)


class _Handle:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _legacy(handle: int) -> int:
    """Both names of the default stream as one."""
    return 0 if handle == 1 else int(handle)
