"""What about a machine's GPU software does not fit, and what to do about it: a pure function of the facts.

Driver bounds are those of NVIDIA's table of minor version compatibility: CUDA 12 from 525, CUDA 13 from 580.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trt_anon.gpuhost.facts import LIBRARIES, GpuHost

_DRIVER_OF_CUDA = {11: 450, 12: 525, 13: 580}
_KERNELS_FROM = 75
_RTX_TARGETS = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_120", "sm_121"}
_MIN_TENSORRT = (10, 13)
_WITH_VIDEO = "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility,video ..."
_INIT_ERRORS = {
    100: ("the driver sees no GPU", "check CUDA_VISIBLE_DEVICES; in a container: docker run --gpus all ..."),
    802: ("the GPUs are not initialized yet", "start the service nvidia-fabricmanager, of the driver's version"),
    803: ("driver and its libraries are of different versions", "reboot after an update of the driver"),
    999: ("the driver does not start", "load the kernel module: sudo modprobe nvidia-uvm"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """level: a `problem` keeps something from working, a `note` is good to know. remedy: empty where none is needed."""

    level: Literal["problem", "note"]
    what: str
    remedy: str = ""


def judge(host: GpuHost) -> tuple[Finding, ...]:
    """Everything that does not fit, problems first."""
    found = [*_driver(host), *_cuda_versions(host), *_twice(host.packages)]
    if host.gpus:
        found += [*_kernels(host), *_engines(host), *_video(host)]
    return tuple(sorted(found, key=lambda finding: finding.level != "problem"))


def cuda_of(package: str, version: str) -> int | None:
    """The CUDA release family that a package was built for; None where its name and version do not say."""
    if match := re.search(r"-cuda(\d\d)(x|0)$|-cu(\d\d)(-|$)", package):
        return int(match[1] or match[3])
    if package == "nvidia-cuda-nvrtc":
        return int(version.partition(".")[0])
    if match := re.search(r"\+cu(\d\d)", version):
        return int(match[1])
    return None


def _driver(host: GpuHost) -> Iterator[Finding]:
    if host.gpus:
        return
    if host.driver is None:
        if host.nvidia_hardware:
            yield Finding("problem", "there is an NVIDIA GPU, but no driver", "install NVIDIA's driver 580 or later")
        else:
            yield Finding("note", "there is no NVIDIA driver: everything runs on the CPU")
        return
    if not host.libraries.get("driver"):
        remedy = "docker run --gpus all ..., with the NVIDIA container toolkit on the host"
        if host.container is None:
            remedy = "reinstall the driver with its libraries"
        yield Finding("problem", f"a driver is loaded, but {LIBRARIES['driver']} is not within reach", remedy)
        return
    unknown = (
        f"the driver refuses (error {host.no_gpu_code})",
        "look up this code of cuInit, and dmesg | grep -i nvrm",
    )
    what, remedy = _INIT_ERRORS.get(host.no_gpu_code or 100, unknown)
    yield Finding("problem", what, remedy)


def _cuda_versions(host: GpuHost) -> Iterator[Finding]:
    families: dict[int, list[str]] = {}
    for package, version in host.packages.items():
        family = cuda_of(package, version)
        if family is not None:
            families.setdefault(family, []).append(package)
    driver = host.driver_major
    for family, packages in sorted(families.items()):
        needed = _DRIVER_OF_CUDA.get(family)
        if driver is not None and needed is not None and driver < needed:
            what = f"made for CUDA {family}, which needs driver {needed} or later, here is {host.driver}"
            yield Finding(
                "problem",
                f"{what}: {_names(packages)}",
                f"update the driver, or install the packages for CUDA {_newest_for(driver)}",
            )
    if len(families) > 1 and host.gpus:
        said = "; ".join(f"CUDA {family}: {_names(packages)}" for family, packages in sorted(families.items()))
        yield Finding(
            "problem", f"packages for different CUDA versions: {said}", "install all of them for the same one"
        )


def _newest_for(driver: int) -> int:
    return max((family for family, needed in _DRIVER_OF_CUDA.items() if driver >= needed), default=11)


def _twice(packages: Mapping[str, str]) -> Iterator[Finding]:
    for what, pattern, keep in (
        ("CuPy", r"^cupy", "the one for the driver's CUDA"),
        ("OpenCV", r"^opencv-", "opencv-python-headless"),
        ("ONNX Runtime", r"^onnxruntime", "onnxruntime-gpu on a GPU, onnxruntime elsewhere"),
        ("DALI", r"^nvidia-dali", "the one for the driver's CUDA"),
    ):
        several = [name for name in packages if re.match(pattern, name)]
        if len(several) > 1:
            yield Finding(
                "problem",
                f"{what} is installed {len(several)} times, over each other: {', '.join(several)}",
                f"pip uninstall {' '.join(several)}, then install {keep}",
            )
    opencv = next((version for name, version in packages.items() if name.startswith("opencv-")), None)
    if opencv and _numbers(opencv)[:1] >= (5,):
        yield Finding(
            "problem", f"OpenCV {opencv}: from 5 on it is not supported", "pip install 'opencv-python-headless<5'"
        )


def _kernels(host: GpuHost) -> Iterator[Finding]:
    for gpu in host.gpus:
        if int(gpu.target.removeprefix("sm_")) < _KERNELS_FROM:
            yield Finding(
                "problem",
                f"{gpu.name} ({gpu.target}) is older than Turing: no kernel is made for it",
                "use --device cpu",
            )
    if not any(name.startswith("cupy") for name in host.packages):
        family = min(13, host.driver_cuda[0]) if host.driver_cuda else 13
        yield Finding(
            "problem", "CuPy is not installed: no kernel can be launched", f"pip install 'cupy-cuda{family}x[ctk]'"
        )


def _engines(host: GpuHost) -> Iterator[Finding]:
    full = {name: version for name, version in host.packages.items() if re.match(r"^tensorrt(-cu\d+)?(-|$)", name)}
    full = {name: version for name, version in full.items() if not name.startswith("tensorrt-rtx")}
    rtx = {name: version for name, version in host.packages.items() if name.startswith("tensorrt-rtx")}
    for what, packages in (("TensorRT", full), ("TensorRT-RTX", rtx)):
        libs = {name: v for name, v in packages.items() if name.endswith("-libs")}
        bindings = {name: v for name, v in packages.items() if name.endswith("-bindings")}
        if bindings and not libs:
            remedy = f"pip install {next(iter(bindings)).replace('-bindings', '')}"
            yield Finding(
                "problem", f"{what} has its bindings, but not its libraries", f"{remedy}, with NVIDIA's package index"
            )
        elif libs and bindings and set(libs.values()) != set(bindings.values()):
            yield Finding(
                "problem",
                f"{what}: bindings {', '.join(bindings.values())}, but libraries {', '.join(libs.values())}",
                "install both in one version",
            )
    for name, version in full.items():
        if _numbers(version)[:2] < _MIN_TENSORRT:
            yield Finding("problem", f"{name} {version} is too old", "pip install 'tensorrt-cu13>=10.13'")
            break
    if not full and not rtx:
        yield Finding("problem", "neither TensorRT nor TensorRT-RTX is installed", "pip install 'trt-anon[tensorrt]'")
    elif not full:
        for target in sorted({gpu.target for gpu in host.gpus} - _RTX_TARGETS):
            yield Finding("problem", f"TensorRT-RTX does not run on {target}", "pip install 'trt-anon[tensorrt]'")


def _video(host: GpuHost) -> Iterator[Finding]:
    missing = [LIBRARIES[name] for name in ("decoding", "encoding") if not host.libraries.get(name)]
    if missing:
        given = host.capabilities
        if host.container and not ({"video", "all"} & set((given or "").split(","))):
            said = f"NVIDIA_DRIVER_CAPABILITIES={given}" if given else "NVIDIA_DRIVER_CAPABILITIES is not set"
            yield Finding(
                "problem", f"{_names(missing)} are not in this container: {said}, without `video`", _WITH_VIDEO
            )
        else:
            yield Finding("problem", f"{_names(missing)} are not within reach", "install the driver's video libraries")
    if not any(name.startswith(("nvidia-dali", "pynvvideocodec")) for name in host.packages):
        yield Finding(
            "note", "neither PyNvVideoCodec nor DALI is installed: the CPU decodes", "pip install 'trt-anon[gpu]'"
        )
    if host.decoder is not None:
        if host.decoder.error:
            yield Finding(
                "problem", f"the decoder does not answer: {host.decoder.error}", _WITH_VIDEO if host.container else ""
            )
        else:
            lacking = [codec for codec in ("h264", "hevc", "vp9", "av1") if codec not in host.decoder.codecs]
            if lacking:
                yield Finding("note", f"this GPU does not decode {', '.join(lacking)}: the CPU does")
    if host.encoder is not None:
        if host.encoder.error:
            yield Finding("note", f"the encoder could not be asked: {host.encoder.error}")
        elif not host.encoder.codecs:
            yield Finding("note", "this GPU has no encoder (as A100 and H100): the CPU encodes, and will be the limit")


def _names(names: list[str]) -> str:
    return ", ".join(names)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
