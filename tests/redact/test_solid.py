"""Black is what FFmpeg makes of black."""

from __future__ import annotations

import numpy as np
import pytest

from trt_anon.redact.solid import black_codes, solid
from trt_anon.types import PIXEL_FORMATS, Color


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_black_is_that_of_ffmpeg(name: str) -> None:
    av = pytest.importorskip("av")
    picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24").reformat(format=name)
    form = PIXEL_FORMATS[name]
    for plane, codes in zip(picture.planes, black_codes(form, Color()), strict=True):
        found = np.frombuffer(plane, form.dtype)[: len(codes)] >> form.sample_shift
        assert found.tolist() == list(codes)


@pytest.mark.parametrize(("name", "luma"), [("yuv420p", 0), ("yuvj420p", 0), ("nv12", 0), ("yuv444p10le", 0)])
def test_full_range_black_has_luma_zero(name: str, luma: int) -> None:
    codes = black_codes(PIXEL_FORMATS[name], Color(full_range=True))
    assert codes[0] == (luma,)
    assert set(sum(codes[1:], ())) == {1 << (PIXEL_FORMATS[name].bit_depth - 1)}


def test_a_fill_has_the_crops_shape_and_type() -> None:
    crop = np.zeros((4, 6, 2, 2), np.uint16)[..., 0]
    out = solid(crop, (7, 512))
    assert (out.shape, out.dtype) == ((4, 6, 2), np.uint16)
    assert (out == [7, 512]).all()
    np.testing.assert_array_equal(solid(np.zeros((2, 3), np.uint8), (16,)), np.full((2, 3), 16))
