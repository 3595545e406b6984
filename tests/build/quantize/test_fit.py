"""Fitting: the error gets smaller by each measure, and the same pictures give the same calibration."""

from __future__ import annotations

import numpy as np
import pytest

from trt_anon.build.calibration import Calibration
from trt_anon.build.precision import convert, quantized_layers
from trt_anon.build.quantize.fit import Fitting, fit
from trt_anon.build.tidy import network_sha256
from trt_anon.errors import ConfigError, ModelError, UsageError


def silent(title, done, total):
    pass


@pytest.fixture
def fitted(nets):
    def made(fitting=None, model=None, count=8, given=None):
        model = model or nets.chain(spread=40)
        feeds = nets.feeds(count)
        return fit(model, lambda: iter(feeds), feeds[:3], count, fitting or Fitting(), silent, given=given)

    return made


def calibration_of(model, one, high=None):
    outside = {name: layer.outside for name, layer in one.plan.layers.items() if layer.outside}
    return Calibration(
        model_sha256="0" * 64,
        network_sha256=network_sha256(model),
        data_sha256="1" * 64,
        images=8,
        settings={"seed": 0},
        ranges=one.plan.clips.values,
        largest=one.largest,
        weights={name: tuple(map(float, vector)) for name, vector in one.plan.clips.weights.items()},
        high=outside if high is None else high,
        bias={name: tuple(map(float, vector)) for name, vector in one.plan.bias.items()},
        equalized=one.factors,
    )


def test_auto_is_no_worse_than_any_method(fitted):
    names = ["b", "d"]
    figures = {}
    for method in ("auto", "min-max", "percentile", "entropy", "mse"):
        one = fitted(Fitting(method, equalize=False, search_weights=False, correct_bias=False))
        figures[method] = one.reference.error(one.plan.quantized(names))
        assert set(one.methods) == set(one.plan.clips.values)
    assert figures["auto"] <= min(figures.values()) * 1.0001


def test_all_measures_together_help(fitted):
    plain = fitted(Fitting("mse", equalize=False, search_weights=False, correct_bias=False))
    full = fitted(Fitting())
    everything = list(plain.plan.layers)
    assert full.reference.error(full.plan.quantized(everything)) < 0.8 * plain.reference.error(
        plain.plan.quantized(everything)
    )
    assert full.factors
    assert not plain.factors
    assert not plain.plan.bias
    assert set(full.errors) == set(everything)


def test_the_same_pictures_give_the_same_calibration_and_network(nets, fitted):
    model = nets.chain(spread=40)
    texts = [calibration_of(model, fitted(model=model)).to_json() for _ in range(2)]
    assert texts[0] == texts[1]
    read = Calibration.from_json(texts[0])
    assert read.to_json() == texts[0]
    networks = [
        convert(model, "int8", one).SerializeToString(deterministic=True)
        for one in (calibration_of(model, fitted(model=model)), read)
    ]
    assert networks[0] == networks[1]


def test_known_ranges_are_taken(fitted):
    one = fitted(given={"ra": 1.25, "nobody": 3.0})
    assert one.plan.clips.values["ra"] == 1.25
    assert one.methods["ra"] == "given"
    assert "nobody" not in one.plan.clips.values
    assert not one.factors, "equalizing would change what the ranges are of"


def test_int8_is_written_from_a_calibration(nets, fitted):
    model = nets.chain(spread=40)
    calibration = calibration_of(model, fitted(model=model))

    def inside(network):
        stored = {t.name for t in network.graph.initializer}
        return [name for name in "abcde" if f"{name}/weights_codes" in stored]

    assert inside(convert(model, "int8", calibration)) == ["b", "d"]
    assert inside(convert(model, "int8", calibration, keep=["d"])) == ["b"]
    assert inside(convert(model, "int8", calibration, include=["depthwise"])) == ["b", "c", "d"]
    assert inside(convert(model, "fp8", calibration)) == ["b", "d"]
    assert quantized_layers(calibration, ["head"]) == ["b", "d", "e"]
    half = convert(model, "int8", calibration, rest="fp16")
    assert {t.name for t in half.graph.initializer} >= {"b/weights_scale/half"}


def test_another_network_and_no_calibration_are_refused(nets, fitted):
    model = nets.chain(spread=40)
    calibration = calibration_of(model, fitted(model=model))
    with pytest.raises(ModelError, match="another network"):
        convert(nets.chain(spread=3), "int8", calibration)
    with pytest.raises(UsageError, match="needs a calibration"):
        convert(model, "int8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "no calibration"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "calibrate again"),
        (lambda text: text.replace('"images"', '"pictures"'), "other fields"),
        (lambda text: text.replace('"ra": ', '"ra": -'), "ranges of 'ra'"),
        (lambda text: "[]", "format 1"),
    ],
)
def test_files_that_are_no_calibration_are_refused(nets, fitted, tmp_path, change, message):
    model = nets.chain()
    path = tmp_path / "c.json"
    path.write_text(change(calibration_of(model, fitted(Fitting("mse"), model=model, count=3)).to_json()))
    with pytest.raises(ConfigError, match=message):
        Calibration.load(path)


def test_a_calibration_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        Calibration.load(tmp_path / "none.json")


def test_values_that_are_not_finite_are_refused(nets):
    model = nets.chain()
    feeds = [{"input": np.full((1, 3, 24, 24), np.nan, np.float32)}]
    with pytest.raises(ModelError, match="not finite"):
        fit(model, lambda: iter(feeds), nets.feeds(1), 1, Fitting("mse"), silent)
