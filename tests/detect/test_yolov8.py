"""YOLOv8 and its successors against the equations of generalized focal loss, one number at a time, and on a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (96, 128)
BATCH = 2
CELLS = 12 * 16 + 6 * 8 + 3 * 4


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def heads(classes: int, reg_max: int, extra: int = 0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    made = {}
    for stride in (16, 32, 8):
        shape = (BATCH, 4 * reg_max + classes + extra, HW[0] // stride, HW[1] // stride)
        made[f"p{stride}"] = rng.normal(0, 1.5, shape).astype(np.float32)
    return made


def loop(outputs, image, classes, reg_max, threshold):
    """A distance is the expectation of its distribution over 0..reg_max - 1 strides, from the centre of the cell."""
    for stride in (8, 16, 32):
        head = outputs[f"p{stride}"][image].astype(float)
        for row, column in np.ndindex(head.shape[1:]):
            values = head[:, row, column]
            scores = [logistic(v) for v in values[4 * reg_max : 4 * reg_max + classes]]
            if max(scores) < threshold:
                continue
            sides = []
            for side in range(4):
                logits = values[side * reg_max : (side + 1) * reg_max]
                if reg_max == 1:
                    sides.append(logits[0])
                    continue
                total = sum(math.exp(v) for v in logits)
                sides.append(sum(i * math.exp(v) / total for i, v in enumerate(logits)))
            left, top, right, bottom = (side * stride for side in sides)
            x, y = (column + 0.5) * stride, (row + 0.5) * stride
            yield max(scores), scores.index(max(scores)), (x - left, y - top, x + right, y + bottom), None


@pytest.mark.parametrize("reg_max", [16, 8, 1])
@pytest.mark.parametrize("extra", [0, 5])
def test_raw_heads_are_the_equations(reg_max, extra, assert_same):
    outputs = heads(3, reg_max, extra)
    options = {"form": "raw", "reg_max": reg_max, "extra_channels": extra}
    decoded = get_family("yolov8", options, classes=3).decode(outputs, HW, 0.8)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        assert_same(found, list(loop(outputs, image, 3, reg_max, 0.8)))


def test_distances_and_classes_apart_rows_last_channel(assert_same):
    """As exports for embedded devices give them, classes activated."""
    made = heads(3, 16)
    outputs = {}
    for name, head in made.items():
        outputs[f"cls_{name}"] = (1 / (1 + np.exp(-head[:, 64:]))).transpose(0, 2, 3, 1)
        outputs[f"box_{name}"] = head[:, :64].transpose(0, 2, 3, 1)
    options = {"form": "raw_split", "layout": "nhwc", "activated": True}
    for image, found in enumerate(get_family("yolov8", options, classes=3).decode(outputs, HW, 0.8)):
        assert_same(found, list(loop(made, image, 3, 16, 0.8)))


def test_distances_and_64_classes_must_be_named(assert_same):
    made = heads(64, 16)
    outputs = {f"box_{name}": head[:, :64] for name, head in made.items()}
    outputs |= {f"cls_{name}": head[:, 64:] for name, head in made.items()}
    with pytest.raises(ModelError, match="'outputs'"):
        get_family("yolov8", {"form": "raw_split"}, classes=64).decode(outputs, HW, 0.9)
    names = [f"{kind}_p{stride}" for stride in (8, 16, 32) for kind in ("box", "cls")]
    found = get_family("yolov8", {"form": "raw_split", "outputs": names}, classes=64).decode(outputs, HW, 0.95)
    for image in range(BATCH):
        assert_same(found[image], list(loop(made, image, 64, 16, 0.95)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_decoded_rows(transposed, normalised, assert_same):
    rng = np.random.default_rng(3)
    rows = rng.uniform(0, 1, (BATCH, CELLS, 4 + 3 + 2)).astype(np.float32)
    rows[..., 7:] = 9  # not read, so no need to be probabilities
    size = np.array([128, 96, 128, 96], np.float32)
    if not normalised:
        rows[..., :4] *= size
    output = rows if transposed else np.ascontiguousarray(rows.transpose(0, 2, 1))
    options = {"layout": "npc" if transposed else "ncp", "normalised": normalised, "extra_channels": 2}
    for image, found in enumerate(get_family("yolov8", options, classes=3).decode({"output0": output}, HW, 0.9)):
        wanted = []
        for x, y, w, h, *rest in rows[image].astype(float):
            scores = rest[:3]
            if max(scores) >= 0.9:
                box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * (size if normalised else 1)
                wanted.append((max(scores), scores.index(max(scores)), box, None))
        assert_same(found, wanted)


def test_the_other_layout_is_noticed():
    output = np.zeros((1, 84, CELLS), np.float32)
    with pytest.raises(ModelError, match=r"expected shape \(any, 252, 84\); the model gave 'o' \(1, 84, 252\)"):
        get_family("yolov8", {"layout": "npc"}).decode({"o": output}, HW, 0.5)


def test_multi_label_counts_every_class_that_reaches_the_threshold():
    rows = np.zeros((1, 6, CELLS), np.float32)
    rows[0, :, 9] = (50, 40, 20, 10, 0.6, 0.7)
    (best,) = get_family("yolov8", classes=2).decode({"o": rows}, HW, 0.5)
    assert best.class_ids.tolist() == [1]
    (every,) = get_family("yolov8", {"multi_label": True}, classes=2).decode({"o": rows}, HW, 0.5)
    assert every.class_ids.tolist() == [0, 1]
    assert every.scores == pytest.approx([0.6, 0.7])
    assert every.boxes_xyxy.tolist() == [[40, 35, 60, 45]] * 2


def test_huge_logits_do_not_overflow():
    outputs = {k: np.full_like(v, -200) for k, v in heads(1, 16).items()}
    outputs["p8"][0, :, 2, 3] = 300  # all sides alike: the mean of 0..15
    found, nothing = get_family("yolov8", {"form": "raw"}, classes=1).decode(outputs, HW, 0.5)
    assert found.scores.tolist() == [1]
    assert found.boxes_xyxy.tolist() == [[(3.5 - 7.5) * 8, (2.5 - 7.5) * 8, (3.5 + 7.5) * 8, (2.5 + 7.5) * 8]]
    assert len(nothing.scores) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "nhwc"}, "'layout' of form 'decoded' is one of auto, ncp, npc"),
        ({"form": "raw", "layout": "npc"}, "'layout' of form 'raw' is one of auto, nchw, nhwc"),
        ({"form": "raw", "strides_px": []}, "need 'strides_px'"),
        ({"reg_max": 0}, "'reg_max'"),
        ({"extra_channels": -1}, "'extra_channels'"),
        ({"form": "raw_split", "extra_channels": 2}, "no 'extra_channels'"),
        ({"form": "raw_split", "outputs": ["a", "b", "c"]}, "must name 6 different outputs"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        get_family("yolov8", options)


@pytest.mark.dataset
def test_yolo11_finds_the_people_and_the_bus(find, assert_covers):
    family = get_family("yolov8", input_overrides={"size_px": [320, 320]}, classes=80)
    found = find(family, "yolo11n_int8", "bus.jpg", 0.5)
    assert_covers(found, [(45, 398, 245, 907), (215, 400, 348, 855), (670, 380, 810, 880)], 0, 0.7)
    assert_covers(found, [(15, 224, 803, 748)], 5, 0.9)
    assert len(found) == 4
