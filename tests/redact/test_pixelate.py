"""Pixelation against means computed with fractions, and the fast path against the reference: equal."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.redact.pixelate import cell_edges, pixelate
from trt_anon.redact.pixelate_cpu import pixelate_cpu

IMPLEMENTATIONS = [pixelate, pixelate_cpu]
implementations = pytest.mark.parametrize("function", IMPLEMENTATIONS)


@given(st.integers(1, 3000), st.integers(1, 5000))
def test_edges_divide_the_axis_into_cells_of_at_least_that_size(blocks: int, cell: int) -> None:
    edges = cell_edges(blocks, cell)
    sizes = np.diff(edges)
    assert (edges[0], edges[-1]) == (0, blocks)
    assert sizes.min() >= min(cell, blocks)
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == max(blocks // cell, 1)


@implementations
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_cell_takes_its_mean_rounded_half_up(function, dtype: type) -> None:
    crop = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (11, 14, 2)).astype(dtype)
    edges_x, edges_y = np.array([0, 3, 8, 14]), np.array([0, 4, 11])
    out = function(crop, edges_x, edges_y)
    assert out.dtype == dtype
    for y in range(11):
        for x in range(14):
            x0, x1 = max(e for e in edges_x if e <= x), min(e for e in edges_x if e > x)
            y0, y1 = max(e for e in edges_y if e <= y), min(e for e in edges_y if e > y)
            for c in range(2):
                cell = crop[y0:y1, x0:x1, c].ravel().tolist()
                assert out[y, x, c] == math.floor(Fraction(sum(cell), len(cell)) + Fraction(1, 2))


@implementations
def test_a_half_rounds_up(function) -> None:
    crop = np.array([[0, 1], [4, 5]], np.uint8)
    np.testing.assert_array_equal(function(crop, np.array([0, 2]), np.array([0, 1, 2])), [[1, 1], [5, 5]])


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([(), (1,), (2,), (3,), (4,)]),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_fast_equals_reference(
    height: int, width: int, cell_x: int, cell_y: int, channels: tuple[int, ...], dtype: type, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    crop = rng.integers(0, np.iinfo(dtype).max + 1, (height, width + 5, *channels)).astype(dtype)[:, 2 : width + 2]
    edges_x, edges_y = cell_edges(width, cell_x), cell_edges(height, cell_y)
    np.testing.assert_array_equal(pixelate_cpu(crop, edges_x, edges_y), pixelate(crop, edges_x, edges_y))


@pytest.mark.parametrize("shape", [(2900, 2900), (3, 20000)])
def test_sums_do_not_overflow(shape: tuple[int, int]) -> None:
    crop = np.full(shape, 255, np.uint8)
    crop[-1] = 254
    edges_x, edges_y = cell_edges(shape[1], shape[1]), cell_edges(shape[0], shape[0])
    np.testing.assert_array_equal(pixelate_cpu(crop, edges_x, edges_y), pixelate(crop, edges_x, edges_y))


def test_twins_have_one_signature() -> None:
    assert inspect.signature(pixelate) == inspect.signature(pixelate_cpu)
