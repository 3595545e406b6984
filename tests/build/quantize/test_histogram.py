"""Histograms that grow: exact, and the same in whatever order numbers come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from trt_anon.build.quantize.histogram import BINS, Histogram

numbers = arrays.arrays(
    np.float32, st.integers(0, 40), elements=st.floats(-(2**40), 2**40, width=32, allow_subnormal=False)
)


def counted(parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@settings(deadline=None, max_examples=60)
@given(st.lists(numbers, max_size=5), st.randoms())
def test_order_and_division_make_no_difference(parts, random):
    whole = counted([np.concatenate([np.zeros(0, np.float32), *parts])])
    random.shuffle(parts)
    apart = counted(parts)
    joined = Histogram()
    for part in parts:
        joined = joined.joined(counted([part]))
    for other in (apart, joined):
        np.testing.assert_array_equal(other.counts, whole.counts)
        assert (other.exponent, other.zeros, other.largest) == (whole.exponent, whole.zeros, whole.largest)
    assert whole.total == sum(part.size for part in parts)


def test_numbers_lie_in_their_bins():
    values = np.random.default_rng(0).normal(0, 3, 100_000).astype(np.float32)
    histogram = counted(np.array_split(values, 7))
    edges = np.concatenate([[0], histogram.edges()])
    expected, _ = np.histogram(np.abs(values), edges)
    expected[0] -= (values == 0).sum()
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.largest == np.abs(values).max()
    assert histogram.edges()[-1] >= histogram.largest > histogram.edges()[-1] / 2


def test_zeros_count_apart_and_the_largest_on_the_last_edge_is_counted():
    histogram = counted([np.float32([0, -0.0, 4, -4, 1])])
    assert (histogram.zeros, histogram.total, histogram.largest) == (2, 5, 4.0)
    assert histogram.counts[BINS - 1] == 2
    assert histogram.counts[0] == 0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="not finite"):
        Histogram().add(np.float32([1, wrong]))
