"""The only loader of CUDA kernels: NumPy arrays run the host build, CuPy arrays the GPU.

On a GPU a fat binary that the package carries is used where it is of the very same source, else NVRTC compiles for the
device at the first launch, and CuPy keeps the result on disk. Products are not contracted into fused additions, on
either side, so that both compute the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trt_anon._optional import require
from trt_anon.cuda.device import Accounting, side_of
from trt_anon.cuda.host import HostKernel, HostOptions
from trt_anon.errors import KernelError

DEVICE_FLAGS = ("-std=c++17", "-fmad=false")
"""What NVRTC and nvcc are told, apart from the architecture."""

MAX_THREADS = 1024
MAX_SHARED_BYTES = 232448
_MAX_GRID = (2**31 - 1, 65535, 65535)


class Kernel:
    """A `__global__` function of a .cu file, compiled with the given defines.

    source: the file, which compiles alone. name: the function, declared `extern "C"`. defines: values for its `#ifndef`
    tunables. host: how strictly the host build runs; TRT_ANON_HOST_CUDA decides where it is None. accounting: where
    launches are counted; counted_as: under which name, if not the function's. Loading happens at the first launch. An
    instance may be used by several threads, but for its accounting.
    """

    def __init__(
        self,
        source: Path,
        name: str,
        defines: Mapping[str, int | float | str] | None = None,
        *,
        host: HostOptions | None = None,
        accounting: Accounting | None = None,
        counted_as: str | None = None,
    ) -> None:
        self.source = source
        self.name = name
        self.defines = dict(defines or {})
        self._host_options = host
        self._accounting = accounting
        self._counted_as = counted_as or name
        self._host: HostKernel | None = None
        self._loaded: dict[int, Any] = {}  # by CuPy's device number

    def launch(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        stream: Any = None,
        shared_bytes: int = 0,
        *,
        reaches: Sequence[Any] = (),
        bytes_moved: int = 0,
    ) -> None:
        """Launch on the stream (a CuPy stream, or None for CuPy's current one) and return without waiting.

        args: C-contiguous arrays; NumPy scalars of the declared width; structures, as NumPy arrays of a structured
        dtype and shape (1,), which travel by value. reaches: arrays that the kernel reaches through addresses in a
        structure; they must live until the kernel has run. bytes_moved: what goes into the accounting.
        A grid without blocks launches nothing. Raises TypeError and ValueError for wrong arguments, MissingError where
        a compiler or CuPy is missing, KernelError where the kernel does not compile or is caught doing wrong.
        """
        grid3, block3 = _three(grid, _MAX_GRID, "grid", 0), _three(block, (MAX_THREADS, MAX_THREADS, 64), "block", 1)
        if block3[0] * block3[1] * block3[2] > MAX_THREADS:
            raise ValueError(f"{self.name}: a block has at most {MAX_THREADS} threads, not {block}")
        if not 0 <= shared_bytes <= MAX_SHARED_BYTES:
            raise ValueError(f"{self.name}: shared_bytes must be 0 to {MAX_SHARED_BYTES}, not {shared_bytes}")
        pointers = [arg for place, arg in enumerate(args) if self._is_pointer(place, arg)]
        side = side_of([*pointers, *reaches])
        if 0 in grid3:
            return
        if side == "numpy":
            if stream is not None:
                raise TypeError(f"{self.name}: NumPy arrays have no stream")
            if self._host is None:
                options = self._host_options or HostOptions.from_environment()
                self._host = HostKernel(self.source, self.name, self.defines, options)
            self._host.launch(grid3, block3, args, shared_bytes)
        else:
            self._launch_on_gpu(grid3, block3, args, [*pointers, *reaches], stream, shared_bytes)
        if self._accounting is not None:
            self._accounting.count(self._counted_as, bytes_moved)

    def _is_pointer(self, place: int, arg: Any) -> bool:
        if isinstance(arg, np.generic):
            return False
        if not hasattr(arg, "dtype"):
            raise TypeError(
                f"{self.name}, argument {place}: give a NumPy scalar of the declared width, not {type(arg)}"
            )
        if arg.dtype.fields is not None:
            if not isinstance(arg, np.ndarray) or arg.shape != (1,):
                raise TypeError(f"{self.name}, argument {place}: a structure is a NumPy array of shape (1,)")
            return False
        if not arg.flags.c_contiguous:
            raise ValueError(f"{self.name}, argument {place}: the array must be C-contiguous")
        if isinstance(arg, np.ndarray) and not arg.flags.aligned:
            raise ValueError(f"{self.name}, argument {place}: the array is not aligned for {arg.dtype}")
        return True

    def _launch_on_gpu(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        arrays: Sequence[Any],
        stream: Any,
        shared_bytes: int,
    ) -> None:
        cupy = require("cupy", f"running {self.source.name} on a GPU")
        devices = {array.device.id for array in arrays}
        current = int(cupy.cuda.Device().id)
        if devices - {current}:
            raise ValueError(f"{self.name}: arrays of device {sorted(devices)}, but device {current} is current")
        try:
            function = self._loaded.get(current)
            if function is None:
                function = self._loaded[current] = self._load(cupy)
            if shared_bytes > function.max_dynamic_shared_size_bytes:
                function.max_dynamic_shared_size_bytes = shared_bytes
            with stream if stream is not None else cupy.cuda.get_current_stream():
                function(grid, block, tuple(args), shared_mem=shared_bytes)
        except (cupy.cuda.compiler.CompileException, cupy.cuda.driver.CUDADriverError) as error:
            raise KernelError(f"kernel {self.name} of {self.source.name}: {error}") from error

    def _load(self, cupy: Any) -> Any:
        carried = fat_binary(self.source)
        if carried.exists() and not self.defines:
            return cupy.RawModule(path=str(carried)).get_function(self.name)
        defines = tuple(f"-D{key}={value}" for key, value in sorted(self.defines.items()))
        code = self.source.read_text(encoding="utf-8")
        return cupy.RawModule(code=code, options=(*DEVICE_FLAGS, *defines), backend="nvrtc").get_function(self.name)


def fat_binary(source: Path) -> Path:
    """Where the package would carry the fat binary of a .cu file; its name holds the hash of the source."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    return Path(__file__).with_name("fatbin") / f"{source.stem}-{digest[:16]}.fatbin"


def _three(sizes: tuple[int, ...], most: tuple[int, int, int], what: str, least: int) -> tuple[int, int, int]:
    x, y, z = (*sizes, 1, 1, 1)[:3]
    if not 1 <= len(sizes) <= 3 or any(not least <= n <= m for n, m in zip((x, y, z), most, strict=True)):
        raise ValueError(f"{what} must be one to three numbers of {least} to {most}, not {sizes}")
    return x, y, z
