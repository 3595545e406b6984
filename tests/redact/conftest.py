"""Frames of any format for the tests of redaction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trt_anon.types import PIXEL_FORMATS, Color, Frame

MakeFrame = Callable[..., Frame]


@pytest.fixture(scope="session")
def make_frame() -> MakeFrame:
    """Makes frames of random samples, in rows padded by `pitch` samples of 0xAA."""

    def make(name: str, width: int, height: int, seed: int = 0, pitch: int = 0, color: Color | None = None) -> Frame:
        form = PIXEL_FORMATS[name]
        rng = np.random.default_rng(seed)
        planes = []
        for shape in form.plane_shapes(width, height):
            held = np.full((shape[0], shape[1] + pitch, *shape[2:]), 0xAA, form.dtype)
            held[:, : shape[1]] = rng.integers(0, 1 << form.bit_depth, shape).astype(form.dtype) << form.sample_shift
            planes.append(held[:, : shape[1]])
        return Frame(tuple(planes), form, width, height, color=color or Color())

    return make
