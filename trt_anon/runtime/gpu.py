"""Which GPUs there are, asked of the driver alone: no package, no CUDA toolkit, no context."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: what it is called, its architecture as `sm_86`, and its memory."""

    name: str
    target: str
    memory_bytes: int


def find_gpus(library: str = _LIBRARY) -> tuple[Gpu, ...]:
    """The GPUs that this process may use, in the driver's order (CUDA_VISIBLE_DEVICES); none without a driver."""
    try:
        driver = ctypes.CDLL(library)
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return ()
        return tuple(_gpu(driver, index) for index in range(count.value))
    except (OSError, AttributeError):  # no such library, or none of a driver
        return ()


def why_no_gpu(library: str = _LIBRARY) -> str:
    """Why `find_gpus` finds none, in words."""
    if not Path("/proc/driver/nvidia/version").exists():
        return "there is no NVIDIA driver on this machine"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"an NVIDIA driver is loaded, but {library} is not within reach (in a container: is the GPU handed in?)"
    code = driver.cuInit(0)
    return f"the NVIDIA driver refuses (error {code})" if code else "the driver shows no GPU (CUDA_VISIBLE_DEVICES?)"


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetName(name, len(name), device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    )
    if failed:
        raise OSError(f"the NVIDIA driver does not describe GPU {index} (error {failed})")
    return Gpu(name.value.decode(errors="replace"), f"sm_{major.value}{minor.value}", memory.value)
