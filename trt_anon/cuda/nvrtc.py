"""Compiling kernels for real GPUs with NVRTC, which needs neither a GPU nor a driver; for tests and for reports.

The wheel `nvidia-cuda-nvrtc` brings the library.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trt_anon.cuda.kernel import DEVICE_FLAGS
from trt_anon.errors import KernelError, PackageMissing

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities times ten: T4, A100, RTX 30, L4 and RTX 40, H100, B200, RTX 50."""

_RESOURCES = re.compile(
    r"entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one kernel takes on one architecture: registers and stack per thread, static shared memory per block."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


class Nvrtc:
    """The NVRTC library, found in its wheel or by the loader of the system; PackageMissing where it is in neither."""

    def __init__(self) -> None:
        self._library = _load()
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor)."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def compile(
        self, source: Path, architecture: int, defines: Mapping[str, int | float | str] | None = None
    ) -> tuple[bytes, dict[str, Resources]]:
        """The cubin of a .cu file and the resources of each of its kernels; a warning is a KernelError."""
        options = [
            *DEVICE_FLAGS,
            f"--gpu-architecture=sm_{architecture}",
            "-Werror=all-warnings",
            "--ptxas-options=-v",
            *(f"-D{key}={value}" for key, value in sorted((defines or {}).items())),
        ]
        program = ctypes.c_void_p()
        text, name = source.read_bytes(), source.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, name, 0, None, None)
        try:
            words = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
            status = self._library.nvrtcCompileProgram(program, len(options), words)
            log = self._bytes("nvrtcGetProgramLog", program).rstrip(b"\0").decode(errors="replace")
            if status:
                raise KernelError(f"{source.name} does not compile for sm_{architecture}:\n{log}")
            return self._bytes("nvrtcGetCUBIN", program), _resources(source.name, log)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(what, program, buffer)
        return buffer.raw

    def _call(self, function: str, *args: object) -> None:
        status = getattr(self._library, function)(*args)
        if status:
            reason = self._library.nvrtcGetErrorString(status).decode()
            raise KernelError(f"{function}: {reason}")


def _resources(where: str, log: str) -> dict[str, Resources]:
    found = {}
    for match in _RESOURCES.finditer(log):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        found[match["name"]] = Resources(
            registers=int(match["registers"]),
            shared_bytes=int(shared[1]) if shared else 0,
            stack_bytes=int(match["stack"]),
            spill_bytes=int(match["stores"]) + int(match["loads"]),
        )
    if not found:
        raise KernelError(f"{where}: the compiler reported no kernel:\n{log}")
    return found


def _load() -> ctypes.CDLL:
    # Unlike `available`, this looks into the package: `nvidia` is a namespace shared by many wheels.
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations if spec is not None else None) or ():
        for file in sorted(Path(root).glob("*/lib/libnvrtc.so.*"), reverse=True):
            return ctypes.CDLL(str(file))
    for name in ("libnvrtc.so.13", "libnvrtc.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise PackageMissing("compiling kernels without a GPU needs NVRTC: pip install 'trt-anon[kernels]'")
