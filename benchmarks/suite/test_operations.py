"""Operations one by one, on the CPU and, where there is one, on a GPU: `pytest benchmarks/suite`.

Not part of the project's tests: nothing here is right or wrong, only fast or slow. `--benchmark-json FILE` writes the
figures, `--benchmark-compare` holds them against earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from kernel_cases import Sizes, all_cases

from trt_anon.config import RedactConfig
from trt_anon.detect.families import get_family
from trt_anon.postprocess.nms import nms
from trt_anon.preprocess.letterbox import plan_letterbox
from trt_anon.preprocess.letterbox_cpu import Scalers, letterbox_cpu
from trt_anon.redact.frame import Redactor
from trt_anon.types import Frame, Orientation, Region

MakeFrame = Callable[[str, str], Frame]
MakeRegions = Callable[[int, str], list[Region]]


@pytest.mark.parametrize("size", ["720p", "1080p", "4k"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "nv12", "rgb24"])
def test_preprocess(benchmark, frame: MakeFrame, pixel_format: str, size: str) -> None:
    picture = frame(pixel_format, size)
    spec = get_family("yunet").input_spec
    factor = 960 / picture.width_px
    plan = plan_letterbox(picture.width_px, picture.height_px, Orientation.NORMAL, picture.pixel_aspect, factor, spec)
    scalers = Scalers()
    benchmark(lambda: letterbox_cpu(picture, plan, spec, scalers=scalers))


@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
@pytest.mark.parametrize("faces", [1, 20])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_redact(benchmark, frame: MakeFrame, regions: MakeRegions, pixel_format: str, faces: int, method: str) -> None:
    picture, places = frame(pixel_format, "1080p"), regions(faces, "1080p")
    redactor = Redactor(RedactConfig(method=method))  # type: ignore[arg-type]
    benchmark(lambda: redactor.redact(picture, places))


@pytest.mark.parametrize("boxes", [100, 1000])
def test_suppression(benchmark, boxes: int) -> None:
    rng = np.random.default_rng(boxes)
    corners = rng.uniform(0, 1900, (boxes, 2))
    found = np.concatenate((corners, corners + rng.uniform(10, 100, (boxes, 2))), axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, boxes).astype(np.float32)
    classes = np.zeros(boxes, np.int32)
    benchmark(lambda: nms(found, scores, classes, 0.4))


@pytest.mark.parametrize("batch", [1, 8, 32])
def test_kernels(benchmark, cupy: ModuleType, on_gpu, batch: int) -> None:
    """Every kernel's case in one go: the sum is what a batch costs outside the engine."""
    cases = all_cases(cupy, Sizes(), batch)
    for case in cases:
        case.check()
    benchmark(on_gpu(lambda: [case.work() for case in cases]))
