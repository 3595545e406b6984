"""What all YOLO families must do with outputs that are missing, broken or ambiguous."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from trt_anon.detect.base import Candidates, Family
from trt_anon.detect.families import get_family
from trt_anon.detect.yolo import sigmoid
from trt_anon.errors import ModelError

HW = (64, 96)
BATCH = 3
CELLS = 8 * 12 + 4 * 6 + 2 * 3


@dataclass(frozen=True)
class Case:
    """One form of one family with two classes; `box` and `score` are indices of a value of the first output."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    box: Any
    score: Any
    options: dict[str, Any] = field(default_factory=dict)
    probabilities: bool = False
    mark: Any = None

    def __str__(self) -> str:
        return f"{self.name}-{self.options.get('form', 'default')}"

    def family(self) -> Family:
        return get_family(self.name, self.options, classes=2)

    def outputs(self, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        made = {}
        for i, shape in enumerate(self.shapes):
            values = rng.normal(0.5, 1.5, (BATCH, *shape))
            if self.probabilities:
                values = 1 / (1 + np.exp(-values))
            if self.name == "yolo-e2e":
                values[..., 5] = rng.integers(0, 2, values.shape[:2])
            made[f"out{i}"] = values.astype(np.float32)
        return made


def grids(lead: tuple[int, ...] = (), tail: tuple[int, ...] = ()) -> tuple[tuple[int, ...], ...]:
    return tuple((*lead, HW[0] // s, HW[1] // s, *tail) for s in (8, 16, 32))


CASES = [
    Case("yolov3", grids((21,)), (1, 2), (1, 4), {"form": "raw"}),
    Case("yolov4", grids((21,)), (1, 3), (1, 12), {"form": "raw"}),
    Case("yolov3", ((3 * CELLS, 7),), (1, ..., 2), (1, ..., 4), {"form": "decoded"}, True),
    Case("yolov4", ((3 * CELLS, 4), (3 * CELLS, 2)), (1, ..., 0), None, {"form": "split"}, True),
    Case("yolov5", grids((3,), (7,)), (1, ..., 0), (1, ..., 6), {"form": "raw"}),
    Case("yolov7", ((3 * CELLS, 7),), (1, ..., 1), (1, ..., 5), {"form": "decoded"}, True),
    Case("yolov8", grids((66,)), (1, 63), (1, 65), {"form": "raw"}),
    Case("yolov8", ((6, CELLS),), (1, 3), (1, 4), {"form": "decoded"}, True),
    Case("yolo-e2e", ((300, 6),), (1, ..., 3), (1, ..., 4), {}, True),
    Case("yolox", ((CELLS, 7),), (1, ..., 2), (1, ..., 5), {"form": "raw"}, True),
    Case("yolox", ((CELLS, 7),), (1, ..., 0), (1, ..., 4), {"form": "decoded"}, True),
    Case("yolov5-face", grids((3,), (17,)), (1, ..., 2), (1, ..., 4), {"form": "raw"}, mark=(1, ..., 9)),
    Case("yolov5-face", ((3 * CELLS, 17),), (1, ..., 2), (1, ..., 16), {"form": "decoded"}, True, mark=(1, ..., 14)),
    Case("yolov8-face", grids((81,)), (1, 5), (1, 64), {"form": "raw"}, mark=(1, 66)),
    Case("yolov8-face", ((21, CELLS),), (1, 1), (1, 5), {"form": "decoded"}, True, mark=(1, 6)),
]


@pytest.fixture(params=CASES, ids=str)
def case(request) -> Case:
    return request.param


def same(a: Candidates, b: Candidates) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("boxes_xyxy", "scores", "class_ids")
        + (() if a.landmarks is None and b.landmarks is None else ("landmarks",))
    )


def test_images_of_a_batch_are_independent(case):
    outputs = case.outputs()
    together = case.family().decode(outputs, HW, 0.5)
    assert len(together) == BATCH
    for image in range(BATCH):
        (alone,) = case.family().decode({k: v[image : image + 1] for k, v in outputs.items()}, HW, 0.5)
        assert len(alone.scores) > 5
        assert same(alone, together[image])


def test_nothing_found_is_empty_not_wrong(case):
    outputs = {k: np.full_like(v, 0 if case.probabilities else -30) for k, v in case.outputs().items()}
    for found in case.family().decode(outputs, HW, 0.5):
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.scores.shape == found.class_ids.shape == (0,)
        assert (found.landmarks is None) == (case.mark is None)


def test_half_precision_outputs_are_read(case):
    outputs = {k: v.astype(np.float16) for k, v in case.outputs().items()}
    widened = {k: v.astype(np.float32) for k, v in outputs.items()}
    for a, b in zip(case.family().decode(outputs, HW, 0.5), case.family().decode(widened, HW, 0.5), strict=True):
        assert same(a, b)


def test_a_threshold_is_reached_by_an_equal_score(case):
    outputs = case.outputs()
    found = case.family().decode(outputs, HW, 0.5)[0]
    lowest = float(found.scores.min())
    assert len(case.family().decode(outputs, HW, lowest)[0].scores) == len(found.scores)
    assert found.scores.min() >= np.float32(0.5)


def test_the_outputs_given_are_not_changed(case):
    outputs = case.outputs()
    before = {k: v.copy() for k, v in outputs.items()}
    case.family().decode(outputs, HW, 0.3)
    for name, array in outputs.items():
        np.testing.assert_array_equal(array, before[name])
        array.setflags(write=False)
    case.family().decode(outputs, HW, 0.3)


def test_a_missing_output_is_described_with_what_there_is(case):
    for name in case.outputs():
        outputs = case.outputs()
        del outputs[name]
        with pytest.raises(ModelError, match=r"no output of the expected shape \(any, .*the model gave "):
            case.family().decode(outputs, HW, 0.5)
    with pytest.raises(ModelError, match="the model gave no outputs"):
        case.family().decode({}, HW, 0.5)


def test_a_missing_named_output_is_named(case):
    outputs = case.outputs()
    family = get_family(case.name, case.options | {"outputs": list(outputs)}, classes=2)
    assert family.output_names == tuple(outputs)
    for a, b in zip(family.decode(outputs, HW, 0.5), case.family().decode(outputs, HW, 0.5), strict=True):
        assert same(a, b)
    for name in outputs:
        with pytest.raises(ModelError, match=f"no output '{name}'; it has"):
            family.decode({k: v for k, v in outputs.items() if k != name} | {"other": np.zeros(1)}, HW, 0.5)
        with pytest.raises(ModelError, match=rf"'{name}' has shape .* expected"):
            family.decode(outputs | {name: outputs[name][..., :-1]}, HW, 0.5)


def test_two_outputs_of_one_shape_must_be_named(case):
    outputs = case.outputs()
    outputs["twin"] = outputs["out0"].copy()
    with pytest.raises(ModelError, match=r"2 outputs of the expected shape .*'outputs'"):
        case.family().decode(outputs, HW, 0.5)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "yolo-e2e"], ids=str)
def test_another_number_of_classes_is_noticed(case):
    with pytest.raises(ModelError, match="expected shape"):
        get_family(case.name, case.options, classes=3).decode(case.outputs(), HW, 0.5)


@pytest.mark.parametrize("case", [c for c in CASES if c.name != "yolo-e2e"], ids=str)
def test_another_input_size_is_noticed(case):
    with pytest.raises(ModelError, match="expected shape"):
        case.family().decode(case.outputs(), (96, 96), 0.5)


@pytest.mark.parametrize("case", [c for c in CASES if len(c.shapes) > 1], ids=str)
def test_batches_of_different_length_are_refused(case):
    outputs = case.outputs()
    name = list(outputs)[-1]
    with pytest.raises(ModelError, match=rf"'{name}' has shape .* expected \({BATCH}, "):
        case.family().decode(outputs | {name: outputs[name][:1]}, HW, 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(case, bad):
    outputs = case.outputs()
    outputs["out0"][case.box] = bad
    with pytest.raises(ModelError, match="boxes that are not finite"):
        case.family().decode(outputs, HW, 0.3)
    if case.mark:
        outputs = case.outputs()
        outputs["out0"][case.mark] = bad
        with pytest.raises(ModelError, match="not finite"):
            case.family().decode(outputs, HW, 0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_score_below_all_others_is_refused(case, bad):
    outputs = case.outputs()
    if case.score is None:
        outputs["out1"][1, 3, 0] = bad
    else:
        outputs["out0"][case.score].reshape(-1)[3:4] = bad
        part = outputs["out0"][case.score]
        part[(0,) * part.ndim] = bad
    with pytest.raises(ModelError, match="scores that are not finite"):
        case.family().decode(outputs, HW, 0.99)


@pytest.mark.parametrize("case", [c for c in CASES if c.probabilities], ids=str)
def test_scores_that_are_no_probabilities_are_refused(case):
    outputs = {k: v * 9 for k, v in case.outputs().items()}
    with pytest.raises(ModelError, match="last activation"):
        case.family().decode(outputs, HW, 0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_of_nothing_finite_is_refused_without_warnings(bad):
    rows = np.full((1, 3 * CELLS, 7), 0.9, np.float32)
    rows[0, 5, :4] = bad
    with pytest.raises(ModelError, match="boxes that are not finite"):
        get_family("yolov5", classes=2).decode({"o": rows}, HW, 0.5)


@pytest.mark.parametrize(("name", "at"), [("yolov3", (slice(None), 2)), ("yolox", (..., 2))])
def test_a_size_that_overflows_is_refused(name, at):
    case = next(c for c in CASES if c.name == name)
    outputs = case.outputs()
    outputs["out0"][at] = 1e4
    with pytest.raises(ModelError, match="boxes that are not finite"):
        case.family().decode(outputs, HW, 0.3)


def test_heads_of_one_shape_must_be_named():
    """Where the input is so small that two strides leave the same grid."""
    options = {"form": "raw", "strides_px": [32, 64], "anchors_px": [[[1, 2]], [[3, 4]]], "classes": 1}
    outputs = {"a": np.full((1, 1, 1, 1, 6), 5.0, np.float32), "b": np.full((1, 1, 1, 1, 6), -5.0, np.float32)}
    with pytest.raises(ModelError, match="two heads have the same shape"):
        get_family("yolov5", options).decode(outputs, (32, 32), 0.5)
    (found,) = get_family("yolov5", options | {"outputs": ["a", "b"]}).decode(outputs, (32, 32), 0.5)
    assert len(found.scores) == 1


def test_the_sigmoid_is_exact_and_never_overflows():
    x = np.array([-1e30, -200, -88.8, -20, -1, 0, 1e-3, 1, 20, 200, 1e30], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = sigmoid(x)
    assert found.dtype == np.float32
    wide = np.clip(x.astype(float), -700, 700)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-wide)), rtol=1e-6, atol=1e-37)
