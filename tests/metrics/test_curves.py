from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.metrics.curves import ap_coco, ap_voc, ap_voc11, count_at, curve
from trt_anon.metrics.matching import FALSE, IGNORED, TRUE

detections = st.lists(
    st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.sampled_from([TRUE, FALSE, IGNORED])), max_size=30
)


def arrays(pairs):
    return np.array([s for s, _ in pairs], np.float64), np.array([v for _, v in pairs], np.int8)


@given(detections, st.integers(0, 5), st.integers(0, 20).map(lambda n: n / 20))
def test_counts_are_those_of_a_loop(pairs, missed, threshold):
    scores, verdicts = arrays(pairs)
    objects = sum(v == TRUE for _, v in pairs) + missed
    counts = count_at(scores.astype(np.float32), verdicts, objects, threshold)
    kept = [v for s, v in pairs if np.float32(s) >= np.float32(threshold)]
    true, false = kept.count(TRUE), kept.count(FALSE)
    assert (counts.true, counts.false, counts.missed) == (true, false, objects - true)
    assert counts.precision == (true / (true + false) if true + false else None)
    assert counts.recall == (true / objects if objects else None)
    if counts.precision and counts.recall:
        harmonic = 2 / (1 / counts.precision + 1 / counts.recall)
        assert counts.f1 == pytest.approx(harmonic)


def by_definition(pairs, objects, recalls):
    """Mean over recalls of the best precision at that recall or above, by trying every cut of the ranking."""
    ranked = [v for _, v in sorted((p for p in pairs if p[1] != IGNORED), key=lambda p: -p[0])]
    points = []
    for cut in range(1, len(ranked) + 1):
        true = ranked[:cut].count(TRUE)
        points.append((true / objects, true / cut))
    return float(np.mean([max((p for r, p in points if r >= wanted), default=0.0) for wanted in recalls]))


@given(detections, st.integers(0, 5))
def test_sampled_averages_are_those_of_the_definition(pairs, missed):
    scores, verdicts = arrays(pairs)
    objects = sum(v == TRUE for _, v in pairs) + missed
    points = curve(scores, verdicts, objects)
    if not objects:
        assert ap_coco(points) is ap_voc11(points) is ap_voc(points) is None
        return
    assert ap_coco(points) == pytest.approx(by_definition(pairs, objects, np.linspace(0, 1, 101)))
    assert ap_voc11(points) == pytest.approx(by_definition(pairs, objects, np.linspace(0, 1, 11)))
    # The area under the same steps, sampled finely.
    assert ap_voc(points) == pytest.approx(by_definition(pairs, objects, (np.arange(20000) + 0.5) / 20000), abs=2e-3)


def test_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    points = curve(scores, np.array([TRUE, FALSE, TRUE, IGNORED], np.int8), 4)
    assert points.precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert points.recall == pytest.approx([0.25, 0.25, 0.5])
    assert points.f1 == pytest.approx([0.4, 1 / 3, 4 / 7])
    assert ap_voc(points) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert ap_voc11(points) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)


def test_no_detections():
    points = curve(np.zeros(0), np.zeros(0, np.int8), 3)
    assert ap_coco(points) == ap_voc(points) == ap_voc11(points) == 0
    assert len(points.f1) == 0
