"""`trt-anon regions`, and `anonymize` with --regions and --detections."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from trt_anon.cli.main import app
from trt_anon.errors import ConfigError, UsageError

REGIONS = {"regions": [{"name": "sign", "box": [4, 6, 20, 30], "files": ["*.png"], "redact": {"method": "solid"}}]}


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(REGIONS))
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(40, 216, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_validate_counts_and_says_what_applies(regions: Path, picture: Path) -> None:
    shown = run("regions", "validate", regions, picture, "b.jpg")
    assert "1 regions (1 to redact), times in seconds" in shown
    assert f"{picture}: 1 regions apply" in shown
    assert "b.jpg: 0 regions apply" in shown


def test_validate_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"regions": [{"box": [9, 0, 1, 1]}]}')
    with pytest.raises(ConfigError, match=r"regions\.0.*x0 < x1"):
        run("regions", "validate", tmp_path / "r.json")


def test_the_schema_is_json() -> None:
    assert json.loads(run("regions", "schema"))["type"] == "object"


def test_draw_shows_the_outline_and_nothing_else(regions: Path, picture: Path, tmp_path: Path) -> None:
    run("regions", "draw", regions, picture, "-o", tmp_path / "drawn.png")
    before, after = np.asarray(Image.open(picture)).astype(int), np.asarray(Image.open(tmp_path / "drawn.png"))
    changed = (before != after).any(axis=-1)
    assert changed[6, 5:19].all()
    assert not changed[9:27, 8:16].any()
    assert not changed[34:].any()
    red, green, blue = after[6, 10].tolist()
    assert red > 180
    assert max(green, blue) < 100


def test_draw_at_a_time_of_a_clip(clips: ModuleType, tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "a.mkv", codec="ffv1", frames=10)
    path = tmp_path / "r.json"
    path.write_text('{"regions": [{"ellipse": [8, 8, 40, 40], "start": 0.2}]}')
    assert "1 regions drawn" in run("regions", "draw", path, clip, "-o", tmp_path / "a.png")
    assert "0 regions drawn" in run("regions", "draw", path, clip, "--at", "0.1", "-o", tmp_path / "b.png")
    with pytest.raises(Exception, match="no frame is shown at that time"):
        run("regions", "draw", path, clip, "--at", "9", "-o", tmp_path / "c.png")


def test_anonymize_redacts_regions_in_folders_by_pattern(regions: Path, picture: Path, tmp_path: Path) -> None:
    Image.open(picture).save(picture.with_name("b.bmp"))
    run("anonymize", picture.parent, "-o", f"{tmp_path / 'out'}/", "--regions", regions, "--runtime", "null", "-q")
    black = ~np.asarray(Image.open(tmp_path / "out" / "a.png")).any(axis=-1)
    expected = np.zeros((48, 64), bool)
    expected[6:30, 4:20] = True
    np.testing.assert_array_equal(black, expected)
    assert np.asarray(Image.open(tmp_path / "out" / "b.bmp")).any(axis=-1).all()


def test_anonymize_with_detections_runs_no_detector(regions: Path, picture: Path, tmp_path: Path) -> None:
    found = tmp_path / "d.json"
    found.write_text(
        json.dumps(
            {
                "categories": [{"id": 1, "name": "face"}],
                "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [40, 8, 8, 8]}],
            }
        )
    )
    run("anonymize", picture, "-o", tmp_path / "b.png", "--detections", found, "--redact", "solid", "--shape", "box")
    black = ~np.asarray(Image.open(tmp_path / "b.png")).any(axis=-1)
    assert black[8:16, 40:48].all()
    assert not black[:, :36].any()
    with pytest.raises(UsageError, match="runs no detector"):
        run("anonymize", picture, "-o", tmp_path / "c.png", "--detections", found, "--threshold", "0.5")
