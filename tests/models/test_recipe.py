"""What a recipe says about its family and its input reaches the family."""

from __future__ import annotations

from pathlib import Path

import pytest

from trt_anon.config import load_toml
from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError
from trt_anon.models.recipe import Recipe

PLAIN = """
name = "heads"
description = "a detector of faces"
family = "yolov3"
classes = ["face", "plate"]
sha256 = "{hash}"
size_bytes = 1000
licence = {{ spdx = "MIT" }}
source = {{ kind = "file", path = "heads.onnx" }}
"""


def recipe(folder: Path, more: str = "") -> Recipe:
    path = folder / "heads.toml"
    path.write_text(PLAIN.format(hash="0" * 64) + more)
    return load_toml(Recipe, path)


def test_family_options_and_input_reach_the_family(tmp_path):
    found = recipe(
        tmp_path,
        """
        [input]
        channels = "bgr"
        scale = [0.5, 0.5, 0.5]
        fit = "stretch"
        size_px = [352, 288]
        [family_options]
        strides_px = [32, 16]
        anchors_px = [[10, 14], [23, 27]]
        masks = [[1], [0]]
        """,
    )
    family = get_family(found.family, found.family_options, found.input.given(), classes=len(found.classes))
    assert family.input_spec.channels == "bgr"
    assert family.input_spec.scale == (0.5, 0.5, 0.5)
    assert family.input_spec.fit == "stretch"
    assert family.input_spec.size_px == (352, 288)
    assert family.input_spec.pad_value == 114  # what is not given stays


def test_without_them_a_recipe_is_as_before(tmp_path):
    plain = recipe(tmp_path)
    assert plain.family_options == {}
    assert plain.input is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[input]\nsize = [1, 2]", "size"),
        ("[input]\nsize_px = [0, 2]", "size_px"),
        ("[input]\npad_value = 300", "pad_value"),
        ('[input]\nchannels = "gray"', "channels"),
    ],
)
def test_an_input_that_cannot_be_is_refused_with_the_recipe(tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        recipe(tmp_path, more)
