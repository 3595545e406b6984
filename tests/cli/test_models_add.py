"""`trt-anon models add`: what is typed becomes a recipe, and the command says what it recognised."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trt_anon.cli.main import app
from trt_anon.errors import UsageError

pytest.importorskip("onnx")


@pytest.fixture(scope="session")
def made():
    path = Path(__file__).parents[1] / "detectors.py"
    spec = importlib.util.spec_from_file_location("trt_anon_test_detectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def file(made, tmp_path, monkeypatch):
    for name in ("MODELS", "RECIPES", "CACHE"):
        monkeypatch.setenv(f"TRT_ANON_{name}", str(tmp_path / name.lower()))
    return made.save(made.detector({"o": made.rows(made.P, 7)}), tmp_path / "street.onnx")


def run(*words: object, succeeds: bool = True):
    result = CliRunner().invoke(app, ["models", *map(str, words)])
    if succeeds:
        assert result.exit_code == 0, result.output
    return result


def test_options_reach_the_recipe(file, tmp_path):
    result = run(
        "add", file, "--name", "mine", "--family", "yolov8", "--classes", "car, person,face", "--redact-as", "1=face",
        "--option", "multi_label=true", "--option", "box_format=xyxy", "--option", "strides_px=[8, 16, 32]",
        "--input", "channels=bgr", "--input", "mean=1,2,3", "--input", "scale=1/255,1/255,1/128",
        "--threshold", 0.25, "--licence", "Apache-2.0",
    )  # fmt: skip
    recipe = tomllib.loads((tmp_path / "recipes" / "mine.toml").read_text())
    assert recipe["classes"] == ["car", "face", "face"]
    assert recipe["family_options"] == {
        "layout": "npc", "multi_label": True, "box_format": "xyxy", "strides_px": [8, 16, 32]
    }  # fmt: skip
    assert recipe["input"] == {
        "channels": "bgr", "mean": [1, 2, 3], "scale": [1 / 255, 1 / 255, 1 / 128], "size_px": [96, 64]
    }  # fmt: skip
    assert recipe["threshold"] == 0.25
    assert recipe["licence"]["spdx"] == "Apache-2.0"
    for part in ("yolov8", "face (2 of 3 classes)", "96x64", "BGR", "Apache-2.0: make sure", "--detector mine"):
        assert part in result.output
    assert "mine" in run("list").output
    assert "multi_label" in run("show", "mine").output


def test_an_unknown_licence_is_brought_up(file):
    assert "state it with --licence" in run("add", file, "--classes", "face,b,c").output


@pytest.mark.parametrize(("option", "text"), [("--redact-as", "face"), ("--option", "=3"), ("--input", "mean=")])
def test_pairs_that_are_none(file, option, text):
    result = run("add", file, option, text, succeeds=False)
    assert isinstance(result.exception, UsageError)
    assert "expected KEY=VALUE" in str(result.exception)


def test_a_wrong_option_is_named(file):
    result = run("add", file, "--classes", "face,b,c", "--option", "clases=3", succeeds=False)
    assert isinstance(result.exception, UsageError)
    assert "unknown option 'clases'" in str(result.exception)


def test_a_model_instead_of_a_recipe_is_told_about_this_command(file):
    from trt_anon.models.registry import Registry

    with pytest.raises(UsageError, match=r"trt-anon models add .*street\.onnx"):
        Registry().get(file)
