"""What does not fit is found, each with its remedy; facts are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trt_anon.gpuhost import Finding, GpuHost, judge
from trt_anon.gpuhost.findings import cuda_of
from trt_anon.gpuhost.nvdec import Decoder
from trt_anon.gpuhost.nvenc import Encoder
from trt_anon.runtime.gpu import Gpu

ALL = {"driver": True, "decoding": True, "encoding": True, "management": True}
SOUND = GpuHost(
    driver="580.65.06",
    driver_cuda=(13, 0),
    nvidia_hardware=True,
    gpus=(Gpu("NVIDIA L4", "sm_89", 24 << 30),),
    libraries=ALL,
    packages={
        "cupy-cuda13x": "13.6.0",
        "tensorrt-cu13": "10.14.1",
        "tensorrt-cu13-bindings": "10.14.1",
        "tensorrt-cu13-libs": "10.14.1",
        "nvidia-dali-cuda130": "2.1.0",
        "pynvvideocodec": "2.2.0",
        "opencv-python-headless": "4.12.0.88",
    },
    decoder=Decoder(4, dict.fromkeys(("h264", "hevc", "vp9", "av1"), "8192x8192")),
    encoder=Encoder(("h264", "hevc", "av1")),
)


def with_packages(**changes: str | None) -> dict[str, str]:
    """SOUND's packages with some replaced; names with _ for -, None takes one away."""
    packages = {**SOUND.packages, **{name.replace("_", "-"): version for name, version in changes.items()}}
    return {name: version for name, version in packages.items() if version is not None}


def test_nothing_is_found_where_all_fits():
    assert judge(SOUND) == ()


def test_a_machine_without_a_gpu_is_no_problem():
    (finding,) = judge(GpuHost(packages={"nvidia-cuda-nvrtc": "13.0.1", "tensorrt-rtx-cu13": "1.7"}))
    assert finding == Finding("note", "there is no NVIDIA driver: everything runs on the CPU")


PROBLEMS = {
    "no driver": (
        replace(SOUND, driver=None, driver_cuda=None, gpus=(), libraries={}),
        "no driver",
        "install NVIDIA's driver 580",
    ),
    "container without a GPU": (
        replace(SOUND, gpus=(), libraries={}, container="docker"),
        "libcuda.so.1 is not within reach",
        "docker run --gpus all",
    ),
    "updated driver": (replace(SOUND, gpus=(), no_gpu_code=803), "different versions", "reboot"),
    "fabric manager": (replace(SOUND, gpus=(), no_gpu_code=802), "not initialized", "nvidia-fabricmanager"),
    "hidden": (replace(SOUND, gpus=(), no_gpu_code=0), "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    "unknown code": (replace(SOUND, gpus=(), no_gpu_code=777), "error 777", "cuInit"),
    "old driver": (
        replace(SOUND, driver="570.86.10"),
        "made for CUDA 13, which needs driver 580 or later, here is 570.86.10: cupy-cuda13x",
        "for CUDA 12",
    ),
    "two CUDAs": (
        replace(SOUND, packages=with_packages(cupy_cuda13x=None, cupy_cuda12x="13.6.0")),
        "CUDA 12: cupy-cuda12x; CUDA 13: tensorrt-cu13",
        "the same one",
    ),
    "CuPy twice": (
        replace(SOUND, packages=with_packages(cupy="13.6.0")),
        "CuPy is installed 2 times",
        "pip uninstall cupy-cuda13x cupy",
    ),
    "OpenCV twice": (
        replace(SOUND, packages=with_packages(opencv_python="4.12.0.88")),
        "OpenCV is installed 2 times",
        "opencv-python-headless",
    ),
    "OpenCV 5": (
        replace(SOUND, packages=with_packages(opencv_python_headless="5.0.0")),
        "OpenCV 5.0.0",
        "opencv-python-headless<5",
    ),
    "ONNX Runtime twice": (
        replace(SOUND, packages=with_packages(onnxruntime="1.24", onnxruntime_gpu="1.24")),
        "ONNX Runtime is installed 2 times",
        "onnxruntime-gpu",
    ),
    "no CuPy": (
        replace(SOUND, packages=with_packages(cupy_cuda13x=None)),
        "CuPy is not installed",
        "pip install 'cupy-cuda13x[ctk]'",
    ),
    "old GPU": (replace(SOUND, gpus=(Gpu("Tesla P100", "sm_60", 16 << 30),)), "older than Turing", "--device cpu"),
    "stub of TensorRT": (
        replace(SOUND, packages=with_packages(tensorrt_cu13=None, tensorrt_cu13_libs=None)),
        "has its bindings, but not its libraries",
        "pip install tensorrt-cu13",
    ),
    "TensorRT of two versions": (
        replace(SOUND, packages=with_packages(tensorrt_cu13_libs="10.13.0")),
        "bindings 10.14.1, but libraries 10.13.0",
        "one version",
    ),
    "old TensorRT": (
        replace(SOUND, packages=with_packages(tensorrt_cu13="10.9")),
        "tensorrt-cu13 10.9 is too old",
        "tensorrt-cu13>=10.13",
    ),
    "no TensorRT": (
        replace(
            SOUND, packages=with_packages(tensorrt_cu13=None, tensorrt_cu13_libs=None, tensorrt_cu13_bindings=None)
        ),
        "neither TensorRT nor TensorRT-RTX",
        "trt-anon[tensorrt]",
    ),
    "RTX on Hopper": (
        replace(
            SOUND,
            gpus=(Gpu("NVIDIA H100", "sm_90", 80 << 30),),
            packages={"cupy-cuda13x": "13.6.0", "tensorrt-rtx-cu13": "1.7.1", "pynvvideocodec": "2.2.0"},
        ),
        "TensorRT-RTX does not run on sm_90",
        "trt-anon[tensorrt]",
    ),
    "container without video": (
        replace(
            SOUND,
            libraries={**ALL, "decoding": False, "encoding": False},
            container="docker",
            capabilities="compute,utility",
        ),
        "libnvcuvid.so.1, libnvidia-encode.so.1 are not in this container: NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video",
    ),
    "driver without video": (
        replace(SOUND, libraries={**ALL, "encoding": False}),
        "libnvidia-encode.so.1 are not within reach",
        "video libraries",
    ),
    "mute decoder": (replace(SOUND, decoder=Decoder(0, {}, "the driver refuses (error 2)")), "error 2", ""),
}


@pytest.mark.parametrize(("host", "what", "remedy"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems(host, what, remedy):
    problems = [finding for finding in judge(host) if finding.level == "problem"]
    (found,) = [finding for finding in problems if what in finding.what]
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("host", "what"),
    [
        (replace(SOUND, encoder=Encoder(())), "no encoder"),
        (replace(SOUND, encoder=Encoder((), "no answer within 30 s")), "could not be asked: no answer"),
        (replace(SOUND, decoder=Decoder(2, {"h264": "4096x4096", "hevc": "8192x8192", "vp9": "1x1"})), "decode av1"),
        (replace(SOUND, packages=with_packages(nvidia_dali_cuda130=None, pynvvideocodec=None)), "the CPU decodes"),
    ],
)
def test_notes(host, what):
    assert [f.level for f in judge(host) if what in f.what] == ["note"]
    assert not [f for f in judge(host) if f.level == "problem"]


def test_problems_come_first():
    levels = [f.level for f in judge(replace(SOUND, encoder=Encoder(()), packages=with_packages(cupy_cuda13x=None)))]
    assert levels == ["problem", "note"]


@pytest.mark.parametrize(
    ("package", "version", "family"),
    [
        ("cupy-cuda12x", "13.0", 12),
        ("nvidia-dali-cuda130", "2.0", 13),
        ("nvidia-dali-cuda120", "1.5", 12),
        ("tensorrt-cu13-libs", "10.14", 13),
        ("tensorrt-rtx-cu13", "1.7", 13),
        ("nvidia-cuda-nvrtc", "13.0.8", 13),
        ("nvidia-cuda-nvrtc-cu12", "12.9", 12),
        ("torch", "2.9.0+cu128", 12),
        ("torch", "2.9.0", None),
        ("pynvvideocodec", "2.2", None),
    ],
)
def test_the_cuda_of_a_package(package, version, family):
    assert cuda_of(package, version) == family
