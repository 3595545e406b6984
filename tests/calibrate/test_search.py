"""The search keeps out as few layers as recall demands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.calibrate.recall import Drop, Recall, Verdict, compare
from trt_anon.calibrate.report import advice
from trt_anon.calibrate.search import MOST_RETURNS, smallest_exclusion
from trt_anon.calibrate.settings import CalibrateConfig

LAYERS = [f"l{n}" for n in range(20)]


def verdict(points):
    """Of 1000 objects, of which that many tenths of a point are lost."""
    return Verdict((Drop("all", 1000, 900, 900 - round(10 * points), 0.5),), 0, 0)


def judged_by(harm):
    """Recall that these layers cost, in points, one added to the other."""
    asked = []

    def judge(inside):
        asked.append(inside)
        return verdict(sum(harm.get(name, 0.0) for name in inside))

    return judge, asked


def search(harm, errors=None, adds=None):
    judge, asked = judged_by(harm)
    errors = errors or {name: harm.get(name, 0.0) for name in LAYERS}
    return smallest_exclusion(LAYERS, errors, adds or {}, judge), asked


def test_nothing_is_kept_out_where_recall_holds():
    found, asked = search({"l3": 0.4})
    assert found.inside == set(LAYERS)
    assert found.kept == ()
    assert len(asked) == 1


def test_the_harmful_ones_are_kept_out():
    found, asked = search({"l3": 2.0, "l7": 1.0, "l9": 0.3})
    assert found.kept == ("l3", "l7")
    assert found.verdict.holds
    assert len(asked) <= 6 + MOST_RETURNS


def test_layers_whose_error_does_no_harm_come_back():
    errors = dict.fromkeys(LAYERS, 1.0) | {"l3": 9.0, "l5": 8.0, "l7": 7.0}
    found, _ = search({"l7": 2.0}, errors, {"l3": 1000, "l5": 10})
    assert found.kept == ("l7",)
    assert found.verdict.holds


def test_where_every_layer_costs_too_much_none_is_inside():
    found, _ = search(dict.fromkeys(LAYERS, 5.0))
    assert found.inside == set()
    assert found.verdict.holds
    assert not found.steps[0].verdict.holds


@given(st.dictionaries(st.sampled_from(LAYERS), st.sampled_from([0.1, 0.2, 0.6, 3.0])))
def test_what_is_found_always_holds(harm):
    found, asked = search(harm)
    judge, _ = judged_by(harm)
    assert judge(found.inside).holds
    assert found.inside | set(found.kept) == set(LAYERS)
    assert len(asked) <= 7 + MOST_RETURNS


def recall(found, heights):
    return Recall(np.where(found, 1.0, -np.inf), np.array(heights, float), 3, 10, 0.5)


def test_recall_is_held_against_float32_overall_and_by_size():
    heights = [10.0] * 200 + [100.0] * 200
    before = recall([True] * 400, heights)
    small_lost = recall([False] * 3 + [True] * 397, heights)
    config = CalibrateConfig()
    found = compare(before, small_lost, config)
    assert [(d.name, d.objects, d.before, d.after, d.fails) for d in found.drops] == [
        ("all", 400, 400, 397, True), ("<16", 200, 200, 197, True), ("64+", 200, 200, 200, False),
    ]  # fmt: skip
    assert not found.holds
    assert compare(before, recall([False] * 2 + [True] * 398, heights), config).holds
    only_small = compare(before, small_lost, CalibrateConfig(max_recall_drop=1))
    assert [d.name for d in only_small.drops if d.fails] == ["<16"]
    assert compare(before, before, config).overall.points == 0


def test_a_single_object_fails_nothing():
    heights = [10.0] * 20
    before, after = recall([True] * 20, heights), recall([False] + [True] * 19, heights)
    found = compare(before, after, CalibrateConfig())
    assert found.overall.points == pytest.approx(5)
    assert found.holds
    assert not compare(before, recall([False] * 2 + [True] * 18, heights), CalibrateConfig()).holds


def test_more_found_is_no_loss():
    heights = [10.0] * 300
    found = compare(recall([False] * 9 + [True] * 291, heights), recall([True] * 300, heights), CalibrateConfig())
    assert found.holds
    assert found.overall.points == -3
    assert found.to_dict()["drops"][0]["points_lost"] == -3


def test_advice_fits_what_was_done():
    settings = {"settings": {"include": ["depthwise"], "method": "min-max"}}
    assert "\n".join(advice(verdict(1), settings)).count("--include") == 1
    few = Verdict((Drop("all", 50, 50, 40, 0.5),), 0, 0)
    assert any("50 cannot show half a point" in line for line in advice(few))
