"""Every kernel compiles for every architecture without a warning, within the resources recorded here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import trt_anon
from trt_anon.cuda.nvrtc import ARCHITECTURES, Nvrtc
from trt_anon.errors import KernelError, PackageMissing

PACKAGE = Path(trt_anon.__file__).parent


@dataclass(frozen=True)
class Bound:
    """The most that a kernel may take. threads: per block, as it is launched at most."""

    registers: int
    shared_bytes: int
    threads: int
    blocks_per_sm: int


# What is taken today, and no more: raising a number is a decision, to be made with a measurement on a GPU.
BOUNDS = {
    "detect/components.cu": {"components": Bound(64, 68, 512, 2)},
    "detect/decode.cu": {"decode": Bound(64, 5168, 256, 4)},
    "postprocess/merge.cu": {"concatenate": Bound(46, 32, 256, 5), "take": Bound(46, 0, 256, 5)},
    "postprocess/nms.cu": {"nms": Bound(64, 26128, 1024, 1)},
    "preprocess/letterbox.cu": {
        "letterbox": Bound(64, 4160, 128, 8),
        "letterbox_quick": Bound(64, 4160, 128, 8),
    },
    "preprocess/thumbnail.cu": {"thumbnail": Bound(64, 0, 256, 4)},
    "redact/frame.cu": {
        "redact_prepare": Bound(72, 14832, 128, 7),
        "redact_prepare_outlines": Bound(96, 15360, 128, 5),
        "redact_blur": Bound(64, 25584, 128, 8),
        "redact_write": Bound(64, 25192, 128, 8),
        "redact_write_softly": Bound(64, 0, 128, 8),
        "redact_union": Bound(30, 0, 128, 16),
    },
    "redact/mask.cu": {"mask_dilate": Bound(26, 0, 256, 8), "mask_cover": Bound(51, 32, 256, 4)},
}
REGISTERS_PER_SM = 65536


@pytest.fixture(scope="session")
def nvrtc() -> Nvrtc:
    try:
        return Nvrtc()
    except PackageMissing as missing:
        pytest.skip(str(missing))


def test_every_kernel_file_has_bounds():
    assert {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.cu")} == set(BOUNDS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", BOUNDS)
def test_resources(nvrtc, name, architecture):
    cubin, kernels = nvrtc.compile(PACKAGE / name, architecture)
    assert cubin.startswith(b"\x7fELF")
    assert kernels.keys() == BOUNDS[name].keys()
    for kernel, bound in BOUNDS[name].items():
        found = kernels[kernel]
        assert found.spill_bytes == 0
        assert found.stack_bytes == 0
        assert found.registers <= bound.registers
        assert found.shared_bytes <= bound.shared_bytes
        per_block = -(-found.registers // 8) * 8 * bound.threads  # registers are given out by eights
        assert REGISTERS_PER_SM // per_block >= bound.blocks_per_sm


def test_a_warning_is_an_error(nvrtc, tmp_path):
    source = tmp_path / "careless.cu"
    source.write_text('extern "C" __global__ void careless(int* out) { int unused; out[0] = 1; }\n')
    with pytest.raises(KernelError, match=r"careless\.cu does not compile for sm_75:\n(.|\n)*unused"):
        nvrtc.compile(source, 75)


def test_spills_are_seen(nvrtc, tmp_path):
    source = tmp_path / "greedy.cu"
    source.write_text(
        'extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float* x) {\n'
        "    float v[64];\n"
        "#pragma unroll\n    for (int i = 0; i < 64; ++i) v[i] = x[threadIdx.x + 1024 * i];\n"
        "    __syncthreads();\n"
        "#pragma unroll\n    for (int i = 0; i < 64; ++i) x[threadIdx.x * 64 + i] = v[63 - i] * v[i];\n}\n"
    )
    assert nvrtc.compile(source, 80)[1]["greedy"].spill_bytes > 0
    source.write_text("__device__ int nothing() { return 1; }\n")
    with pytest.raises(KernelError, match="reported no kernel"):
        nvrtc.compile(source, 80)


def test_defines_and_version(nvrtc, tmp_path):
    source = tmp_path / "sized.cu"
    source.write_text(
        '#ifndef SIZE\n#define SIZE 8\n#endif\nextern "C" __global__ void sized(int* out) {\n'
        "    __shared__ int s[SIZE];\n    s[threadIdx.x] = out[threadIdx.x];\n    __syncthreads();\n"
        "    out[threadIdx.x] = s[threadIdx.x ^ 1];\n}\n"
    )
    assert nvrtc.compile(source, 90)[1]["sized"].shared_bytes == 32
    assert nvrtc.compile(source, 90, {"SIZE": 16})[1]["sized"].shared_bytes == 64
    assert nvrtc.version >= (12, 0)
