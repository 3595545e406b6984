"""A calibration from beginning to end, on a real detector and pictures of a real face."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trt_anon.build.calibration import Calibration
from trt_anon.build.precision import convert, quantized_layers
from trt_anon.calibrate import CalibrateConfig, calibrate, check, choose
from trt_anon.calibrate.recall import RecallMeter
from trt_anon.calibrate.write import write_network, write_outcome
from trt_anon.config import AnonymizeConfig, DetectConfig, RuntimeConfig
from trt_anon.errors import ModelError, OutputError, UsageError
from trt_anon.evaluate import EvaluateConfig, evaluate, read_labels
from trt_anon.models.calibrations import CalibrationRecipe, calibration_of, load_recipe
from trt_anon.models.registry import Registry

PLAIN = {"method": "mse", "equalize": False, "search_weights": False, "correct_bias": False}
EXACT = RuntimeConfig(device="cpu", precision="f32")


@pytest.fixture(scope="module")
def outcome(drafted):
    return choose(drafted)


def test_recall_is_that_of_an_evaluation(drafted, small_yunet):
    """Of the float32 network, by the same rules of matching and the same preprocessing."""
    config = AnonymizeConfig(detect=DetectConfig(detectors=(str(small_yunet),)), runtime=EXACT)
    figures = evaluate(drafted.meter.labels, config, EvaluateConfig(timing_images=0)).figures["all"]
    assert drafted.before.share() == (figures["found"], figures["objects"])
    assert drafted.before.wrong == figures["wrong"]
    assert figures["found"] > 30


def test_recall_holds_and_the_report_says_what_was_done(outcome, drafted):
    assert outcome.verdict.holds
    report = outcome.report
    assert report["ranges_from"]["images"] == report["recall_from"]["images"] == 40
    assert report["recall_from"]["labels"] == "given"
    by_name = {layer["name"]: layer for layer in report["layers"]}
    inside = set(quantized_layers(outcome.calibration))
    assert {name for name, layer in by_name.items() if layer["precision"] == "int8"} == inside
    assert report["int8"]["layers"] == len(inside) > 10
    assert 0.5 < report["int8"]["share_of_multiply_adds"] < 0.8
    assert {layer["reason"] for name, layer in by_name.items() if name not in inside} >= {"depthwise", "head"}
    assert all(layer["error_alone"] >= 0 and layer["largest"] >= layer["range"] > 0 for layer in by_name.values())
    text = json.dumps(report)
    assert ".png" not in text, "no names of pictures"


def test_the_same_pictures_and_seed_give_the_same_calibration(outcome, small_yunet, faces_folder):
    again = calibrate(small_yunet, faces_folder, CalibrateConfig(images=40, **PLAIN))
    assert again.calibration.to_json() == outcome.calibration.to_json()
    assert again.report == outcome.report


def test_kinds_of_layers_can_be_included(drafted, outcome):
    wider = choose(drafted, ["depthwise", "head", "few channels"])
    assert wider.verdict.holds
    assert len(quantized_layers(wider.calibration)) > len(quantized_layers(outcome.calibration))
    assert wider.calibration.settings["include"] == ["depthwise", "head", "few channels"]


def test_a_calibration_can_be_checked_and_fails_where_recall_is_lost(outcome, small_yunet, faces_folder):
    labels = read_labels(faces_folder, classes=("face",))
    assert check(small_yunet, outcome.calibration, labels).holds
    broken = json.loads(outcome.calibration.to_json())
    broken["ranges"] = {name: value / 40 for name, value in broken["ranges"].items()}
    verdict = check(small_yunet, Calibration.from_json(json.dumps(broken)), labels)
    assert not verdict.holds
    assert verdict.overall.points > 5
    other = json.loads(outcome.calibration.to_json()) | {"network_sha256": "0" * 64}
    with pytest.raises(ModelError, match="another network"):
        check(small_yunet, Calibration.from_json(json.dumps(other)), labels)


def test_layers_that_cost_recall_are_kept_out(drafted, monkeypatch):
    """One layer's weights are made useless: the search has to find it."""
    fitted = drafted.fitted
    victim = max(
        (name for name, layer in fitted.plan.layers.items() if layer.outside is None),
        key=lambda name: fitted.errors[name],
    )
    monkeypatch.setitem(fitted.plan.clips.weights, victim, fitted.plan.clips.weights[victim] / 50)
    found = choose(drafted)
    assert found.verdict.holds
    assert victim in found.report["int8"]["kept_for_recall"]
    assert found.calibration.high[victim] == "recall"
    assert not found.report["steps"][0]["holds"]
    assert found.report["int8"]["layers"] >= 8


def test_without_labels_what_float32_is_sure_of_counts(small_yunet, faces_folder):
    found = calibrate(small_yunet, faces_folder / "images", CalibrateConfig(images=40, **PLAIN))
    assert found.report["recall_from"]["labels"] == "what float32 is sure of (score 0.5 and more)"
    assert found.report["recall_float32"] == 1
    assert found.report["recall_from"]["objects"] > 30
    assert found.verdict.holds


def test_labels_of_other_pictures_are_noticed(drafted, faces_folder, small_yunet):
    labels = read_labels(faces_folder, classes=("face",))
    moved = [
        type(image)(**{**{f: getattr(image, f) for f in image.__slots__}, "boxes_xyxy_px": np.array([[0.0, 0, 9, 9]])})
        for image in labels.images
    ]
    wrong = type(labels)(tuple(moved), labels.class_names, labels.category_names)
    with pytest.raises(UsageError, match="labels and pictures do not belong together"):
        calibrate(small_yunet, wrong, CalibrateConfig(images=40, **PLAIN))


def test_ranges_of_a_calibration_cache_are_taken(small_yunet, faces_folder, tmp_path, outcome):
    values = {name: clip for name, clip in outcome.calibration.ranges.items() if clip > 0}
    import struct

    lines = [f"{name}: {struct.pack('>f', 2 * clip / 127).hex()}" for name, clip in values.items()]
    (tmp_path / "c.cache").write_text("\n".join(["TRT-8601-EntropyCalibration2", *lines]))
    found = calibrate(small_yunet, faces_folder, CalibrateConfig(images=40, **PLAIN), cache=tmp_path / "c.cache")
    for name, clip in values.items():
        assert found.calibration.ranges[name] == pytest.approx(2 * clip, rel=1e-4)
    assert {layer["range_by"] for layer in found.report["layers"]} == {"given"}


def test_files_are_written_and_found_again(outcome, tmp_path, monkeypatch, small_yunet):
    pytest.importorskip("matplotlib")
    registry = Registry()
    written = write_outcome(outcome, tmp_path, "the astronaut")
    assert [path.name for path in written] == ["small.json", "small.report.json", "small.toml", "small.png"]
    assert Calibration.load(tmp_path / "small.json") == Calibration.from_json(outcome.calibration.to_json())
    recipe = load_recipe(tmp_path / "small.toml")
    assert isinstance(recipe, CalibrationRecipe)
    assert recipe.data == "the astronaut"
    assert recipe.measured["objects"] == outcome.verdict.overall.objects
    assert written[-1].read_bytes().startswith(b"\x89PNG")
    monkeypatch.setenv("TRT_ANON_CALIBRATION", str(tmp_path))
    found = calibration_of(registry.get(small_yunet))
    assert found is not None
    assert found[1] == tmp_path / "small.json"
    other = registry.get(small_yunet).model_copy(update={"sha256": "0" * 64})
    assert calibration_of(other) is None
    with pytest.raises(OutputError, match="exists"):
        write_outcome(outcome, tmp_path, "the astronaut")


def test_the_int8_network_is_a_detector_of_its_own(outcome, drafted, tmp_path, small_yunet):
    registry = Registry()
    registry.get(small_yunet)
    onnx_path, recipe_path = write_network(outcome, tmp_path, registry)
    assert onnx_path.stat().st_size < 0.75 * 232589
    recipe = Registry().get(recipe_path)
    assert recipe.name == "small-int8"
    config = AnonymizeConfig(detect=DetectConfig(detectors=(str(recipe_path),)), runtime=EXACT)
    figures = evaluate(drafted.meter.labels, config, EvaluateConfig(timing_images=0)).figures["all"]
    assert figures["found"] == outcome.verdict.overall.after


def test_pinned_and_folded_forms_take_the_same_calibration(outcome, drafted, small_yunet):
    from trt_anon.build.load import load_model
    from trt_anon.build.patch import make_dynamic

    original = load_model(small_yunet.with_suffix(".onnx"))
    for form in (original, make_dynamic(original), drafted.subject.model):
        stored = {t.name for t in convert(form, "int8", outcome.calibration).graph.initializer}
        inside = quantized_layers(outcome.calibration)
        assert {f"{name}/weights_codes" for name in inside} <= stored


def test_a_quantized_detector_is_not_quantized_again(outcome, tmp_path, small_yunet, faces_folder):
    registry = Registry()
    registry.get(small_yunet)
    _, recipe_path = write_network(outcome, tmp_path, registry)
    with pytest.raises(UsageError, match="quantized already"):
        calibrate(recipe_path, faces_folder)


def test_recall_can_be_measured_by_either_runtime(drafted):
    meter = drafted.meter
    other = RecallMeter(
        drafted.subject.recipe, drafted.subject.family, meter.labels,
        RuntimeConfig(device="cpu", runtime="onnxruntime"), 0.5,
    )  # fmt: skip
    np.testing.assert_array_equal(other.measure(drafted.subject.model).found, drafted.before.found)
