"""YOLOv3 and YOLOv4 against the equations of their papers, one number at a time, and on real pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (96, 128)
BATCH = 3


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def heads(classes: int, strides: tuple[int, ...], anchors: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {}
    for stride in strides:
        shape = (BATCH, anchors * (5 + classes), HW[0] // stride, HW[1] // stride)
        made[f"stride{stride}"] = rng.normal(0, 1.5, shape).astype(np.float32)
    return made


def loop(outputs, image, classes, levels, threshold):
    """levels: (stride, anchors, scale_x_y). b_x = sigma(t_x) + c_x, b_w = p_w e^t_w; YOLOv4 stretches the sigma."""
    for stride, anchors, stretch in levels:
        head = outputs[f"stride{stride}"][image].astype(float)
        _, rows, columns = head.shape
        for a, (pw, ph) in enumerate(anchors):
            t = head[a * (5 + classes) : (a + 1) * (5 + classes)]
            for cy in range(rows):
                for cx in range(columns):
                    tx, ty, tw, th, to, *tc = t[:, cy, cx]
                    best = max(range(classes), key=lambda c: tc[c])
                    score = logistic(to) * logistic(tc[best])
                    if score < threshold:
                        continue
                    bx = (cx + logistic(tx) * stretch - 0.5 * (stretch - 1)) * stride
                    by = (cy + logistic(ty) * stretch - 0.5 * (stretch - 1)) * stride
                    bw, bh = pw * math.exp(tw), ph * math.exp(th)
                    yield score, best, (bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2), None


V4_LEVELS = [
    (8, ((12, 16), (19, 36), (40, 28)), 1.2),
    (16, ((36, 75), (76, 55), (72, 146)), 1.1),
    (32, ((142, 110), (192, 243), (459, 401)), 1.05),
]
V3_LEVELS = [
    (8, ((10, 13), (16, 30), (33, 23)), 1),
    (16, ((30, 61), (62, 45), (59, 119)), 1),
    (32, ((116, 90), (156, 198), (373, 326)), 1),
]


@pytest.mark.parametrize("order", [(8, 16, 32), (32, 16, 8), (16, 32, 8)])
@pytest.mark.parametrize(("name", "levels"), [("yolov3", V3_LEVELS), ("yolov4", V4_LEVELS)])
def test_raw_heads_are_the_papers_equations_in_any_order(name, levels, order, assert_same):
    made = heads(4, (8, 16, 32))
    outputs = {f"stride{s}": made[f"stride{s}"] for s in order}
    decoded = get_family(name, classes=4).decode(outputs, HW, 0.5)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        assert_same(found, list(loop(outputs, image, 4, levels, 0.5)))


def test_two_scales_coarse_first_one_class_and_a_stretch_per_head(assert_same):
    anchors = [[12, 18], [37, 49], [52, 132], [115, 74], [119, 199], [243, 238]]
    options = {
        "anchors_px": anchors,
        "masks": [[3, 4, 5], [0, 1, 2]],
        "strides_px": [32, 16],
        "scale_x_y": [1.1, 1.05],
    }
    outputs = heads(1, (32, 16))
    found = get_family("yolov3", options, classes=1).decode(outputs, HW, 0.4)
    levels = [(32, anchors[3:], 1.1), (16, anchors[:3], 1.05)]
    for image in range(BATCH):
        assert_same(found[image], list(loop(outputs, image, 1, levels, 0.4)), at_least=5)


def test_heads_may_have_different_numbers_of_anchors(assert_same):
    anchors = [[10, 10], [20, 20], [40, 40]]
    rng = np.random.default_rng(5)
    outputs = {
        "stride16": rng.normal(0, 2, (1, 2 * 7, 6, 8)).astype(np.float32),
        "stride32": rng.normal(0, 2, (1, 1 * 7, 3, 4)).astype(np.float32),
    }
    options = {"anchors_px": anchors, "masks": [[0, 1], [2]], "strides_px": [16, 32], "classes": 2}
    (found,) = get_family("yolov3", options).decode(outputs, HW, 0.5)
    assert_same(found, list(loop(outputs, 0, 2, [(16, anchors[:2], 1), (32, anchors[2:], 1)], 0.5)))


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "nahwc", "nachw", "nhwac"])
def test_layouts_hold_the_same_heads(layout):
    """`nhwac` is how the YOLOv4 of the ONNX Model Zoo gives its heads: (1, 52, 52, 3, 85)."""
    made = heads(4, (8, 16, 32))
    axes = {"nahwc": (0, 1, 3, 4, 2), "nachw": (0, 1, 2, 3, 4), "nhwac": (0, 3, 4, 1, 2)}
    outputs = {}
    for name, head in made.items():
        split = head.reshape(BATCH, 3, 9, *head.shape[2:])
        if layout == "nchw":
            outputs[name] = head
        elif layout == "nhwc":
            outputs[name] = head.transpose(0, 2, 3, 1)
        else:
            outputs[name] = split.transpose(axes[layout])
    wanted = get_family("yolov4", classes=4).decode(made, HW, 0.5)
    found = get_family("yolov4", {"layout": layout}, classes=4).decode(outputs, HW, 0.5)
    for a, b in zip(wanted, found, strict=True):
        assert len(a.scores) > 20
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
        np.testing.assert_array_equal(a.scores, b.scores)


def test_sigmoids_in_the_graph_are_not_applied_again(assert_same):
    made = heads(4, (8, 16, 32))
    activated = {}
    for name, head in made.items():
        split = head.reshape(BATCH, 3, 9, *head.shape[2:]).copy()
        keep = split[:, :, 2:4].copy()
        split = 1 / (1 + np.exp(-split))
        split[:, :, 2:4] = keep
        activated[name] = split.reshape(head.shape)
    found = get_family("yolov3", {"activated": True}, classes=4).decode(activated, HW, 0.5)
    for image in range(BATCH):
        assert_same(found[image], list(loop(made, image, 4, V3_LEVELS, 0.5)))
    with pytest.raises(ModelError, match="outside"):
        get_family("yolov3", {"activated": True}, classes=4).decode(made, HW, 0.5)


def test_multi_label_counts_every_class_that_reaches_the_threshold():
    outputs = heads(4, (8, 16, 32))
    best = get_family("yolov3", classes=4).decode(outputs, HW, 0.4)[0]
    every = get_family("yolov3", {"multi_label": True}, classes=4).decode(outputs, HW, 0.4)[0]
    count = 0
    for head in outputs.values():
        t = head[0].reshape(3, 9, *head.shape[2:]).astype(float)
        count += int((1 / (1 + np.exp(-t[:, 4:5])) / (1 + np.exp(-t[:, 5:])) >= 0.4).sum())
    assert len(every.scores) == count > len(best.scores)
    assert {*zip(best.scores.tolist(), best.class_ids.tolist(), strict=True)} <= {
        *zip(every.scores.tolist(), every.class_ids.tolist(), strict=True)
    }


@pytest.mark.parametrize("normalised", [False, True])
def test_decoded_rows(normalised, assert_same):
    rng = np.random.default_rng(3)
    count = 3 * (12 * 16 + 6 * 8 + 3 * 4)
    rows = rng.uniform(0, 1, (BATCH, count, 8)).astype(np.float32)
    size = np.array([HW[1], HW[0]] * 2)
    if not normalised:
        rows[..., :4] *= size
    found = get_family("yolov3", {"form": "decoded", "normalised": normalised}, classes=3).decode({"o": rows}, HW, 0.7)
    for image in range(BATCH):
        wanted = []
        for x, y, w, h, objectness, *classes in rows[image].astype(float):
            best = int(np.argmax(classes))
            if objectness * classes[best] >= 0.7:
                box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * (size if normalised else 1)
                wanted.append((objectness * classes[best], best, box, None))
        assert_same(found[image], wanted)


def test_split_outputs_of_boxes_and_scores(assert_same):
    """As the PyTorch exports of YOLOv4: boxes (N, P, 1, 4), corners in shares of the size, and scores (N, P, C)."""
    rng = np.random.default_rng(3)
    count = 3 * (12 * 16 + 6 * 8 + 3 * 4)
    boxes = rng.uniform(0, 1, (BATCH, count, 1, 4)).astype(np.float32)
    scores = rng.uniform(0, 0.8, (BATCH, count, 3)).astype(np.float32)
    family = get_family("yolov4", {"form": "split", "box_format": "xyxy", "normalised": True}, classes=3)
    found = family.decode({"confs": scores, "boxes": boxes}, HW, 0.6)
    for image in range(BATCH):
        wanted = [
            (s.max(), s.argmax(), b[0] * (128, 96, 128, 96), None)
            for b, s in zip(boxes[image].astype(float), scores[image], strict=True)
            if s.max() >= np.float32(0.6)
        ]
        assert_same(found[image], wanted)
    with pytest.raises(ModelError, match="no output of the expected shape"):
        family.decode({"confs": scores, "boxes": boxes[:, :-1]}, HW, 0.6)


def test_four_classes_and_boxes_must_be_named():
    family = get_family("yolov4", {"form": "split"}, classes=4)
    with pytest.raises(ModelError, match="'outputs'"):
        family.decode({"a": np.zeros((1, 756, 4), np.float32), "b": np.zeros((1, 756, 4), np.float32)}, HW, 0.5)
    named = get_family("yolov4", {"form": "split", "outputs": ["b", "a"], "box_format": "xyxy"}, classes=4)
    scores, boxes = np.zeros((1, 756, 4), np.float32), np.ones((1, 756, 4), np.float32)
    scores[0, 7, 2] = 0.9
    (found,) = named.decode({"a": scores, "b": boxes}, HW, 0.5)
    assert found.class_ids.tolist() == [2]
    assert found.boxes_xyxy.tolist() == [[1, 1, 1, 1]]


def test_rows_of_another_input_size_are_noticed_unless_no_stride_is_given():
    rows = {"o": np.zeros((1, 100, 6), np.float32)}
    with pytest.raises(ModelError, match=r"expected shape \(any, 756, 6\); the model gave 'o' \(1, 100, 6\)"):
        get_family("yolov3", {"form": "decoded"}, classes=1).decode(rows, HW, 0.5)
    options = {"form": "decoded", "strides_px": [], "masks": []}
    assert len(get_family("yolov3", options, classes=1).decode(rows, HW, 0.5)[0].scores) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": [[0, 1, 2]]}, "3 strides and anchors for 1"),
        ({"masks": [[0, 1, 2], [3, 4, 5], [6, 7, 9]]}, "must index the 9 anchors"),
        ({"masks": [[0, 1, 2], [], [6, 7]]}, "every stride needs its anchors"),
        ({"scale_x_y": [1.0, 2.0]}, "one value for each of the 3 strides"),
        ({"anchors_px": [[0, 4]] * 9}, "above 0"),
        ({"strides_px": [0, 16, 32]}, "at least 1"),
        ({"classes": 0}, "'classes' must be at least 1"),
        ({"outputs": ["a", "b"]}, "must name 3 different outputs"),
        ({"outputs": ["a", "b", "b"]}, "must name 3 different outputs"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        get_family("yolov3", options)


FACE_OPTIONS = {
    "anchors_px": [[4, 6], [7, 10], [11, 15], [16, 24], [33, 25], [26, 41], [47, 60], [83, 97], [141, 149]],
}
BUS_PEOPLE = [(45, 398, 245, 907), (215, 400, 348, 855), (670, 380, 810, 880)]
PYFEAT_FACES = [
    (214, 61, 311, 175),
    (314, 232, 413, 361),
    (433, 212, 519, 311),
    (529, 302, 633, 434),
    (680, 285, 791, 425),
]


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("picture", "faces"),
    [
        ("astronaut.png", [(179, 60, 271, 176)]),
        ("pyfeat_multi_face.jpg", PYFEAT_FACES),
        ("zidane.jpg", [(916, 95, 1056, 282), (538, 246, 667, 442)]),
    ],
)
def test_yoloface_finds_the_faces(picture, faces, find, assert_covers):
    family = get_family("yolov3", FACE_OPTIONS, {"fit": "stretch", "size_px": [352, 288]}, classes=1)
    found = find(family, "dk_yoloface-500k-v2", picture, 0.5)
    assert_covers(found, faces, 0, 0.5)
    assert len(found) == len(faces)


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("model", "fourth", "last", "stretch"),
    [
        ("dk_MobileNetV2-YOLOv3-Nano-coco", [115, 74], [243, 238], [1.1, 1.05]),
        ("dk_yolo-fastest-1.1", [115, 73], [242, 238], []),
    ],
)
def test_darknet_models_find_the_people_and_the_bus(model, fourth, last, stretch, find, assert_covers):
    options = {
        "anchors_px": [[12, 18], [37, 49], [52, 132], fourth, [119, 199], last],
        "masks": [[3, 4, 5], [0, 1, 2]],
        "strides_px": [32, 16],
        "scale_x_y": stretch,
    }
    family = get_family("yolov3", options, {"fit": "stretch", "size_px": [320, 320]}, classes=80)
    found = find(family, model, "bus.jpg", 0.5)
    assert_covers(found, BUS_PEOPLE, 0, 0.5)
    assert_covers(found, [(15, 224, 803, 748)], 5, 0.5)
    assert {0, 5} == set(found.class_ids.tolist())
