from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.metrics.intervals import clopper_pearson, lower_bound, threshold_for

pytest.importorskip("scipy")


def at_least(found, total, share):
    """Probability of at least `found` of `total`, by adding up the binomial distribution."""
    return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(found, total + 1))


@settings(deadline=None)  # the first call imports SciPy
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_bounds_are_where_the_binomial_tails_are_what_was_asked(numbers, confidence):
    found, total = numbers
    low, high = clopper_pearson(found, total, confidence)
    assert 0 <= low <= found / total <= high <= 1
    tail = (1 - confidence) / 2
    if found:
        assert at_least(found, total, low) == pytest.approx(tail, rel=1e-6)
        assert at_least(found, total, lower_bound(found, total, confidence)) == pytest.approx(1 - confidence, rel=1e-6)
    if found < total:
        assert 1 - at_least(found + 1, total, high) == pytest.approx(tail, rel=1e-6)


def test_known_values():
    assert lower_bound(59, 59, 0.95) == pytest.approx(0.05 ** (1 / 59))
    assert clopper_pearson(0, 0) == (0, 1)
    assert clopper_pearson(0, 10)[1] == pytest.approx(0.30850, abs=1e-5)  # a published table's value
    assert clopper_pearson(10, 10)[0] == pytest.approx(0.69150, abs=1e-5)


@pytest.mark.parametrize(("found", "total", "confidence"), [(3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0), (1, 2, 0.0)])
def test_impossible_numbers_are_refused(found, total, confidence):
    with pytest.raises(ValueError, match=r"impossible|confidence"):
        lower_bound(found, total, confidence)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.just(-math.inf), st.integers(0, 1000).map(lambda n: n / 1000)), max_size=200),
    st.sampled_from([0.3, 0.5, 0.8]),
)
def test_the_threshold_is_the_highest_that_meets_the_target(scores, target):
    reach, floor = np.array(scores, np.float32).astype(np.float64), 0.05  # scores are float32
    result = threshold_for(reach, target, floor=floor)

    bounds = {}

    def bound(threshold):
        found = int((reach >= np.float32(threshold)).sum())
        return bounds.setdefault(found, lower_bound(found, len(reach)))

    assert result.bound == pytest.approx(bound(result.threshold))
    possible = [t for t in np.arange(50, 1001) / 1000 if bound(t) >= target]
    assert result.met == bool(possible)
    if possible:
        assert result.threshold == pytest.approx(max(possible), abs=1.01e-4)
        assert bound(result.threshold) >= target
    else:
        assert result.threshold == floor


def test_too_few_objects_prove_nothing():
    result = threshold_for(np.full(20, 0.9), 0.98, floor=0.05)
    assert not result.met
    assert result.share == 1
    assert result.possible_bound == pytest.approx(0.05 ** (1 / 20))
    assert not threshold_for(np.zeros(0), 0.5, floor=0.05).met


def test_a_target_is_a_share():
    with pytest.raises(ValueError, match="target"):
        threshold_for(np.ones(3), 1.0, floor=0.1)
