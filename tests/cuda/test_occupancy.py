"""How much of each GPU the kernels can fill."""

from __future__ import annotations

from pathlib import Path

import pytest

import trt_anon
from trt_anon.cuda.nvrtc import Nvrtc, Resources
from trt_anon.cuda.occupancy import occupancy
from trt_anon.errors import PackageMissing

PACKAGE = Path(trt_anon.__file__).parent

# kernel: (threads of a block, dynamic shared bytes, share of a multiprocessor's threads at least)
FILLED = {
    # the sums of a tile of 64 x 16 from NV12, three times as large
    "preprocess/letterbox.cu": {"letterbox": (128, 0, 0.5), "letterbox_quick": (128, 14 * 1024, 0.37)},
    "redact/frame.cu": {
        "redact_prepare": (128, 0, 0.43),  # an H100 is no faster with an eighth block
        "redact_blur": (128, 0, 0.25),
        "redact_write": (128, 0, 0.25),
    },
    "detect/components.cu": {"components": (512, 0, 0.5)},
    "detect/decode.cu": {"decode": (256, 0, 0.5)},
    # an image is one block, whatever its registers; 1024 candidates want 8 KiB
    "postprocess/nms.cu": {"nms": (1024, 8 * 1024, 0.5)},
    "postprocess/merge.cu": {"concatenate": (256, 0, 0.5), "take": (256, 0, 0.5)},
}


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "architecture", "blocks"),
    [
        (32, 0, 1024, 80, 2),
        (64, 0, 256, 80, 4),
        (65, 0, 256, 80, 3),  # registers are given out by 256 for a warp
        (255, 0, 256, 75, 1),
        (16, 0, 32, 75, 16),
        (16, 0, 32, 90, 32),
        (16, 48 * 1024, 64, 86, 2),
        (16, 49 * 1024, 64, 86, 2),
        (16, 50 * 1024, 64, 86, 1),
        (16, 227 * 1024, 64, 90, 1),
        (128, 0, 1024, 90, 0),  # cannot be launched
    ],
)
def test_what_fits(registers, shared, threads, architecture, blocks):
    found = occupancy(Resources(registers, shared, 0, 0), architecture, threads)
    assert found.blocks == blocks
    assert found.threads == blocks * threads


def test_what_is_not_known():
    with pytest.raises(ValueError, match="no limits are known for sm_70"):
        occupancy(Resources(32, 0, 0, 0), 70, 256)
    with pytest.raises(ValueError, match="2048 threads"):
        occupancy(Resources(32, 0, 0, 0), 80, 2048)


@pytest.mark.parametrize("name", FILLED)
def test_kernels_fill_a_multiprocessor(name):
    try:
        nvrtc = Nvrtc()
    except PackageMissing as missing:
        pytest.skip(str(missing))
    for architecture in (75, 86, 90, 120):  # one of each set of limits
        _, kernels = nvrtc.compile(PACKAGE / name, architecture)
        for kernel, (threads, dynamic, share) in FILLED[name].items():
            assert occupancy(kernels[kernel], architecture, threads, dynamic).share >= share
