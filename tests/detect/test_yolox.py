"""YOLOX against the equations of its paper, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (96, 128)
BATCH = 2
CELLS = 12 * 16 + 6 * 8 + 3 * 4


def outputs(classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate(
        (rng.normal(0, 1, (BATCH, CELLS, 4)), rng.uniform(0, 1, (BATCH, CELLS, 1 + classes))), axis=-1
    ).astype(np.float32)


def loop(rows, threshold, strides):
    i = 0
    for stride in strides:
        for row in range(HW[0] // stride):
            for column in range(HW[1] // stride):
                tx, ty, tw, th, objectness, *classes = rows[i].astype(float)
                i += 1
                score = objectness * max(classes)
                if score >= threshold:
                    x, y = (tx + column) * stride, (ty + row) * stride
                    w, h = math.exp(tw) * stride, math.exp(th) * stride
                    yield score, classes.index(max(classes)), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), None
    assert i == len(rows)


@pytest.mark.parametrize("strides", [(8, 16, 32), (32, 16, 8)])
def test_raw_rows_are_the_papers_equations(strides, assert_same):
    made = outputs()
    decoded = get_family("yolox", {"strides_px": list(strides)}, classes=3).decode({"output": made}, HW, 0.6)
    for image, found in enumerate(decoded):
        assert_same(found, list(loop(made[image], 0.6, strides)))


def test_logits_are_activated_where_the_graph_does_not(assert_same):
    made = outputs()
    logits = made.copy()
    logits[..., 4:] = np.log(made[..., 4:] / (1 - made[..., 4:]))
    decoded = get_family("yolox", {"activated": False}, classes=3).decode({"output": logits}, HW, 0.6)
    for image, found in enumerate(decoded):
        assert_same(found, list(loop(made[image], 0.6, (8, 16, 32))))
    with pytest.raises(ModelError, match="last activation"):
        get_family("yolox", classes=3).decode({"output": logits}, HW, 0.6)


def test_decoded_rows(assert_same):
    made = outputs()
    made[..., :4] = np.abs(made[..., :4]) * 40
    decoded = get_family("yolox", {"form": "decoded"}, classes=3).decode({"output": made}, HW, 0.6)
    for image, found in enumerate(decoded):
        wanted = [
            (o * max(c), c.index(max(c)), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), None)
            for x, y, w, h, o, *c in made[image].astype(float)
            if o * max(c) >= 0.6
        ]
        assert_same(found, wanted)


def test_the_input_is_that_of_the_authors_export():
    spec = get_family("yolox").input_spec
    assert (spec.channels, spec.scale, spec.pad_value, spec.fit) == ("bgr", (1, 1, 1), 114, "letterbox")


def test_raw_rows_need_strides():
    with pytest.raises(ConfigError, match="need 'strides_px'"):
        get_family("yolox", {"strides_px": []})
    with pytest.raises(ModelError, match=r"\(any, 252, 8\)"):
        get_family("yolox", classes=3).decode({"output": outputs()[:, :-1]}, HW, 0.6)
