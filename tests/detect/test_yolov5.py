"""YOLOv5 and YOLOv7 against the published equations, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (96, 128)
BATCH = 2
V5 = {8: ((10, 13), (16, 30), (33, 23)), 16: ((30, 61), (62, 45), (59, 119)), 32: ((116, 90), (156, 198), (373, 326))}
V7 = {8: ((12, 16), (19, 36), (40, 28)), 16: ((36, 75), (76, 55), (72, 146)), 32: ((142, 110), (192, 243), (459, 401))}


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def heads(classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {s: (BATCH, 3, HW[0] // s, HW[1] // s, 5 + classes) for s in (32, 8, 16)}
    return {f"p{s}": rng.normal(0, 1.5, shape).astype(np.float32) for s, shape in shapes.items()}


def loop(outputs, image, anchors, threshold):
    """b_x = 2 sigma(t_x) - 0.5 + c_x, b_w = p_w (2 sigma(t_w))^2."""
    for stride, sides in anchors.items():
        head = outputs[f"p{stride}"][image].astype(float)
        for a, cy, cx in np.ndindex(head.shape[:3]):
            tx, ty, tw, th, to, *tc = head[a, cy, cx]
            best = max(range(len(tc)), key=lambda c: tc[c])
            score = logistic(to) * logistic(tc[best])
            if score >= threshold:
                bx, by = (2 * logistic(tx) - 0.5 + cx) * stride, (2 * logistic(ty) - 0.5 + cy) * stride
                bw, bh = sides[a][0] * (2 * logistic(tw)) ** 2, sides[a][1] * (2 * logistic(th)) ** 2
                yield score, best, (bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2), None


@pytest.mark.parametrize(("name", "anchors"), [("yolov5", V5), ("yolov7", V7)])
@pytest.mark.parametrize("layout", ["nahwc", "nchw"])
def test_raw_heads_are_the_published_equations(name, anchors, layout, assert_same):
    made = heads(3)
    outputs = made
    if layout == "nchw":  # (N, 3 * (5 + C), h, w)
        outputs = {k: v.transpose(0, 1, 4, 2, 3).reshape(BATCH, -1, *v.shape[2:4]) for k, v in made.items()}
    decoded = get_family(name, {"form": "raw", "layout": layout}, classes=3).decode(outputs, HW, 0.5)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        assert_same(found, list(loop(made, image, anchors, 0.5)))


def test_sigmoids_in_the_graph_are_not_applied_again(assert_same):
    made = heads(3)
    outputs = {k: (1 / (1 + np.exp(-v))).astype(np.float32) for k, v in made.items()}
    found = get_family("yolov5", {"form": "raw", "activated": True}, classes=3).decode(outputs, HW, 0.5)
    for image in range(BATCH):
        assert_same(found[image], list(loop(made, image, V5, 0.5)))


def test_four_strides(assert_same):
    rng = np.random.default_rng(1)
    anchors = {s: ((s * 2, s * 3),) for s in (8, 16, 32, 64)}
    outputs = {f"p{s}": rng.normal(0, 2, (BATCH, 1, 128 // s, 192 // s, 6)).astype(np.float32) for s in anchors}
    options = {
        "form": "raw",
        "strides_px": list(anchors),
        "anchors_px": [[list(p) for p in a] for a in anchors.values()],
    }
    family = get_family("yolov5", options, classes=1)
    assert family.input_spec.stride_px == 64
    for image, found in enumerate(family.decode(outputs, (128, 192), 0.6)):
        assert_same(found, list(loop(outputs, image, anchors, 0.6)))


@pytest.mark.parametrize("box_format", ["cxcywh", "xyxy"])
@pytest.mark.parametrize("normalised", [False, True])
def test_decoded_rows(box_format, normalised, assert_same):
    rng = np.random.default_rng(3)
    rows = rng.uniform(0, 1, (BATCH, 3 * (12 * 16 + 6 * 8 + 3 * 4), 7)).astype(np.float32)
    size = np.array([128, 96, 128, 96], np.float32)
    if not normalised:
        rows[..., :4] *= size
    options = {"box_format": box_format, "normalised": normalised}
    for image, found in enumerate(get_family("yolov5", options, classes=2).decode({"output": rows}, HW, 0.6)):
        wanted = []
        for a, b, c, d, objectness, *classes in rows[image].astype(float):
            if objectness * max(classes) >= 0.6:
                box = (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if box_format == "cxcywh" else (a, b, c, d)
                box = np.array(box) * (size if normalised else 1)
                wanted.append((objectness * max(classes), int(classes[1] > classes[0]), box, None))
        assert_same(found, wanted)


def test_the_decoded_output_is_found_beside_raw_heads():
    """As in exports that give both."""
    outputs = heads(2) | {"output": np.zeros((BATCH, 756, 7), np.float32)}
    outputs["output"][1, 5] = (50, 40, 20, 10, 0.9, 0.2, 0.8)
    none, one = get_family("yolov5", classes=2).decode(outputs, HW, 0.5)
    assert len(none.scores) == 0
    assert one.boxes_xyxy.tolist() == [[40, 35, 60, 45]]
    assert one.class_ids.tolist() == [1]
    assert one.scores[0] == pytest.approx(0.72)


def test_rows_whose_last_activation_was_cut_off_are_refused():
    rows = np.full((1, 756, 7), 3.0, np.float32)
    with pytest.raises(ModelError, match="last activation"):
        get_family("yolov5", classes=2).decode({"output": rows}, HW, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors_px": [[[1, 2]]]}, "3 strides and anchors for 1"),
        ({"form": "raw", "strides_px": [], "anchors_px": []}, "every stride needs its anchors"),
        ({"anchors_px": [[[1, 2]], [], [[1, 2]]]}, "every stride needs its anchors"),
        ({"anchors_px": [[[1, 2]], [[1, -2]], [[1, 2]]]}, "above 0"),
        ({"outputs": ["a", "b", "c"]}, "must name 1 different outputs"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        get_family("yolov5", options)
