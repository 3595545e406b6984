"""Finished detections: graphs in the layouts of torchvision, the ONNX Model Zoo and TensorFlow, run by ONNX Runtime.

Their last stage is written out here in ONNX operators after the paper (Ren et al., 2015): class scores by softmax,
boxes from deltas to proposals, suppression within each class; the loop does the same one proposal at a time.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = (200, 300)
CLASSES, PROPOSALS = 3, 40
MIN_SCORE, MAX_IOU = 0.2, 0.5


def head_inputs(seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 150, (PROPOSALS, 2))
    return {
        "proposals": np.concatenate((corner, corner + rng.uniform(20, 90, (PROPOSALS, 2))), 1).astype(np.float32),
        "deltas": rng.normal(0, 0.15, (PROPOSALS, CLASSES, 4)).astype(np.float32),
        "class_logits": rng.normal(0, 2.0, (PROPOSALS, CLASSES + 1)).astype(np.float32),
    }


def second_stage(names=("boxes", "labels", "scores")) -> onnxruntime.InferenceSession:
    """proposals (P, 4), deltas (P, C, 4), class_logits (P, 1 + C) to boxes (K, 4), labels (K) from 1, scores (K)."""
    constants = {
        "first_class": np.array([1], np.int64),
        "end": np.array([CLASSES + 1], np.int64),
        "class_axis": np.array([1], np.int64),
        "batch_axis": np.array([0], np.int64),
        "column_1": np.array(1, np.int64),
        "column_2": np.array(2, np.int64),
        "most": np.array([PROPOSALS], np.int64),
        "max_iou": np.array([MAX_IOU], np.float32),
        "min_score": np.array([MIN_SCORE], np.float32),
        "half": np.array(0.5, np.float32),
        "two": np.array([2, 2], np.int64),
        "one": np.array(1, np.int64),
        "flat": np.array([-1, 4], np.int64),
        "spread": np.array(1000, np.int64),
        "classes": np.array(CLASSES, np.int64),
    }
    # suppression within each class: boxes of different classes are moved 1000 px apart for the operator, and back
    offsets = (np.arange(CLASSES, dtype=np.float32) * 1000).reshape(1, CLASSES, 1)
    constants["offsets"] = offsets
    node = helper.make_node
    nodes = [
        node("Softmax", ["class_logits"], ["chances"], axis=1),
        node("Slice", ["chances", "first_class", "end", "class_axis"], ["objects"]),
        node("Split", ["proposals", "two"], ["low", "high"], axis=1),
        node("Sub", ["high", "low"], ["size"]),
        node("Add", ["high", "low"], ["sum"]),
        node("Mul", ["sum", "half"], ["centre"]),
        node("Unsqueeze", ["size", "class_axis"], ["size_c"]),
        node("Unsqueeze", ["centre", "class_axis"], ["centre_c"]),
        node("Split", ["deltas", "two"], ["shift", "growth"], axis=2),
        node("Mul", ["shift", "size_c"], ["moved"]),
        node("Add", ["moved", "centre_c"], ["new_centre"]),
        node("Exp", ["growth"], ["factor"]),
        node("Mul", ["factor", "size_c"], ["new_size"]),
        node("Mul", ["new_size", "half"], ["new_half"]),
        node("Sub", ["new_centre", "new_half"], ["new_low"]),
        node("Add", ["new_centre", "new_half"], ["new_high"]),
        node("Concat", ["new_low", "new_high"], ["decoded"], axis=2),
        node("Add", ["decoded", "offsets"], ["apart"]),
        node("Reshape", ["apart", "flat"], ["apart_flat"]),
        node("Unsqueeze", ["apart_flat", "batch_axis"], ["nms_boxes"]),
        node("Reshape", ["objects", "minus_one"], ["objects_flat"]),
        node("Unsqueeze", ["objects_flat", "batch_axis"], ["objects_1"]),
        node("Unsqueeze", ["objects_1", "batch_axis"], ["nms_scores"]),
        node("NonMaxSuppression", ["nms_boxes", "nms_scores", "all", "max_iou", "min_score"], ["selected"]),
        node("Gather", ["selected", "column_2"], ["place"], axis=1),
        node("Reshape", ["decoded", "flat"], ["decoded_flat"]),
        node("Gather", ["decoded_flat", "place"], [names[0]], axis=0),
        node("Mod", ["place", "classes"], ["class"]),
        node("Add", ["class", "one"], [names[1]]),
        node("Gather", ["objects_flat", "place"], [names[2]], axis=0),
    ]
    constants["minus_one"] = np.array([-1], np.int64)
    constants["all"] = np.array([PROPOSALS * CLASSES], np.int64)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "second_stage",
        [
            value("proposals", TensorProto.FLOAT, [PROPOSALS, 4]),
            value("deltas", TensorProto.FLOAT, [PROPOSALS, CLASSES, 4]),
            value("class_logits", TensorProto.FLOAT, [PROPOSALS, CLASSES + 1]),
        ],
        [
            value(names[0], TensorProto.FLOAT, [None, 4]),
            value(names[1], TensorProto.INT64, [None]),
            value(names[2], TensorProto.FLOAT, [None]),
        ],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def loop(inputs, threshold):
    """What the second stage says of each proposal, suppressed within each class."""
    found = []
    for class_id in range(CLASSES):
        rows = []
        for (x0, y0, x1, y1), deltas, logits in zip(
            *(inputs[k].astype(float) for k in ("proposals", "deltas", "class_logits")), strict=True
        ):
            score = math.exp(logits[class_id + 1]) / sum(math.exp(v) for v in logits)
            if score <= MIN_SCORE:
                continue
            dx, dy, lw, lh = deltas[class_id]
            w, h = (x1 - x0) * math.exp(lw), (y1 - y0) * math.exp(lh)
            cx, cy = (x0 + x1) / 2 + dx * (x1 - x0), (y0 + y1) / 2 + dy * (y1 - y0)
            rows.append((score, class_id, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), None))
        kept = []
        for row in sorted(rows, key=lambda r: -r[0]):
            if all(overlap(row[2], other[2]) <= MAX_IOU for other in kept):
                kept.append(row)
        found += [row for row in kept if row[0] >= threshold]
    return found


@pytest.mark.parametrize(
    ("name", "names"),
    [("torchvision-detection", ("boxes", "labels", "scores")), ("faster-rcnn", ("6379", "6381", "6383"))],
)
@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_a_graph_that_ends_in_a_second_stage(assert_same, name, names, threshold):
    session, inputs = second_stage(names), head_inputs()
    outputs = dict(zip(names, session.run(list(names), inputs), strict=True))
    assert outputs[names[1]].min() >= 1
    (found,) = get_family(name, {"classes": CLASSES}).decode(outputs, HW, threshold)
    assert_same(found, loop(inputs, threshold))
    assert found.distinct


def rows(batch=3, count=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "boxes": rng.uniform(0, 1, (batch, count, 4)).astype(np.float32),
        "labels": rng.integers(0, 5, (batch, count)).astype(np.float32),
        "scores": rng.random((batch, count)).astype(np.float32),
    }


def padded_loop(outputs, image, threshold, offset=1):
    """TensorFlow's layout: normalised (top, left, bottom, right)."""
    for (a, b, c, d), label, score in zip(*(outputs[k][image].astype(float) for k in outputs), strict=True):
        if score >= threshold and label >= offset:
            box = (min(b, d) * 300, min(a, c) * 200, max(b, d) * 300, max(a, c) * 200)
            yield score, label - offset, box, None


TENSORFLOW = {"classes": 4, "corner_format": "yxyx", "normalised": True}


def test_padded_rows_of_a_batch(assert_same):
    outputs = rows()
    for image, found in enumerate(get_family("torchvision-detection", TENSORFLOW).decode(outputs, HW, 0.3)):
        assert_same(found, list(padded_loop(outputs, image, 0.3)), at_least=4)


def test_rows_that_name_their_image(assert_same):
    outputs = rows()
    order = np.random.default_rng(1).permutation(36)
    flat = {k: v.reshape(36, *v.shape[2:])[order] for k, v in outputs.items()}
    flat["images"] = np.repeat(np.arange(3), 12)[order]
    family = get_family("torchvision-detection", TENSORFLOW | {"outputs": [*outputs, "images"], "batch": 3})
    for image, found in enumerate(family.decode(flat, HW, 0.3)):
        assert_same(found, list(padded_loop(outputs, image, 0.3)), at_least=4)
    with pytest.raises(ModelError, match=r"'images' must hold 0\.\.2"):
        family.decode(flat | {"images": flat["images"] + 1}, HW, 0.3)
    with pytest.raises(ModelError, match="images that are no whole numbers"):
        family.decode(flat | {"images": flat["images"] + 0.5}, HW, 0.3)


def test_nothing_at_all():
    empty = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64), "scores": np.zeros(0)}
    (found,) = get_family("torchvision-detection").decode(empty, HW, 0.5)
    assert found.boxes_xyxy.shape == (0, 4)
    family = get_family("torchvision-detection", {"outputs": ["boxes", "labels", "scores", "images"], "batch": 2})
    assert len(family.decode(empty | {"images": np.zeros(0, np.int64)}, HW, 0.5)) == 2


def test_broken_outputs_are_refused():
    outputs = {k: v[0] for k, v in rows().items()}
    family = get_family("torchvision-detection", {"classes": 4})
    for name in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{name}'; it has"):
            family.decode({k: v for k, v in outputs.items() if k != name}, HW, 0.5)
        with pytest.raises(ModelError, match="not finite"):
            family.decode(outputs | {name: np.full_like(outputs[name], np.nan)}, HW, 0.01)
    with pytest.raises(ModelError, match=r"'labels' has shape \(11,\), expected \(12\)"):
        family.decode(outputs | {"labels": outputs["labels"][1:]}, HW, 0.5)
    with pytest.raises(ModelError, match="labels above 4, expected 4 classes from label 1 on"):
        family.decode(outputs | {"labels": outputs["labels"] + 3}, HW, 0.1)
    with pytest.raises(ModelError, match="last activation"):
        family.decode(outputs | {"scores": outputs["scores"] * 9}, HW, 0.5)
    with pytest.raises(ModelError, match="no whole numbers; are the outputs"):
        family.decode(outputs | {"labels": outputs["scores"]}, HW, 0.01)
    with pytest.raises(ModelError, match="shape"):
        family.decode(outputs | {"boxes": outputs["boxes"][:, :3]}, HW, 0.5)


@pytest.mark.parametrize(
    "options", [{"outputs": ["a", "b"]}, {"batch": 2}, {"batch": 0}, {"outputs": ["a", "b", "c", "d", "e"]}]
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ConfigError, match="torchvision-detection"):
        get_family("torchvision-detection", options)


def test_pictures_are_prepared_as_each_wants_them():
    assert get_family("faster-rcnn").input_spec.channels == "bgr"
    assert get_family("torchvision-detection").input_spec.scale == (1 / 255,) * 3
