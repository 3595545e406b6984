from __future__ import annotations

from typing import Any

import pytest

from trt_anon.config import DetectConfig, validated
from trt_anon.errors import ConfigError
from trt_anon.models.recipe import Recipe

VALUES: dict[str, Any] = {
    "name": "x",
    "description": "d",
    "family": "yunet",
    "classes": ["face"],
    "sha256": "0" * 64,
    "size_bytes": 1,
    "licence": {"spdx": "MIT"},
    "source": {"kind": "wheel", "requirement": "pkg==1.0", "wheel_sha256": "0" * 64, "path": "a/b.onnx"},
}


def recipe(**changes: Any) -> Recipe:
    return validated(Recipe, {**VALUES, **changes}, "test")


def test_a_recipe() -> None:
    assert recipe().scales[0].factor(100, 50) == 1


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.onnx", "a/../../x", "a\\..\\x", "", "."])
@pytest.mark.parametrize("kind", ["package", "wheel", "file"])
def test_paths_stay_inside(kind: str, path: str) -> None:
    source = {
        "package": {"kind": "package", "package": "pkg"},
        "wheel": {"kind": "wheel", "requirement": "pkg==1.0", "wheel_sha256": "0" * 64},
        "file": {"kind": "file"},
    }[kind]
    with pytest.raises(ConfigError, match="relative path"):
        recipe(source={**source, "path": path})


@pytest.mark.parametrize(
    "requirement", ["pkg", "pkg>=1", "--index-url=http://x", "-r file", "pkg==1 --pre", "pkg @ http://x", "./a.whl", ""]
)
def test_requirements_are_pinned_and_no_options(requirement: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.wheel\.requirement"):
        recipe(source={**VALUES["source"], "requirement": requirement})


@pytest.mark.parametrize("package", ["os.path", "-x", "a/b", ""])
def test_packages_are_top_level_names(package: str) -> None:
    with pytest.raises(ConfigError, match="package"):
        recipe(source={"kind": "package", "package": package, "path": "x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../x"},
        {"name": "A"},
        {"sha256": "0" * 63},
        {"classes": []},
        {"scales": []},
        {"size_bytes": 0},
        {"a": 1},
    ],
)
def test_wrong_values(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"test: {next(iter(changes))}"):
        recipe(**changes)


def test_a_preset_says_in_which_views_and_how_they_become_one() -> None:
    fast = {"scales": [{"max_long_side_px": 640}], "threshold": 0.2, "grow": 1.2}
    thorough = {**fast, "scales": [{}, {"tile_px": 960}], "flip": True, "fusion": "weighted", "nms_iou": 0.5}
    made = recipe(presets={"fast": fast, "thorough": thorough}, nms_iou=0.3, flip=True)
    assert (made.under("fast").flip, made.under("fast").fusion, made.under("fast").nms_iou) == (False, "nms", 0.3)
    used = made.under("thorough")
    assert (used.flip, used.fusion, used.nms_iou, used.scales[1].tile_px) == (True, "weighted", 0.5, 960)
    assert made.under("balanced") is made


def test_what_the_user_asks_for_comes_on_top() -> None:
    made = recipe(scales=[{}, {"max_long_side_px": 640}])
    assert made.looking(DetectConfig()) is made
    looking = made.looking(DetectConfig(tile_px=960, tile_overlap=0.4, flip=True, fusion="weighted"))
    assert looking.scales[:2] == made.scales
    assert [(scale.tile_px, scale.tile_overlap) for scale in looking.scales[2:]] == [(960, 0.4)] * 2
    assert looking.scales[3].max_long_side_px == 640
    assert (looking.flip, looking.fusion) == (True, "weighted")
    assert not looking.looking(DetectConfig(flip=False)).flip
