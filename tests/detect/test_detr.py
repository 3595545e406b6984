"""DETR and RT-DETR against a loop over queries and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (480, 640)
QUERIES = 25


def made_up(columns, seed=0, batch=3):
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(0, 3, (batch, QUERIES, columns)).astype(np.float32),
        "pred_boxes": rng.uniform(0, 1, (batch, QUERIES, 4)).astype(np.float32),
    }


def loop(outputs, image, threshold, kind):
    for row, box in zip(
        outputs["logits"][image].astype(float), outputs["pred_boxes"][image].astype(float), strict=True
    ):
        cx, cy, w, h = box[0] * 640, box[1] * 480, box[2] * 640, box[3] * 480
        if kind == "detr":
            top = max(row)
            weights = [math.exp(v - top) for v in row]
            chances = [v / sum(weights) for v in weights][:-1]
        else:
            chances = [1 / (1 + math.exp(-v)) for v in row]
        for class_id, score in enumerate(chances):
            if score >= threshold:
                yield score, class_id, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), None


@pytest.mark.parametrize(("name", "columns", "threshold"), [("detr", 4, 0.3), ("rt-detr", 3, 0.6), ("detr", 92, 0.05)])
def test_decode_is_the_loop(assert_same, name, columns, threshold):
    family = get_family(name, {"classes": columns - (name == "detr")})
    outputs = made_up(columns)
    for image, found in enumerate(family.decode(outputs, HW, threshold)):
        assert_same(found, list(loop(outputs, image, threshold, name)))
        assert found.distinct


def test_logits_of_any_size_are_stable():
    outputs = made_up(4)
    outputs["logits"][...] = -3e38
    outputs["logits"][:, 3, 1] = 3e38
    for name, classes in (("detr", 3), ("rt-detr", 4)):
        for found in get_family(name, {"classes": classes}).decode(outputs, HW, 0.5):
            assert found.scores.tolist() == [1]
            assert found.class_ids.tolist() == [1]


def test_a_query_counts_for_each_class_that_it_reaches():
    outputs = made_up(3, batch=1)
    outputs["logits"][...] = -9
    outputs["logits"][0, 7] = (2, 3, -9)  # a face under a helmet
    (found,) = get_family("rt-detr", {"classes": 3}).decode(outputs, HW, 0.5)
    assert found.class_ids.tolist() == [0, 1]


def test_broken_outputs_are_refused():
    family, outputs = get_family("rt-detr", {"classes": 5}), made_up(5)
    for name in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{name}'; it has"):
            family.decode({k: v for k, v in outputs.items() if k != name}, HW, 0.5)
        with pytest.raises(ModelError, match=r"has shape .* expected"):
            family.decode(outputs | {name: outputs[name][..., :3]}, HW, 0.5)
        with pytest.raises(ModelError, match="not finite"):
            family.decode(outputs | {name: np.full_like(outputs[name], np.nan)}, HW, 0.01)
    with pytest.raises(ModelError, match="has shape"):
        family.decode(outputs | {"pred_boxes": outputs["pred_boxes"][:, 1:]}, HW, 0.5)
    with pytest.raises(ModelError, match="no output 'logits'; it has boxes, labels, scores"):
        family.decode({"labels": np.zeros((1, 9)), "boxes": np.zeros((1, 9, 4)), "scores": np.zeros((1, 9))}, HW, 0.5)


def test_pictures_are_prepared_as_each_wants_them():
    assert get_family("rt-detr").input_spec.fit == "stretch"
    spec = get_family("detr").input_spec
    white = [(255 - m) * s for m, s in zip(spec.mean, spec.scale, strict=True)]
    assert white == pytest.approx([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="softmax over one column"):
        get_family("detr", {"classes": 1, "background": "none"})
