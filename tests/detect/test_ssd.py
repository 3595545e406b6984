"""SSD with decoded priors against a loop, and Ultra-Light on real pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (240, 320)
PRIORS = 40


def made_up(columns, seed=0, batch=3, logits=False):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (batch, PRIORS, columns)) if logits else rng.random((batch, PRIORS, columns))
    return {
        "scores": scores.astype(np.float32),
        "boxes": rng.uniform(-0.1, 1.1, (batch, PRIORS, 4)).astype(np.float32),
    }


def loop(outputs, image, threshold, classes, background="first", activation="none", box_format="xyxy", size=(320, 240)):
    found = []
    for row, box in zip(outputs["scores"][image].astype(float), outputs["boxes"][image].astype(float), strict=True):
        if activation == "softmax":
            whole = sum(math.exp(v) for v in row)
            row = [math.exp(v) / whole for v in row]
        elif activation == "sigmoid":
            row = [1 / (1 + math.exp(-v)) for v in row]
        a, b, c, d = box[0] * size[0], box[1] * size[1], box[2] * size[0], box[3] * size[1]
        if box_format == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        for class_id in range(classes):
            score = row[class_id + (background == "first")]
            if score >= threshold:
                found.append((score, class_id, (a, b, c, d), None))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": 4},
        {"classes": 3, "background": "none", "activation": "sigmoid"},
        {"classes": 3, "background": "last", "activation": "softmax", "box_format": "cxcywh"},
    ],
)
def test_decode_is_the_loop(assert_same, options):
    family = get_family("ssd", options)
    plain = {"classes": 1, "background": "first", "activation": "none", "box_format": "xyxy"} | options
    outputs = made_up(plain["classes"] + (plain["background"] != "none"), logits=plain["activation"] != "none")
    for image, found in enumerate(family.decode(outputs, HW, 0.4)):
        assert_same(found, loop(outputs, image, 0.4, **plain))
        assert not found.distinct


def test_pixels_stay_pixels(assert_same):
    outputs = made_up(2)
    found = get_family("ssd", {"normalised": False}).decode(outputs, HW, 0.4)[0]
    assert_same(found, loop(outputs, 0, 0.4, 1, size=(1, 1)))


def test_images_of_a_batch_are_independent(assert_same):
    family, outputs = get_family("ssd"), made_up(2, seed=4)
    together = family.decode(outputs, HW, 0.5)
    for image in range(3):
        (alone,) = family.decode({k: v[image : image + 1] for k, v in outputs.items()}, HW, 0.5)
        np.testing.assert_array_equal(alone.boxes_xyxy, together[image].boxes_xyxy)
        np.testing.assert_array_equal(alone.scores, together[image].scores)


def test_nothing_reaches_the_threshold():
    for found in get_family("ssd").decode(made_up(2), HW, 1.5):
        assert found.boxes_xyxy.shape == (0, 4)


def test_broken_outputs_are_refused():
    family, outputs = get_family("ssd"), made_up(2)
    for name in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{name}'; it has"):
            family.decode({k: v for k, v in outputs.items() if k != name}, HW, 0.5)
        with pytest.raises(ModelError, match=rf"'{name}' has shape \(3, 40, 1\), expected"):
            family.decode(outputs | {name: outputs[name][..., :1]}, HW, 0.5)
        for bad in (np.nan, np.inf):
            with pytest.raises(ModelError, match="not finite"):
                family.decode(outputs | {name: np.full_like(outputs[name], bad)}, HW, 0.5)
    with pytest.raises(ModelError, match="expected"):
        family.decode(outputs | {"boxes": outputs["boxes"][:1]}, HW, 0.5)
    with pytest.raises(ModelError, match="last activation"):
        family.decode(outputs | {"scores": outputs["scores"] * 3}, HW, 0.5)


def test_one_bad_score_below_all_others_is_refused():
    outputs = made_up(2)
    outputs["scores"][2, 5, 0] = np.nan
    with pytest.raises(ModelError, match="scores that are not finite"):
        get_family("ssd").decode(outputs, HW, 0.99)


def test_options_that_say_nothing_are_refused():
    with pytest.raises(ConfigError, match="softmax over one column"):
        get_family("ssd", {"background": "none", "activation": "softmax"})
    with pytest.raises(ConfigError, match="at least 1"):
        get_family("ssd", {"classes": 0})


@pytest.mark.dataset
@pytest.mark.parametrize(("model", "size"), [("320", (320, 240)), ("640", (640, 480))])
def test_ultra_light_finds_faces(find, assert_covers, model, size):
    family = get_family("ssd", {}, {"size_px": size})
    found = find(family, f"ultralight_version-RFB-{model}", "two_people.jpg", 0.7)
    assert len(found) == 2
    assert_covers(found, TWO_PEOPLE, 0, 0.7)
    assert len(find(family, f"ultralight_version-RFB-{model}", "bald_guys.jpg", 0.7)) == 24


TWO_PEOPLE = [(243, 40, 380, 222), (792, 62, 938, 256)]
"""Drawn by eye, forehead to chin, hair left out."""
