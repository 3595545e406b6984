"""What the suites share: where an operation runs, and frames to run it on."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.runtime.gpu import find_gpus, why_no_gpu
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Region

sys.path.insert(0, str(Path(__file__).parents[1]))  # kernel_cases, harness

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "4k": (3840, 2160)}


@pytest.fixture(scope="session")
def cupy() -> ModuleType:
    """CuPy with a device; skips without, unless TRT_ANON_REQUIRE_GPU=1 makes that a failure."""
    missing = None if importlib.util.find_spec("cupy") else "CuPy is not installed"
    if missing is None and not find_gpus():
        missing = why_no_gpu()
    if missing:
        if os.environ.get("TRT_ANON_REQUIRE_GPU") == "1":
            pytest.fail(f"TRT_ANON_REQUIRE_GPU=1, but {missing}")
        pytest.skip(missing)
    return importlib.import_module("cupy")


@pytest.fixture
def frame() -> Callable[[str, str], Frame]:
    """Makes a frame of noise: pixel format, name of the size."""

    def make(pixel_format: str, size: str) -> Frame:
        rng = np.random.default_rng(0)
        form, (width, height) = PIXEL_FORMATS[pixel_format], SIZES[size]
        planes = tuple(
            rng.integers(0, 1 << form.bit_depth, shape).astype(form.dtype) << form.sample_shift
            for shape in form.plane_shapes(width, height)
        )
        return Frame(planes, form, width, height, color=Color("bt709"))

    return make


@pytest.fixture
def regions() -> Callable[[int, str], list[Region]]:
    """Makes so many ellipses of 40 to 200 px over a picture of a named size."""

    def make(count: int, size: str) -> list[Region]:
        rng = np.random.default_rng(count)
        width, height = SIZES[size]
        made = []
        for _ in range(count):
            side = float(rng.uniform(40, 200))
            x, y = float(rng.uniform(0, width - side)), float(rng.uniform(0, height - side))
            made.append(Region(x, y, x + side, y + 1.2 * side, "ellipse", side))
        return made

    return make


@pytest.fixture
def on_gpu(cupy: ModuleType) -> Callable[[Callable[[], Any]], Callable[[], None]]:
    """Wraps work on a GPU so that its end is within what is timed."""

    def wrap(work: Callable[[], Any]) -> Callable[[], None]:
        def timed() -> None:
            work()
            cupy.cuda.get_current_stream().synchronize()  # synchronises: the clock is the host's

        return timed

    return wrap
