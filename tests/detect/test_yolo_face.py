"""YOLO-face with landmarks against its equations, one number at a time, and on real faces."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError

HW = (96, 128)
BATCH = 2
ANCHORS = {
    8: ((4, 5), (8, 10), (13, 16)),
    16: ((23, 29), (43, 55), (73, 105)),
    32: ((146, 217), (231, 300), (335, 433)),
}


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def v5_heads(landmarks: int = 5, classes: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"p{s}": rng.normal(0, 2, (BATCH, 3, HW[0] // s, HW[1] // s, 5 + 2 * landmarks + classes)).astype(np.float32)
        for s in (32, 8, 16)
    }


def v5_loop(outputs, image, threshold, landmarks=5):
    for stride, sides in ANCHORS.items():
        head = outputs[f"p{stride}"][image].astype(float)
        for a, row, column in np.ndindex(head.shape[:3]):
            tx, ty, tw, th, to, *rest = head[a, row, column]
            classes = [logistic(v) for v in rest[2 * landmarks :]]
            score = logistic(to) * max(classes)
            if score < threshold:
                continue
            x, y = (2 * logistic(tx) - 0.5 + column) * stride, (2 * logistic(ty) - 0.5 + row) * stride
            w, h = sides[a][0] * (2 * logistic(tw)) ** 2, sides[a][1] * (2 * logistic(th)) ** 2
            points = [
                (rest[2 * k] * sides[a][0] + column * stride, rest[2 * k + 1] * sides[a][1] + row * stride)
                for k in range(landmarks)
            ]
            yield score, classes.index(max(classes)), (x - w / 2, y - h / 2, x + w / 2, y + h / 2), points


@pytest.mark.parametrize(("landmarks", "classes"), [(5, 1), (4, 3)])
def test_yolov5_face_raw(landmarks, classes, assert_same):
    outputs = v5_heads(landmarks, classes)
    decoded = get_family("yolov5-face", {"landmarks": landmarks}, classes=classes).decode(outputs, HW, 0.5)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        assert_same(found, list(v5_loop(outputs, image, 0.5, landmarks)))


def test_yolov5_face_decoded(assert_same):
    rng = np.random.default_rng(1)
    rows = rng.uniform(0, 1, (BATCH, 756, 16)).astype(np.float32)
    rows[..., [0, 1, 2, 3, *range(5, 15)]] *= 100
    for image, found in enumerate(get_family("yolov5-face", {"form": "decoded"}).decode({"o": rows}, HW, 0.7)):
        wanted = []
        for x, y, w, h, objectness, *rest in rows[image].astype(float):
            if objectness * rest[10] >= 0.7:
                box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                wanted.append((objectness * rest[10], 0, box, rest[:10]))
        assert_same(found, wanted)


def v8_heads(values: int, reg_max: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        f"p{s}": rng.normal(0, 2, (BATCH, 4 * reg_max + 1 + 5 * values, HW[0] // s, HW[1] // s)).astype(np.float32)
        for s in (32, 8, 16)
    }


def v8_loop(outputs, image, threshold, values, reg_max=16):
    for stride in (8, 16, 32):
        head = outputs[f"p{stride}"][image].astype(float)
        for row, column in np.ndindex(head.shape[1:]):
            t = head[:, row, column]
            score = logistic(t[4 * reg_max])
            if score < threshold:
                continue
            sides = []
            for side in range(4):
                weights = [math.exp(v) for v in t[side * reg_max : (side + 1) * reg_max]]
                sides.append(stride * sum(i * w for i, w in enumerate(weights)) / sum(weights))
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            k = t[4 * reg_max + 1 :]
            # The anchor point of a cell is its centre, from which half a cell is taken off again.
            points = [
                (
                    (2 * k[values * j] + (column + 0.5) - 0.5) * stride,
                    (2 * k[values * j + 1] + (row + 0.5) - 0.5) * stride,
                )
                for j in range(5)
            ]
            yield score, 0, (x - sides[0], y - sides[1], x + sides[2], y + sides[3]), points


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_yolov8_face_raw(values, layout, assert_same):
    outputs = v8_heads(values)
    given = {k: v.transpose(0, 2, 3, 1) if layout == "nhwc" else v for k, v in outputs.items()}
    decoded = get_family("yolov8-face", {"landmark_values": values, "layout": layout}).decode(given, HW, 0.8)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        assert_same(found, list(v8_loop(outputs, image, 0.8, values)))


@pytest.mark.parametrize("transposed", [False, True])
def test_yolov8_face_decoded(transposed, assert_same):
    rng = np.random.default_rng(1)
    rows = rng.uniform(0, 100, (BATCH, 252, 20)).astype(np.float32)
    rows[..., 4] /= 100
    output = rows if transposed else rows.transpose(0, 2, 1)
    options = {"form": "decoded", "layout": "npc" if transposed else "ncp"}
    for image, found in enumerate(get_family("yolov8-face", options).decode({"output0": output}, HW, 0.8)):
        wanted = []
        for x, y, w, h, score, *k in rows[image].astype(float):
            if score >= 0.8:
                points = [(k[3 * j], k[3 * j + 1]) for j in range(5)]
                wanted.append((score, 0, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), points))
        assert_same(found, wanted)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("yolov5-face", {"landmarks": 0}, "'landmarks' must be at least 1"),
        ("yolov5-face", {"strides_px": [8, 16]}, "2 strides and anchors for 3"),
        ("yolov8-face", {"landmarks": 0}, "'landmarks' must be at least 1"),
        ("yolov8-face", {"layout": "npc"}, "'layout' of form 'raw'"),
        ("yolov8-face", {"strides_px": []}, "need 'strides_px'"),
        ("yolov8-face", {"reg_max": 0}, "'reg_max'"),
        ("yolov8-face", {"landmark_values": 4}, "Input should be 2 or 3"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        get_family(name, options)


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("name", "model"), [("yolov5-face", "yolov5n-0.5-face"), ("yolov8-face", "yolov8-lite-t-face")]
)
class TestRealFaces:
    def test_the_astronaut(self, name, model, find, assert_covers):
        family = get_family(name, input_overrides={"size_px": [640, 640]}, classes=1)
        found = find(family, model, "astronaut.png", 0.5)
        assert len(found) == 1
        assert_covers(found, [(179, 60, 271, 176)], 0, 0.75)
        places = [(202, 103), (247, 103), (221, 127), (204, 145), (243, 144)]  # eyes, nose, corners of the mouth
        assert found.landmarks_px[0] == pytest.approx(np.array(places), abs=9)

    def test_several_faces(self, name, model, find, assert_covers):
        family = get_family(name, input_overrides={"size_px": [640, 640]}, classes=1)
        found = find(family, model, "pyfeat_multi_face.jpg", 0.5)
        known = [
            (214, 61, 311, 175),
            (314, 232, 413, 361),
            (433, 212, 519, 311),
            (529, 302, 633, 434),
            (680, 285, 791, 425),
        ]
        assert_covers(found, known, 0, 0.7)
        assert len(found) == 5

    def test_small_faces(self, name, model, find, assert_covers):
        family = get_family(name, input_overrides={"size_px": [640, 640]}, classes=1)
        found = find(family, model, "bus.jpg", 0.5)
        assert_covers(found, [(112, 414, 154, 468), (267, 418, 308, 474)], 0, 0.7)
        assert len(found) == 2
