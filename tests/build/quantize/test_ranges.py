"""Ranges by each method, held against what they are defined as."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trt_anon.build.quantize import ranges
from trt_anon.build.quantize.histogram import Histogram


def histogram(values):
    made = Histogram()
    made.add(np.asarray(values, np.float32))
    return made


def normal(count=200_000, outlier=None, seed=0):
    values = np.random.default_rng(seed).normal(0, 1, count)
    return histogram(values if outlier is None else np.append(values, outlier))


def rounding_error(values, clip):
    step = clip / 127
    return float(np.square(np.clip(np.rint(values / step), -127, 127) * step - values).mean())


def test_min_max_is_all_of_it():
    assert ranges.min_max(normal(outlier=37.5)) == 37.5


@pytest.mark.parametrize("share", [50.0, 99.0, 99.9])
def test_a_percentile_holds_its_share(share):
    values = np.random.default_rng(1).exponential(1, 100_000)
    assert ranges.percentile(histogram(values), share) == pytest.approx(np.percentile(values, share), rel=0.02)


def test_zeros_count_for_a_percentile():
    values = np.concatenate([np.zeros(9000), np.linspace(0.001, 1, 1000)])
    assert ranges.percentile(histogram(values), 95) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("outlier", [None, 20.0, 500.0])
def test_mse_is_the_range_of_the_least_error(outlier):
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    values = values if outlier is None else np.append(values, outlier)
    clip = ranges.mse(histogram(values))
    tried = np.linspace(0.5, np.abs(values).max(), 400)
    least = min(rounding_error(values, one) for one in tried)
    assert rounding_error(values, clip) < 1.05 * least


def test_entropy_and_mse_cut_off_an_outlier_and_leave_an_even_distribution_whole():
    for method, outlier in ((ranges.entropy, 100.0), (ranges.mse, 20.0)):
        assert method(normal(outlier=outlier)) < 12
        even = histogram(np.random.default_rng(0).uniform(-3, 3, 200_000))
        assert method(even) == pytest.approx(3, rel=0.03)


def test_entropy_is_the_range_of_least_divergence():
    """Against a loop that reads like the definition."""
    seen = normal(50_000, outlier=9.0)
    used = int(np.flatnonzero(seen.counts)[-1]) + 1
    counts = seen.counts[:used].astype(float)

    def divergence(length):
        reference = counts[:length].copy()
        reference[-1] += counts[length:].sum()
        spread = np.zeros(length)
        for code in range(128):
            low, high = code * length // 128, (code + 1) * length // 128
            there = counts[low:high] > 0
            if there.any():
                spread[low:high][there] = counts[low:high].sum() / there.sum()
        p, q = reference / reference.sum(), spread / spread.sum()
        q[(p > 0) & (q == 0)] = 1e-12
        return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())

    tried = sorted({round(n) for n in np.linspace(128, used, 256)})
    best = min(tried, key=divergence)
    assert ranges.entropy(seen) == pytest.approx(min(best * seen.width, seen.largest))


def test_few_levels_and_nothing_at_all_are_whole():
    assert ranges.entropy(histogram([0.5, -0.25])) == 0.5
    nothing = histogram(np.zeros(10))
    assert {method: find(nothing) for method, find in ranges.METHODS.items()} == dict.fromkeys(ranges.METHODS, 0.0)
    assert ranges.candidates(nothing) == {"min-max": 0.0}


def test_candidates_that_are_alike_come_once():
    found = ranges.candidates(normal(outlier=50.0))
    clips = sorted(found.values())
    assert next(iter(found)) == "min-max"
    assert len(clips) > 3
    assert all(high > 1.02 * low for low, high in pairwise(clips))
