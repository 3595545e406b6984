"""Transparent pictures over white and black."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from trt_anon.preprocess.ground import as_seen
from trt_anon.types import PIXEL_FORMATS, Frame


def frame_of(name: str, alpha: int | None, seed: int = 3) -> Frame:
    form = PIXEL_FORMATS[name]
    (shape,) = form.plane_shapes(9, 7)
    plane = np.random.default_rng(seed).integers(0, 1 << form.bit_depth, shape).astype(form.dtype)
    if alpha is not None:
        plane[..., form.channels.find("a")] = alpha
    return Frame((plane,), form, 9, 7, index=4, pts=5)


@pytest.mark.parametrize(("name", "alpha"), [("rgb24", None), ("gray", None), ("rgba", 255), ("rgba64le", 65535)])
def test_what_is_opaque_is_looked_at_once(name: str, alpha: int | None) -> None:
    frame = frame_of(name, alpha) if name != "gray" else Frame((np.zeros((7, 9), np.uint8),), PIXEL_FORMATS[name], 9, 7)
    assert as_seen(frame) == [frame]


@pytest.mark.parametrize("name", ["ya8", "rgba", "rgba64le"])
def test_colours_over_both_grounds_are_exact(name: str) -> None:
    frame = frame_of(name, None)
    before = frame.planes[0].copy()
    stored, white, black = as_seen(frame)
    assert stored is frame
    assert np.array_equal(frame.planes[0], before)
    top = (1 << frame.pixel_format.bit_depth) - 1
    for made, ground in ((white, top), (black, 0)):
        assert (made.index, made.pts, made.pixel_format) == (4, 5, frame.pixel_format)
        (plane,) = made.planes
        assert (plane[..., -1] == top).all()
        for y, x in ((0, 0), (3, 5), (6, 8)):
            a = int(before[y, x, -1])
            for channel in range(before.shape[2] - 1):
                exact = Fraction(int(before[y, x, channel]) * a + ground * (top - a), top)
                assert abs(plane[y, x, channel] - exact) <= Fraction(1, 2)


def test_wholly_transparent_is_the_ground() -> None:
    _, white, black = as_seen(frame_of("rgba", 0))
    assert (white.planes[0] == 255).all()
    assert not black.planes[0][..., :3].any()
