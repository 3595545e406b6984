"""The page of the quantization benchmark is that of its figures; its shortcut through ONNX Runtime changes nothing."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return _module("quantization_page")


@pytest.fixture(scope="module")
def result() -> Any:
    return json.loads((BENCHMARKS / "results" / "epyc-2core.json").read_text())


def test_the_page_is_that_of_the_figures(page: ModuleType, result: Any) -> None:
    text = (ROOT / "docs" / "calibrate.md").read_text()
    _, _, rest = text.partition(page.BEGIN)
    shown, end, _ = rest.partition(page.END)
    assert end
    assert shown.strip() == page.summary(result["quantization"]).strip()
    long = (ROOT / "docs" / "calibration" / "recall.md").read_text()
    assert page.table(page.ordered(result["quantization"]["detectors"])) in long


def test_what_was_promised_holds_or_is_told(page: ModuleType, result: Any) -> None:
    """At most half a point lost, on pictures that no calibration has seen, and no more than ONNX Runtime's methods."""
    detectors = result["quantization"]["detectors"]
    assert {"yunet", "centerface"} <= set(detectors) <= set(page.ORDER)
    better, lost_more = set(), set()
    for name, one in detectors.items():
        networks = one["networks"]
        own = networks["calibrated"]
        if own["points_lost"] > 0.5:
            lost_more.add(name)
        assert own["multiply_adds_in_int8"] > 0, name
        others = [networks[f"ONNX Runtime {method}"] for method in page.METHODS]
        if any(o["points_lost"] < own["points_lost"] and not page.by_chance(o) for o in others):
            better.add(name)
    assert better == page.BETTER_ELSEWHERE
    assert lost_more == page.LOST_MORE


def test_chance(page: ModuleType) -> None:
    def chance(own: int, other: int) -> bool:
        found: bool = page.by_chance({"only_calibrated_found": own, "only_this_found": other})
        return found

    assert chance(0, 0)
    assert chance(0, 5)
    assert not chance(0, 6)
    assert not chance(6, 0)
    assert chance(10, 12)


def test_onnx_runtimes_histograms_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bench = _module("quantization")
    random = np.random.default_rng(0)
    values = np.abs(random.normal(size=20_000)).astype(np.float32)
    edges = np.linspace(0, values.max() * 0.9, 101, dtype=np.float32)
    expected, _ = np.histogram(values, bins=edges)
    with bench.few_at_a_time():
        found, same = np.histogram(values, bins=edges)
        plain, _ = np.histogram(values, 50)
    assert same is edges
    assert np.abs(found - expected).sum() <= 20  # of values on an edge, a rounding apart
    assert plain.sum() == len(values)
    assert np.histogram is not None
    assert np.histogram(values, bins=edges)[0].tolist() == expected.tolist()
