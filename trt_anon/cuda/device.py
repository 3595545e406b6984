"""Where an array lives, and what was asked of the device: the few things that every launcher needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from trt_anon._optional import require

Side = Literal["numpy", "cupy"]


def side_of(arrays: Iterable[Any]) -> Side:
    """`numpy` (the kernel's host build runs) or `cupy` (the GPU does), found without importing CuPy.

    Raises TypeError for anything else, and where arrays of both kinds are mixed.
    """
    sides = {_side(array) for array in arrays}
    if len(sides) != 1:
        raise TypeError(
            "a kernel needs arrays, all of NumPy or all of CuPy; got " + (" and ".join(sorted(sides)) or "none")
        )
    return sides.pop()


def _side(array: Any) -> Side:
    if isinstance(array, np.ndarray):
        return "numpy"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "__cuda_array_interface__"):
        return "cupy"
    raise TypeError(f"a kernel works on NumPy or CuPy arrays, not on {type(array).__name__}")


def address_of(array: Any) -> int:
    """The address of an array's first element, for tables of pointers that a kernel reads."""
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def upload(target: Any, source: Any, stream: Any = None) -> None:
    """Copy a NumPy array into a CuPy array of as many bytes, in the order of the stream, without waiting if pinned.

    CuPy's own `ndarray.set` refuses while a graph is captured; the copy itself may well be part of one.
    """
    cupy = require("cupy", "copying to a GPU")
    if target.nbytes != source.nbytes or not source.flags.c_contiguous or not target.flags.c_contiguous:
        raise ValueError(f"a copy needs contiguous arrays of one size, not {source.nbytes} and {target.nbytes} bytes")
    chosen = stream if stream is not None else cupy.cuda.get_current_stream()
    runtime = cupy.cuda.runtime
    runtime.memcpyAsync(target.data.ptr, source.ctypes.data, source.nbytes, runtime.memcpyHostToDevice, chosen.ptr)


@dataclass(slots=True)
class Traffic:
    """What one purpose has cost so far: launches, and the bytes they had to read and write."""

    launches: int = 0
    bytes_moved: int = 0


class Accounting:
    """Counts launches and bytes by kernel, so that tests and benchmarks can hold a pipeline to its budget.

    For one thread at a time; give each pipeline its own.
    """

    def __init__(self) -> None:
        self.by_kernel: dict[str, Traffic] = {}

    def count(self, kernel: str, bytes_moved: int) -> None:
        """Note one launch."""
        traffic = self.by_kernel.setdefault(kernel, Traffic())
        traffic.launches += 1
        traffic.bytes_moved += bytes_moved

    @property
    def total(self) -> Traffic:
        """The sum over all kernels."""
        each = self.by_kernel.values()
        return Traffic(sum(t.launches for t in each), sum(t.bytes_moved for t in each))
