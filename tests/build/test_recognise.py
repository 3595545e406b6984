"""Every family is recognised by its outputs, and where that cannot be, the user is told what to say."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from trt_anon.build.inspect import inspect_model
from trt_anon.build.recognise import RULES, recognise
from trt_anon.detect.families import FAMILIES, get_family
from trt_anon.errors import ModelError, UsageError


def seen_in(model, where="m"):
    return inspect_model(model.SerializeToString(), where)


def pytest_generate_tests(metafunc):
    if "case_name" in metafunc.fixturenames:
        import importlib.util
        from pathlib import Path

        spec = importlib.util.spec_from_file_location("cases", Path(__file__).parents[1] / "detectors.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        metafunc.parametrize("case_name", list(module.CASES))


def test_each_family_is_recognised_and_reads_what_the_model_gives(made, case_name):
    case = made.CASES[case_name]
    seen = seen_in(made.detector(case.outputs, case.shape))
    match = recognise(seen, "m", case.count, case.ask)
    assert match.family == case.family
    assert match.classes == case.classes
    found = {key: match.options.get(key) for key in case.options}
    assert found == dict(case.options)
    assert set(match.missing) == set(case.give)
    options = {**match.options, **case.give}
    family = get_family(match.family, options, classes=case.classes or case.count)
    decoded = family.decode(seen.outputs, seen.hw_px, 0.5)
    assert [len(one.scores) for one in decoded] == [0]


def test_every_family_has_a_rule_and_a_case(made):
    assert {family for rule in RULES for family in rule.families} == set(FAMILIES)
    assert {case.family for case in made.CASES.values()} | {"onnx-nms"} == set(FAMILIES)


def suppressed(made, centres: int | None):
    boxes, scores = made.rows(20, 4), made.values(1, 2, 20)
    model = made.detector({"boxes": boxes, "scores": scores})
    attributes = {} if centres is None else {"center_point_box": centres}
    model.graph.initializer.extend(
        [
            helper.make_tensor("most", TensorProto.INT64, [1], [5]),
            helper.make_tensor("t", TensorProto.FLOAT, [1], [0.1]),
        ]
    )
    model.graph.node.append(
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "t", "t"], ["selected_indices"], **attributes)
    )
    model.graph.output.append(helper.make_tensor_value_info("selected_indices", TensorProto.INT64, [None, 3]))
    return model


def test_a_graph_that_ends_in_suppression(made):
    match = recognise(seen_in(suppressed(made, 1)), "m")
    assert (match.family, match.classes, match.options["corner_format"]) == ("onnx-nms", 2, "cxcywh")
    assert not match.missing
    match = recognise(seen_in(suppressed(made, None)), "m")
    assert match.family == "onnx-nms"
    assert "does not say which" in match.missing["corner_format"]


def test_what_can_be_read_in_several_ways_is_asked_for(made):
    heads = seen_in(made.detector(made.CASES["yolov3"].outputs))
    with pytest.raises(
        UsageError, match=r"yolov3 of 3 classes or yolov4 .* or yolov5 .* or yolov7 .*--family"
    ) as raised:
        recognise(heads, "m")
    assert "'head8' float32 (1, 24, 8, 12)" in str(raised.value)
    rows = seen_in(made.detector({"o": made.rows(made.P, 8)}))
    with pytest.raises(UsageError, match="yolov8 of 4 classes or yolox of 3 classes"):
        recognise(rows, "m")
    assert recognise(rows, "m", classes=4).family == "yolov8"
    assert recognise(rows, "m", classes=3).family == "yolox"
    with pytest.raises(UsageError, match="9 classes are named, but its outputs fit yolov8 of 4"):
        recognise(rows, "m", classes=9)


def test_what_no_family_reads_is_said(made):
    seen = seen_in(made.detector({"logits": made.logits(1, 1000)}, shape=(1, 3, 224, 224)))
    with pytest.raises(
        UsageError, match=r"no detector family has such outputs.*\(1, 3, 224, 224\).*'logits' float32 \(1, 1000\)"
    ):
        recognise(seen, "m")
    with pytest.raises(UsageError, match=r"--family yolov99: there is none.*centerface"):
        recognise(seen, "m", family="yolov99")
    assert recognise(seen, "m", family="yolov8").options == {}  # decoding shows what is wrong


def test_normalised_corners_are_noticed(made):
    rows = made.rows(made.P, 7)
    rows[..., :4] = made.SHARES[:, : made.P]
    match = recognise(seen_in(made.detector({"o": rows.transpose(0, 2, 1).copy()})), "m")
    assert match.options["normalised"] is True
    assert match.options["box_format"] == "xyxy"


def test_metadata_is_read(made):
    given = {"names": "{0: 'face', 1: 'person'}", "imgsz": "[480, 640]", "task": "detect", "license": "MIT"}
    seen = seen_in(made.detector({"o": made.rows(made.P, 7)}, metadata=given))
    assert seen.class_names == ("face", "person")
    assert seen.image_size_px == (640, 480)
    assert (seen.task, seen.licence) == ("detect", "MIT")


@pytest.mark.parametrize(
    "names", ["{1: 'a'}", "{0: 1}", "{0: 'a\\x1b[2J'}", "['" + "x" * 101 + "']", "{0: ''}", "{0: __import__('os')}"]
)
def test_hostile_names_of_classes_do_no_harm(made, names):
    model = made.detector({"o": made.rows(made.P, 7)}, metadata={"names": names})
    if "import" in names:
        assert seen_in(model).class_names is None
    else:
        with pytest.raises(ModelError, match="not names of classes"):
            seen_in(model)


@pytest.mark.parametrize("names", ["(" * 100_000, "[" * 2_000_000, "9" * 5000, "{", "\0"])
def test_metadata_that_cannot_be_read_is_left_alone(made, names):
    model = made.detector({"o": made.rows(made.P, 7)}, metadata={"names": names, "imgsz": names})
    seen = seen_in(model)
    assert seen.class_names is None


def test_a_huge_input_is_refused_before_it_is_made(made):
    model = made.detector({"o": made.rows(made.P, 7)}, shape=(1, 3, 60000, 60000))
    with pytest.raises(ModelError, match="60000x60000"):
        seen_in(model)


@pytest.mark.parametrize(
    ("shape", "layout"), [((1, 64, 96, 3), "nhwc"), ((3, "H", "W"), "chw"), (("H", "W", 3), "hwc")]
)
def test_other_layouts_are_fed_as_they_are(made, shape, layout):
    seen = seen_in(made.detector({"o": made.rows(made.P, 7)}, shape=shape))
    assert seen.input.layout == layout
    assert np.isfinite(seen.outputs["o"]).all()
