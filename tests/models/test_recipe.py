from __future__ import annotations

from typing import Any

import pytest

from trt_anon.config import validated
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
