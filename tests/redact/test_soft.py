"""Soft edges: what the specification promises, by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.config import RedactConfig
from trt_anon.redact.frame import Redactor
from trt_anon.redact.region import Rect
from trt_anon.redact.soft import MAX_RADIUS, blend, rim_rect, soft_counts, soft_radius
from trt_anon.types import Region

METHODS = ("gaussian", "pixelate", "solid")


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 4), st.integers(0, 2**32))
def test_counts_are_what_they_are_called(height, width, radius, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.2
    near = np.zeros((height + 4 * radius, width + 4 * radius), np.bool_)
    for y, x in zip(*np.nonzero(mask), strict=True):
        near[y + radius : y + 3 * radius + 1, x + radius : x + 3 * radius + 1] = True
    counts = soft_counts(mask, radius)
    assert counts.shape == mask.shape
    for y in range(height):
        for x in range(width):
            assert counts[y, x] == near[y + radius : y + 3 * radius + 1, x + radius : x + 3 * radius + 1].sum()
    assert (counts[mask] == (2 * radius + 1) ** 2).all()


def test_a_radius_for_every_object():
    assert soft_radius(0.0, 50, (2, 2)) == 0
    assert soft_radius(0.2, 100, (2, 2)) == 5  # a rim of 20 pixels is ten blocks
    assert soft_radius(0.01, 1, (1, 1)) == 1
    assert soft_radius(1.0, 1e9, (2, 1)) == MAX_RADIUS
    assert rim_rect(Rect(4, 0, 10, 6), 2, 15, 9, (2, 2)) == Rect(0, 0, 15, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_blend_rounds_half_up_and_keeps_the_ends(dtype):
    old, new = np.array([[10, 10, 10, 11]], dtype), np.array([[20, 20, 20, 14]], dtype)
    counts = np.array([[0, 9, 4, 3]])
    assert blend(old, new, counts, 1).tolist() == [[10, 20, 14, 12]]
    assert blend(np.array([[0]], dtype), np.array([[1]], dtype), np.array([[5]]), 1).tolist() == [[1]]


@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["nv12", "yuv420p10le", "rgba", "gray"])
def test_the_region_is_destroyed_and_what_is_far_is_kept(make_frame, name, method, implementation):
    if implementation == "cpu":
        pytest.importorskip("cv2")
    region = Region(41, 31, 80, 66, "ellipse", 30)
    soft, hard, before = (make_frame(name, 121, 97) for _ in range(3))
    config = RedactConfig(method=method, feather=0.3)
    Redactor(config, implementation=implementation).redact(soft, [region])
    Redactor(config.model_copy(update={"feather": 0.0}), implementation=implementation).redact(hard, [region])
    for found, whole, old, up in zip(soft.planes, hard.planes, before.planes, (1, 2, 2), strict=False):
        unit = up if len(before.planes) > 1 else 1
        far = np.ones(old.shape[:2], np.bool_)
        far[(31 - 22) // unit : (66 + 24) // unit, (41 - 22) // unit : (80 + 24) // unit] = False
        np.testing.assert_array_equal(found[far], old[far])
        inside = (whole != old).reshape(*old.shape[:2], -1).any(axis=-1)
        assert inside.any()
        if method == "solid":
            np.testing.assert_array_equal(found[inside], whole[inside])
        else:  # from a larger part of the picture: another replacement, but none of the noise
            assert (found[inside].std(axis=0) < old[inside].std(axis=0) / 2).all()
        rim = (found != old).reshape(*old.shape[:2], -1).any(axis=-1)
        assert rim.sum() > 1.3 * inside.sum()


def test_of_overlapping_rims_the_heavier_wins_and_regions_win_over_rims(make_frame):
    config = RedactConfig(method="solid", feather=0.5)
    one, other = Region(10, 10, 40, 40, "box", 30), Region(48, 10, 78, 40, "box", 28)
    frame, turned = make_frame("gray", 100, 60), make_frame("gray", 100, 60)
    Redactor(config).redact(frame, [one, other])
    Redactor(config).redact(turned, [other, one])
    np.testing.assert_array_equal(frame.planes[0], turned.planes[0])
    assert not frame.planes[0][10:40, 10:40].any()
    assert not frame.planes[0][10:40, 48:78].any()


def test_without_feather_nothing_has_changed(make_frame):
    regions = [Region(5, 5, 50, 40, "ellipse", 30)]
    frames = [make_frame("nv12", 80, 60) for _ in range(2)]
    Redactor(RedactConfig()).redact(frames[0], regions)
    Redactor(RedactConfig(feather=0.0)).redact(frames[1], regions)
    for a, b in zip(frames[0].planes, frames[1].planes, strict=True):
        np.testing.assert_array_equal(a, b)
