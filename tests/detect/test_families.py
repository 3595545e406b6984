"""Families by name, with the options and input that recipes give."""

from __future__ import annotations

import dataclasses
import tomllib

import numpy as np
import pytest

from trt_anon.detect.families import FAMILIES, get_family
from trt_anon.errors import ConfigError


def test_options_come_as_a_recipe_writes_them():
    table = tomllib.loads(
        """
        anchors_px = [[12, 18], [37.5, 49], [52, 132], [115, 73]]
        masks = [[2, 3], [0, 1]]
        strides_px = [32, 16]
        scale_x_y = [1, 1.05]
        layout = "nhwc"
        """
    )
    family = get_family("yolov3", table, classes=7)
    assert family.anchors_px == ((12.0, 18.0), (37.5, 49.0), (52.0, 132.0), (115.0, 73.0))
    assert family.masks == ((2, 3), (0, 1))
    assert family.scale_x_y == (1.0, 1.05)
    assert family.layout == "nhwc"
    assert family.classes == 7
    assert hash(family) == hash(get_family("yolov3", table, classes=7))


def test_options_may_come_from_python_and_numpy():
    family = get_family("yolov3", {"strides_px": (8, 16, 32), "anchors_px": np.arange(1, 19).reshape(9, 2)})
    assert family.anchors_px[-1] == (17.0, 18.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("yolov5", {"anchor": []}, r"family 'yolov5': unknown option 'anchor'; known are classes, form, anchors_px"),
        ("yolov5", {"name": "x"}, "unknown option 'name'"),
        ("yunet", {"classes": 1}, "family 'yunet': unknown option 'classes'; it has none"),
        ("yolov5", {"classes": "3"}, r"option 'classes': Input should be a valid integer"),
        ("yolov5", {"classes": True}, r"option 'classes': Input should be a valid integer"),
        ("yolov5", {"classes": 1.5}, r"option 'classes': Input should be a valid integer"),
        ("yolov5", {"normalised": 1}, r"option 'normalised': Input should be a valid boolean"),
        ("yolov5", {"form": "cooked"}, r"option 'form': Input should be 'raw' or 'decoded'"),
        ("yolov5", {"anchors_px": [[[1, 2, 3]]]}, r"option 'anchors_px'\[0\]\[0\]: Tuple should have at most 2 items"),
        ("yolov5", {"anchors_px": [[[1]]]}, r"option 'anchors_px'\[0\]\[0\]\[1\]: Field required"),
        ("yolov5", {"anchors_px": [[["1", 2]]]}, r"option 'anchors_px'\[0\]\[0\]\[0\]: Input should be a valid number"),
        ("yolov3", {"scale_x_y": [float("nan"), 1, 1]}, "option 'scale_x_y': .*not JSON compliant"),
        ("yolov3", {"outputs": [object()]}, "type object cannot be an option"),
    ],
)
def test_wrong_options_are_refused_with_what_is_right(name, options, message):
    with pytest.raises(ConfigError, match=message):
        get_family(name, options)


def test_the_number_of_classes_comes_from_the_recipe():
    assert get_family("yolov8", classes=2).classes == 2
    assert get_family("yolov8", {"classes": 2}, classes=2).classes == 2
    with pytest.raises(ConfigError, match="the option 'classes' is 80, but 2 are named"):
        get_family("yolov8", {"classes": 80}, classes=2)
    assert get_family("yunet", classes=1).name == "yunet"


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_input_of_every_family_can_be_changed(name):
    plain = get_family(name)
    family = get_family(
        name, input_overrides={"channels": "bgr", "mean": [1, 2, 3], "fit": "stretch", "size_px": [352, 288]}
    )
    assert family.input_spec == dataclasses.replace(
        plain.input_spec, channels="bgr", mean=(1.0, 2.0, 3.0), fit="stretch", size_px=(352, 288)
    )
    assert family.name == plain.name
    assert family.output_names == plain.output_names
    assert get_family(name, input_overrides={}).input_spec == plain.input_spec


def test_a_family_with_another_input_decodes_as_before():
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = (1, 2, 3, 4, 0.9, 0)
    (found,) = get_family("yolo-e2e", input_overrides={"pad_value": 0}).decode({"o": rows}, (64, 64), 0.5)
    assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"size": [1, 2]}, "input of family 'yolov8': unknown option 'size'; known are channels, mean"),
        ({"channels": "rgba"}, "'channels': Input should be 'rgb' or 'bgr'"),
        ({"mean": [1, 2]}, r"'mean'\[2\]: Field required"),
        ({"scale": [1, 0, 1]}, "a scale of 0"),
        ({"stride_px": 16}, "multiple of 32"),
        ({"stride_px": 0}, "multiple of 32"),
        ({"size_px": [0, 640]}, "at least 1"),
        ({"pad_value": 256}, r"0\.\.255"),
    ],
)
def test_wrong_inputs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        get_family("yolov8", input_overrides=overrides)
