"""Graphs that end in NonMaxSuppression, run by ONNX Runtime, and the layout of EfficientNMS, against loops."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError

HW = (200, 300)
BATCH, CLASSES, PLACES = 3, 4, 50
MAX_IOU, MIN_SCORE = 0.4, 0.15


def raw(seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 150, (BATCH, PLACES, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(10, 80, (BATCH, PLACES, 2))), -1)
    return boxes.astype(np.float32), rng.random((BATCH, CLASSES, PLACES)).astype(np.float32)


def suppressed(boxes, scores, centred):
    constants = {
        "most": np.array([30], np.int64),
        "max_iou": np.array([MAX_IOU], np.float32),
        "min_score": np.array([MIN_SCORE], np.float32),
    }
    nodes = [
        helper.make_node("Identity", ["in_boxes"], ["boxes"]),
        helper.make_node("Identity", ["in_scores"], ["scores"]),
        helper.make_node(
            "NonMaxSuppression",
            ["boxes", "scores", "most", "max_iou", "min_score"],
            ["selected_indices"],
            center_point_box=int(centred),
        ),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "ended",
        [value("in_boxes", TensorProto.FLOAT, [None, None, 4]), value("in_scores", TensorProto.FLOAT, [None] * 3)],
        [
            value("selected_indices", TensorProto.INT64, [None, 3]),
            value("boxes", TensorProto.FLOAT, [None, None, 4]),
            value("scores", TensorProto.FLOAT, [None] * 3),
        ],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, {"in_boxes": boxes, "in_scores": scores}), strict=True))


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def loop(boxes_xyxy, scores, image, threshold):
    """Greedy suppression within each class, every pair by itself."""
    found = []
    for class_id in range(CLASSES):
        kept = []
        for place in sorted(range(PLACES), key=lambda p: -scores[image, class_id, p]):
            score, box = float(scores[image, class_id, place]), boxes_xyxy[image, place].astype(float).tolist()
            if score > MIN_SCORE and len(kept) < 30 and all(overlap(box, k[2]) <= MAX_IOU for k in kept):
                kept.append((score, class_id, box, None))
        found += [row for row in kept if row[0] >= threshold]
    return found


@pytest.mark.parametrize("corner_format", ["yxyx", "xyxy", "cxcywh"])
@pytest.mark.parametrize("threshold", [0.2, 0.7])
def test_a_graph_that_ends_in_nms(assert_same, corner_format, threshold):
    xyxy, scores = raw()
    boxes = {
        "yxyx": xyxy[..., [1, 0, 3, 2]],
        "xyxy": xyxy[..., [2, 1, 0, 3]],  # any two opposite corners are allowed
        "cxcywh": np.concatenate(((xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]), -1),
    }[corner_format]
    outputs = suppressed(np.ascontiguousarray(boxes), scores, corner_format == "cxcywh")
    family = get_family("onnx-nms", {"classes": CLASSES, "corner_format": corner_format})
    for image, found in enumerate(family.decode(outputs, HW, threshold)):
        assert_same(found, loop(xyxy, scores, image, threshold))
        assert found.distinct


def test_rows_of_minus_one_are_padding(assert_same):
    xyxy, scores = raw()
    outputs = suppressed(np.ascontiguousarray(xyxy[..., [1, 0, 3, 2]]), scores, False)
    outputs["selected_indices"] = np.concatenate((outputs["selected_indices"], np.full((7, 3), -1)))
    found = get_family("onnx-nms", {"classes": CLASSES}).decode(outputs, HW, 0.2)
    assert_same(found[2], loop(xyxy, scores, 2, 0.2))


def test_broken_indices_are_refused():
    xyxy, scores = raw()
    family = get_family("onnx-nms", {"classes": CLASSES})
    outputs = {"selected_indices": np.array([[0, 1, 2]]), "boxes": xyxy, "scores": scores}
    assert sum(len(f.scores) for f in family.decode(outputs, HW, 0.001)) == 1
    for bad in ([3, 0, 0], [0, 4, 0], [0, 0, 50], [0, -1, 0]):
        with pytest.raises(ModelError, match="points beyond 3 images, 4 classes and 50 boxes"):
            family.decode(outputs | {"selected_indices": np.array([bad])}, HW, 0.5)
    with pytest.raises(ModelError, match="not finite"):
        family.decode(outputs | {"selected_indices": np.array([[0, np.nan, 0]])}, HW, 0.5)
    for name in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{name}'"):
            family.decode({k: v for k, v in outputs.items() if k != name}, HW, 0.5)
        with pytest.raises(ModelError, match="expected"):
            family.decode(outputs | {name: outputs[name][..., :2]}, HW, 0.5)
    for name in ("boxes", "scores"):
        with pytest.raises(ModelError, match="not finite"):
            family.decode(outputs | {name: np.full_like(outputs[name], np.inf)}, HW, 0.01)
    with pytest.raises(ModelError, match="last activation"):
        family.decode(outputs | {"scores": scores * 5}, HW, 0.01)


def efficient(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "num_dets": np.array([[9], [0], [20]], np.int32),
        "det_boxes": rng.uniform(0, 1, (BATCH, 20, 4)).astype(np.float32),
        "det_scores": rng.random((BATCH, 20)).astype(np.float32),
        "det_classes": rng.integers(0, CLASSES, (BATCH, 20)).astype(np.int32),
    }


def efficient_loop(outputs, image, threshold):
    for place in range(int(outputs["num_dets"][image, 0])):
        score = float(outputs["det_scores"][image, place])
        if score >= threshold:
            a, b, c, d = outputs["det_boxes"][image, place].astype(float) * (300, 200, 300, 200)
            box = (min(a, c), min(b, d), max(a, c), max(b, d))
            yield score, int(outputs["det_classes"][image, place]), box, None


def test_efficient_nms_is_the_loop(assert_same):
    outputs = efficient()
    outputs["det_scores"][0, 9:] = np.nan  # what is beyond the count was never written
    found = get_family("efficient-nms", {"classes": CLASSES, "normalised": True}).decode(outputs, HW, 0.3)
    assert len(found[1].scores) == 0
    for image in (0, 2):
        assert_same(found[image], list(efficient_loop(outputs, image, 0.3)), at_least=4)
        assert found[image].distinct


def test_broken_efficient_nms_is_refused():
    family, outputs = get_family("efficient-nms", {"classes": CLASSES}), efficient()
    for name in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{name}'"):
            family.decode({k: v for k, v in outputs.items() if k != name}, HW, 0.5)
        with pytest.raises(ModelError, match="expected"):
            family.decode(outputs | {name: outputs[name][:2]}, HW, 0.5)
        with pytest.raises(ModelError, match="not finite"):
            family.decode(outputs | {name: np.full(outputs[name].shape, np.nan, np.float32)}, HW, 0.01)
    for bad in (21, -1):
        with pytest.raises(ModelError, match=r"'num_dets' must hold 0\.\.20"):
            family.decode(outputs | {"num_dets": np.full((3, 1), bad)}, HW, 0.5)
    with pytest.raises(ModelError, match=r"'det_classes' must hold 0\.\.3"):
        family.decode(outputs | {"det_classes": outputs["det_classes"] + 1}, HW, 0.01)
