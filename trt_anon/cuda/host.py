"""The host build of a kernel: the same .cu file, compiled by the C++ compiler and run on the CPU.

It exists to prove kernels where there is no GPU, and finds what a GPU often forgives: see `HostOptions`.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import KernelError, MissingError

INCLUDE = Path(__file__).with_name("include")
FLAGS = (
    *("-std=c++17", "-O2", "-shared", "-fPIC", "-pthread"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),  # `#pragma unroll` is for the GPU
    *("-ffp-contract=off", "-fno-strict-aliasing"),  # as device compilers are told, and as they are
    *("-fvisibility=hidden", "-fno-gnu-unique"),  # kernels share no variables
)
CHECKING_FLAGS = (
    "-fsanitize=bounds,shift,integer-divide-by-zero,signed-integer-overflow,float-cast-overflow,return",
    "-fsanitize-undefined-trap-on-error",
)
"""Undefined behaviour becomes a trap, which the launch reports; no runtime library is needed."""

SANITIZER_FLAGS = ("-fsanitize=address", "--param=asan-stack=0", "-fno-omit-frame-pointer", "-g1")
"""Every access to memory is checked, but for the stacks, which are fibres'."""

_FENCE = 0xA5
_GUARD = 1 << 20  # bytes in front of an array's pages and behind them that cannot be touched
_faults = threading.Lock()  # signal handlers belong to the process: one checked launch at a time


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How strictly a host build runs.

    seed: not 0 runs blocks, and the threads within them, in an order drawn from it, so that a missing barrier or an
    assumption about order shows. poison: a byte (0 to 255) that shared memory is filled with before every block, and
    that must still be there behind dynamic shared memory after it. check: arrays lie between pages that cannot be
    touched, undefined behaviour traps, and a fault is an error that names the thread. threads: host threads that share
    the blocks, 0 for one per CPU. address: with GCC's address sanitizer, whose runtime has to be preloaded; it ends the
    process with a report at the first access outside of every array, also of those that are reached through tables.
    """

    seed: int = 0
    poison: int | None = None
    check: bool = False
    threads: int = 0
    address: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0 or self.threads < 0 or (self.poison is not None and not 0 <= self.poison <= 255):
            raise ValueError(f"seed and threads must be >= 0 and poison a byte: {self}")

    @classmethod
    def from_environment(cls) -> HostOptions:
        """What TRT_ANON_HOST_CUDA says, as in `seed=3,poison=255,check,threads=1`; ValueError if it says it wrongly."""
        values: dict[str, Any] = {}
        for part in filter(None, os.environ.get("TRT_ANON_HOST_CUDA", "").split(",")):
            name, _, value = part.strip().partition("=")
            switch = name in ("check", "address")
            if not switch and (name not in ("seed", "poison", "threads") or not value.isdecimal()):
                raise ValueError(f"TRT_ANON_HOST_CUDA: cannot read {part!r}")
            values[name] = True if switch else int(value)
        return cls(**values)


class _Options(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("poison", ctypes.c_int32),
        ("trap", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


class HostKernel:
    """One kernel of one .cu file with its defines, compiled at its first use or found in the cache."""

    def __init__(self, source: Path, name: str, defines: Mapping[str, int | float | str], options: HostOptions) -> None:
        self.name = name
        self.options = options
        flags = [*FLAGS, *(CHECKING_FLAGS if options.check else ())]
        if options.address:
            if not hasattr(ctypes.CDLL(None), "__asan_init"):  # loaded later, it would end the process
                raise MissingError(
                    "the address sanitizer must be there before Python is: start it with "
                    "LD_PRELOAD=$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0"
                )
            flags += SANITIZER_FLAGS
        self._library = ctypes.CDLL(str(build(source, name, defines, flags)))
        self._library.host_cuda_signature.restype = ctypes.c_char_p
        self.parameters: tuple[str, ...] = tuple(self._library.host_cuda_signature().decode().split(","))

    def launch(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_bytes: int) -> None:
        """Run all blocks, and return when they have; `args` are arrays, NumPy scalars and structures of shape (1,).

        Raises TypeError where they are not what the kernel declares, KernelError where the kernel does wrong.
        """
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, got {len(args)}")
        for place, (declared, arg) in enumerate(zip(self.parameters, args, strict=True)):
            _check_argument(f"{self.name}, argument {place}", declared, arg)
        if not self.options.check:
            self._run(grid, block, args, shared_bytes)
            return
        fenced = _Fenced(args)
        with _faults:
            self._run(grid, block, fenced.args, shared_bytes)
        fenced.copy_back(self.name)

    def _run(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_bytes: int) -> None:
        values: list[Any] = []
        for arg in args:
            if _by_value(arg):
                values.append(np.ascontiguousarray(arg))
            else:
                values.append(np.array([arg.ctypes.data], np.uint64))
        pointers = (ctypes.c_void_p * max(1, len(values)))(*[value.ctypes.data for value in values])
        chosen = self.options
        options = _Options(
            chosen.seed,
            -1 if chosen.poison is None else chosen.poison,
            chosen.check,
            chosen.threads or os.cpu_count() or 1,
        )
        message = ctypes.create_string_buffer(512)
        failed = self._library.host_cuda_launch(
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            ctypes.c_uint(shared_bytes),
            pointers,
            ctypes.byref(options),
            message,
            ctypes.c_size_t(len(message)),
        )
        if failed:
            raise KernelError(f"kernel {self.name}: {message.value.decode(errors='replace')}")


def _by_value(arg: Any) -> bool:
    return isinstance(arg, np.generic) or arg.dtype.fields is not None


def _code(dtype: np.dtype[Any]) -> str:
    return f"S{dtype.itemsize}" if dtype.fields is not None else f"{dtype.kind}{dtype.itemsize}"


def _check_argument(where: str, declared: str, arg: Any) -> None:
    if _by_value(arg) == ("*" in declared):
        raise TypeError(f"{where}: the kernel declares {declared}, got {'a value' if _by_value(arg) else 'an array'}")
    code = declared.rpartition("*")[2]
    if code not in (_code(arg.dtype), "?"):
        raise TypeError(f"{where}: the kernel declares {declared}, got {arg.dtype} ({_code(arg.dtype)})")
    if declared.startswith("*") and not arg.flags.writeable:
        raise TypeError(f"{where}: the kernel may write it, but the array is read-only")


# ---- Compiling -------------------------------------------------------------------------------------------------------


def build(source: Path, name: str, defines: Mapping[str, int | float | str], flags: Sequence[str]) -> Path:
    """The shared library of a kernel, compiled unless the cache holds it; the key is all that goes into it.

    Raises MissingError without a C++ compiler, KernelError where it refuses the kernel.
    """
    wanted = os.environ.get("CXX", "g++")
    compiler = shutil.which(wanted)
    if compiler is None:
        raise MissingError(
            f"running {source.name} on the CPU needs a C++17 compiler, {wanted!r} is not here: install g++ or set CXX"
        )
    words = [*flags, f"-DHOST_CUDA_KERNEL={name}", *(f"-D{key}={value}" for key, value in sorted(defines.items()))]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + "\0".join([platform.machine(), compiler, *words, str(source)]).encode())
    for file in (source, *sorted(INCLUDE.iterdir())):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    target = cache_directory() / f"{source.stem}-{name}-{digest.hexdigest()[:32]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        made = Path(work) / "kernel.so"
        command = [compiler, *words, f'-DHOST_CUDA_SOURCE="{source}"', str(INCLUDE / "host_entry.cpp"), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KernelError(f"{source.name} does not compile for the CPU:\n{done.stderr}")
        made.replace(target)
    return target


def cache_directory() -> Path:
    """Where compiled kernels are kept: below TRT_ANON_CACHE or the user's cache; nobody else may write there."""
    root = os.environ.get("TRT_ANON_CACHE")
    if root is None:
        from platformdirs import user_cache_dir

        root = user_cache_dir("trt-anon")
    path = Path(root) / "kernels"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KernelError(f"{path} can be written by others, and code is loaded from it: chmod 700 it, or remove it")
    return path


# ---- Guard pages -----------------------------------------------------------------------------------------------------


def guarded(array: NDArray[Any]) -> NDArray[Any]:
    """A C-contiguous copy that ends where memory ends: one element further is a fault, in front of it is a fence.

    For arrays that a kernel reaches through a table of addresses; those handed to a checked launch are guarded there.
    """
    return _guarded_copy(np.ascontiguousarray(array))[0]


def _guarded_copy(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    size = max(1, -(-array.nbytes // mmap.PAGESIZE)) * mmap.PAGESIZE
    whole = np.frombuffer(mmap.mmap(-1, size + 2 * _GUARD), np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for offset in (0, _GUARD + size):
        if protect(ctypes.c_void_p(whole.ctypes.data + offset), ctypes.c_size_t(_GUARD), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    end = _GUARD + size
    start = end - array.nbytes
    fence = whole[_GUARD:start]
    fence[...] = _FENCE
    copy = whole[start:end].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy, fence


class _Fenced:
    """The arguments of a launch with every array between guard pages."""

    def __init__(self, args: Sequence[Any]) -> None:
        self._originals: dict[tuple[int, int], NDArray[Any]] = {}
        self._copies: dict[tuple[int, int], tuple[NDArray[Any], NDArray[np.uint8]]] = {}
        self.args = [arg if _by_value(arg) else self._fence(arg) for arg in args]

    def _fence(self, array: NDArray[Any]) -> NDArray[Any]:
        key = (array.ctypes.data, array.nbytes)
        if key not in self._copies:
            if any(np.may_share_memory(array, other) for other in self._originals.values()):
                raise ValueError("arguments that overlap in part cannot be checked")
            self._originals[key] = array
            self._copies[key] = _guarded_copy(array)
        return self._copies[key][0]

    def copy_back(self, name: str) -> None:
        for key, (copy, fence) in self._copies.items():
            if (fence != _FENCE).any():
                raise KernelError(f"kernel {name}: writes in front of an array")
            original = self._originals[key]
            if original.flags.writeable:
                original[...] = copy.view(original.dtype).reshape(original.shape)
