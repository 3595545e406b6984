"""The small grey picture."""

from __future__ import annotations

import numpy as np
import pytest

from trt_anon.geometry import turn_upright
from trt_anon.preprocess.thumbnail import LONG_SIDE_PX, grey_thumbnail
from trt_anon.types import PIXEL_FORMATS, Frame, Orientation

pytest.importorskip("cv2")


def frame(name: str, width: int, height: int, value: int = 100, orientation: int = 1) -> Frame:
    form = PIXEL_FORMATS[name]
    code = (value << (form.bit_depth - 8)) << form.sample_shift
    planes = tuple(np.full(shape, code, form.dtype) for shape in form.plane_shapes(width, height))
    return Frame(planes, form, width, height, orientation=Orientation(orientation))


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_every_format_becomes_eight_bits_of_grey(name: str) -> None:
    small = grey_thumbnail(frame(name, 641, 359))
    assert (small.shape, small.dtype) == ((179, 320), np.uint8)
    assert (small == 100).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1920, 1080), (270, 480)), ((100, 50), (50, 100)), ((1, 4000), (4000, 1)), ((512, 3), (3, 512))],
)
def test_it_is_halved_until_it_is_small(size: tuple[int, int], expected: tuple[int, int]) -> None:
    small = grey_thumbnail(frame("yuv420p", *size))
    assert small.shape == expected
    assert max(small.shape) <= LONG_SIDE_PX or min(size) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_upright_and_a_copy(orientation: int) -> None:
    turned = frame("gray", 1000, 600, orientation=orientation)
    rng = np.random.default_rng(0)
    turned.planes[0][...] = rng.integers(0, 256, (600, 1000))
    small = grey_thumbnail(turned)
    means = turned.planes[0].reshape(300, 2, 500, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(small, turn_upright(means, turned.orientation), atol=0.51)
    before = small.copy()
    turned.planes[0][...] = 0
    np.testing.assert_array_equal(small, before)
