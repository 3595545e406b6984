"""The blur against the true Gaussian, and the fast blur against the reference."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.redact.gaussian import (
    MAX_CELL,
    MIN_SIGMA_LOW,
    MIN_SIGMA_OF_CELLS,
    cell_and_sigma,
    gaussian,
    gaussian_radius,
)
from trt_anon.redact.gaussian_cpu import gaussian_cpu

IMPLEMENTATIONS = [gaussian, gaussian_cpu]
TOLERANCE_CODES = 2

implementations = pytest.mark.parametrize("blur", IMPLEMENTATIONS)


def gaussian_true(crop: np.ndarray, sigma_x: float, sigma_y: float) -> np.ndarray:
    """The Gaussian by definition, crop continued with its outermost values; not rounded."""
    ndimage = pytest.importorskip("scipy.ndimage")
    sigmas = (sigma_y, sigma_x, *[0] * (crop.ndim - 2))
    return ndimage.gaussian_filter(crop.astype(np.float64), sigmas, mode="nearest", truncate=6)


def psnr_db(found: np.ndarray, wanted: np.ndarray, peak: float) -> float:
    return 10 * math.log10(peak**2 / np.mean((found.astype(np.float64) - wanted) ** 2))


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


@given(st.floats(0.5, 1e6))
def test_cells_and_sigma_give_the_variance_asked_for(sigma: float) -> None:
    cell, low = cell_and_sigma(sigma)
    assert low >= MIN_SIGMA_LOW - 1e-9 or cell == (1 if sigma < MIN_SIGMA_OF_CELLS else 2)
    assert (low * cell) ** 2 + (cell * cell - 1) / 4 == pytest.approx(sigma**2)
    bigger = cell + 1
    rest = sigma**2 - (bigger**2 - 1) / 4
    assert cell == MAX_CELL or rest < (MIN_SIGMA_LOW * bigger) ** 2 * (1 + 1e-9)  # no larger cell would do


@implementations
@pytest.mark.parametrize("sigma", [0.8, 2, 3.5, 4.9, 5.1, 6, 8, 10, 12.3, 16, 24, 32, 48, 64])
def test_at_least_46_db_from_the_true_gaussian(blur, sigma: float, astronaut: np.ndarray) -> None:
    size = min(max(int(6.5 * sigma), 8), 400)
    noise = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), (size, size + 3))
    for crop in (astronaut[20 : 20 + size, 100 : 103 + size], noise):
        assert psnr_db(blur(crop, sigma, sigma), gaussian_true(crop, sigma, sigma), 255) >= 46


@implementations
@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(4, 8), (20, 2), (9, 18)])
def test_each_axis_has_its_own_sigma(blur, sigma_x: float, sigma_y: float, astronaut: np.ndarray) -> None:
    crop = astronaut[50:150, 150:260, 0]
    assert psnr_db(blur(crop, sigma_x, sigma_y), gaussian_true(crop, sigma_x, sigma_y), 255) >= 46
    assert psnr_db(blur(crop, sigma_x, sigma_y), gaussian_true(crop, sigma_y, sigma_x), 255) < 40


@implementations
@pytest.mark.parametrize("depth", [10, 12, 16])
def test_deep_samples(blur, depth: int, astronaut: np.ndarray) -> None:
    peak = (1 << depth) - 1
    crop = (astronaut[50:130, 180:250].astype(np.float64) * peak / 255).astype(np.uint16)
    found = blur(crop, 14, 14)
    assert found.dtype == np.uint16
    assert psnr_db(found, gaussian_true(crop, 14, 14), peak) >= 46
    assert len(np.unique(found >> (depth - 8) << (depth - 8))) < len(np.unique(found))  # low bits are computed too


@implementations
@pytest.mark.parametrize("value", [0, 1, 254, 255])
@pytest.mark.parametrize("sigma", [1.5, 7, 40])
def test_flat_stays_flat(blur, value: int, sigma: float) -> None:
    crop = np.full((37, 23), value, np.uint8)
    np.testing.assert_array_equal(blur(crop, sigma, sigma), crop)


@implementations
@pytest.mark.parametrize("top", [(np.uint16, 65535), (np.uint8, 255)])
def test_extremes_do_not_wrap(blur, top: tuple[type, int]) -> None:
    crop = np.zeros((50, 50), top[0])
    crop[:, 25:] = top[1]
    out = blur(crop, 6, 6)
    assert (np.diff(out.astype(int), axis=1) >= 0).all()
    assert out[:, -1].min() > top[1] * 0.99
    assert out[:, 0].max() < top[1] * 0.01


@implementations
def test_the_input_is_left_alone_and_channels_do_not_mix(blur) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    before = crop.copy()
    out = blur(crop, 9, 9)
    np.testing.assert_array_equal(crop, before)
    assert not np.shares_memory(out, crop)
    for channel in range(3):
        alone = blur(np.ascontiguousarray(crop[..., channel]), 9, 9)
        assert np.abs(out[..., channel].astype(int) - alone).max() <= 1


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([(), (1,), (2,), (3,), (4,)]),
    st.sampled_from([8, 10, 12, 16]),
    st.floats(0.5, 90),
    st.floats(0.5, 90),
    st.integers(0, 2**32 - 1),
)
def test_fast_agrees_with_reference(
    height: int, width: int, channels: tuple[int, ...], depth: int, sigma_x: float, sigma_y: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    held = rng.integers(0, 1 << depth, (height, width + 5, *channels)).astype(np.uint8 if depth == 8 else np.uint16)
    crop = held[:, 2 : width + 2]  # padded rows, as in a frame
    fast, reference = gaussian_cpu(crop, sigma_x, sigma_y), gaussian(crop, sigma_x, sigma_y)
    assert fast.shape == reference.shape == crop.shape
    assert fast.dtype == reference.dtype == crop.dtype
    assert np.abs(fast.astype(int) - reference).max() <= TOLERANCE_CODES


@pytest.mark.parametrize(("height", "width"), [(3, 5000), (5000, 3), (1, 1), (2, 1)])
def test_fast_agrees_at_extreme_sizes(height: int, width: int) -> None:
    crop = np.random.default_rng(3).integers(0, 256, (height, width), np.uint8)
    for sigma in (2.0, 50.0, 3000.0):
        assert np.abs(gaussian_cpu(crop, sigma, sigma).astype(int) - gaussian(crop, sigma, sigma)).max() <= 2


def test_twins_have_one_signature() -> None:
    assert inspect.signature(gaussian) == inspect.signature(gaussian_cpu)


def test_radius_reaches_three_sigma() -> None:
    assert [gaussian_radius(s) for s in (1.0, 2.5, 2.6)] == [3, 8, 8]


@implementations
@pytest.mark.parametrize("sigma", [3, 9, 20])
def test_rounding_has_no_bias(blur, sigma: float, astronaut: np.ndarray) -> None:
    crop = astronaut[50:200, 150:300]
    assert abs(np.mean(blur(crop, sigma, sigma) - gaussian_true(crop, sigma, sigma))) < 0.25
