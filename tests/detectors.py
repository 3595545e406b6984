"""Small ONNX detectors with the inputs and outputs of every family; what they give hardly depends on the picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HW = (64, 96)
CELLS = {4: 16 * 24, 8: 8 * 12, 16: 4 * 6, 32: 2 * 3}
P = CELLS[8] + CELLS[16] + CELLS[32]


def detector(
    outputs: Mapping[str, np.ndarray],
    shape: tuple[Any, ...] = ("N", 3, *HW),
    dtype: int = TensorProto.FLOAT,
    metadata: Mapping[str, str] | None = None,
    ties_batch: bool = False,
) -> onnx.ModelProto:
    """A network whose outputs are these arrays, of one picture, plus a trace of its brightness.

    Arrays of floats follow the batch along their first axis; other arrays are constants. ties_batch: the graph reshapes
    to a batch of 1 in a way that cannot be freed.
    """
    nodes = [helper.make_node("Cast", ["picture"], ["real"], to=TensorProto.FLOAT)]
    constants = [numpy_helper.from_array(np.array(1e-6, np.float32), "little")]
    rank = len(shape)
    nodes += [
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=list(range(rank - 3, rank)), keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["trace"]),
    ]
    infos = []
    for index, (name, array) in enumerate(outputs.items()):
        constants.append(numpy_helper.from_array(array, f"c{index}"))
        if array.dtype.kind != "f" or rank == 3 or array.ndim == 1:
            nodes.append(helper.make_node("Identity", [f"c{index}"], [name]))
        else:
            target = np.array([0 if not ties_batch else 1, *[1] * (array.ndim - 1)], np.int64)
            constants.append(numpy_helper.from_array(target, f"s{index}"))
            nodes.append(helper.make_node("Reshape", ["trace", f"s{index}"], [f"t{index}"]))
            nodes.append(
                helper.make_node("Cast", [f"t{index}"], [f"u{index}"], to=helper.np_dtype_to_tensor_dtype(array.dtype))
            )
            nodes.append(helper.make_node("Add", [f"c{index}", f"u{index}"], [name]))
        infos.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        )
    graph = helper.make_graph(
        nodes, "detector", [helper.make_tensor_value_info("picture", dtype, shape)], infos, constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def values(*shape: int, low: float = 0.01, high: float = 0.04) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(low, high, shape).astype(np.float32)


def logits(*shape: int) -> np.ndarray:
    return values(*shape, low=-8, high=-5)


def softmaxed(*shape: int) -> np.ndarray:
    found = np.full(shape, 0.02 / (shape[-1] - 1), np.float32)
    found[..., 0] = 0.98
    return found


def sure_of_none(*shape: int) -> np.ndarray:
    found = logits(*shape)
    found[..., -1] = 5
    return found


def rows(count: int, columns: int, decoded: bool = True) -> np.ndarray:
    """Boxes as centre and size over the whole picture, and scores."""
    found = values(1, count, columns)
    if decoded:
        found[0, :, 0] = np.linspace(2, HW[1] - 2, count)
        found[0, :, 1] = np.linspace(2, HW[0] - 2, count)
        found[0, :, 2:4] = 10
    return found


def finished(count: int = 5) -> np.ndarray:
    found = values(1, count, 6)
    found[0, :, :4] = (10, 10, 30, 40)
    found[0, :, 5] = [i % 2 for i in range(count)]
    return found


def heads(channels: int, *strides: int, **more: int) -> dict[str, np.ndarray]:
    return {f"head{s}": logits(1, channels, HW[0] // s, HW[1] // s) for s in strides}


CORNERS = np.array([[10, 10, 30, 40], [20, 5, 40, 50]], np.float32)
SHARES = values(1, 4420, 4, low=0.1, high=0.9)
SHARES[..., 2:] = SHARES[..., :2] + 0.05


class Case(NamedTuple):
    """A detector, and how it must be read. count: classes named beforehand. family: None where it must be asked for."""

    family: str
    outputs: Mapping[str, np.ndarray]
    options: Mapping[str, object] = {}
    count: int | None = None
    classes: int | None = 1
    shape: tuple[Any, ...] = ("N", 3, *HW)
    ask: str | None = None
    give: Mapping[str, object] = {}


YUNET, YUNET_PLATE = (
    {
        f"{kind}_{s}": values(1, CELLS[s], width)
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", points))
        for s in (8, 16, 32)
    }
    for points in (10, 8)
)
SCRFD = {f"{400 + s + i}": values(2 * CELLS[s], width) for i, width in enumerate((1, 4, 10)) for s in (8, 16, 32)}
CENTERFACE = {
    "hm": values(1, 1, 16, 24),
    "wh": values(1, 2, 16, 24),
    "reg": values(1, 2, 16, 24),
    "lm": values(1, 10, 16, 24),
}
THREE = {f"h{s}": logits(1, 3, HW[0] // s, HW[1] // s, 16) for s in (8, 16, 32)}
SPLIT = {f"{kind}{s}": logits(1, c, HW[0] // s, HW[1] // s) for s in (8, 16, 32) for kind, c in (("d", 64), ("c", 7))}
PROTOTYPES = values(1, 32, 16, 24)
CHOSEN = np.array([[0, 1, 3]], np.int64)

CASES = {
    "yunet": Case("yunet", YUNET),
    "yunet-plate": Case("yunet-plate", YUNET_PLATE),
    "centerface": Case("centerface", CENTERFACE, {"outputs": ("hm", "wh", "reg", "lm")}),
    "retinaface": Case(
        "retinaface",
        {"box": values(1, 2 * P, 4), "landmark": values(1, 2 * P, 10), "conf": softmaxed(1, 2 * P, 2)},
        {"outputs": ("box", "conf", "landmark")},
    ),
    "retinaface-plate": Case(
        "retinaface-plate", {"loc": values(1, 2 * P, 4), "conf": softmaxed(1, 2 * P, 2), "landms": values(1, 2 * P, 8)}
    ),
    "lpd-yunet": Case(
        "lpd-yunet",
        {"loc": values(4385, 14), "conf": softmaxed(4385, 2), "iou": values(4385, 1)},
        shape=(1, 3, 240, 320),
    ),
    "scrfd": Case("scrfd", SCRFD, {"outputs": tuple(SCRFD)}),
    "scrfd without landmarks, one anchor": Case(
        "scrfd",
        {f"{k}{s}": values(1, CELLS[s], w) for k, w in (("b", 4), ("s", 1)) for s in (8, 16)},
        {"strides_px": (8, 16), "anchors": 1, "landmarks": 0, "outputs": ("s8", "s16", "b8", "b16")},
    ),
    "blazeface": Case(
        "blazeface",
        {"classificators": logits(1, 896, 1), "regressors": values(1, 896, 16)},
        shape=(1, 3, 128, 128),
    ),
    "blazeface back": Case(
        "blazeface",
        {"classificators": logits(1, 896, 1), "regressors": values(1, 896, 16)},
        {"layer_strides_px": (16, 32, 32, 32)},
        shape=(1, 3, 256, 256),
    ),
    "yolov8": Case("yolov8", {"o": rows(P, 7).transpose(0, 2, 1).copy()}, {"strides_px": (8, 16, 32)}, classes=3),
    "yolov8 transposed": Case("yolov8", {"o": rows(P, 7)}, {"layout": "npc", "strides_px": (8, 16, 32)}, 3, 3),
    "yolov8 raw": Case("yolov8", heads(64 + 3, 8, 16, 32), {"form": "raw", "activated": False}, classes=3),
    "yolov8 raw, apart": Case("yolov8", SPLIT, {"form": "raw_split"}, classes=7),
    "yolov8-face": Case("yolov8-face", {"o": rows(P, 20).transpose(0, 2, 1).copy()}, {"landmark_values": 3}, 1),
    "yolov8-face raw": Case("yolov8-face", heads(64 + 11, 8, 16, 32), {"form": "raw", "landmark_values": 2}, 1),
    "yolox": Case("yolox", {"o": rows(P, 8, decoded=False)}, {"form": "raw", "activated": True}, 3, 3),
    "yolox decoded": Case("yolox", {"o": rows(P, 8)}, {"form": "decoded", "activated": True}, 3, 3),
    "yolov5": Case("yolov5", {"o": rows(3 * P, 8)}, {"form": "decoded"}, classes=3),
    "yolov5 raw": Case("yolov5", heads(24, 8, 16, 32), {"form": "raw", "layout": "nchw"}, 3, 3, ask="yolov5"),
    "yolov7": Case("yolov7", heads(24, 8, 16, 32), {"form": "raw"}, classes=3, ask="yolov7"),
    "yolov3": Case("yolov3", heads(24, 8, 16, 32), {"form": "raw"}, classes=3, ask="yolov3"),
    "yolov3, two heads": Case(
        "yolov3",
        heads(24, 16, 32),
        {"strides_px": (16, 32)},
        classes=3,
        ask="yolov3",
        give={"anchors_px": ((1, 2), (3, 4), (5, 6), (7, 8), (9, 9), (20, 20)), "masks": ((0, 1, 2), (3, 4, 5))},
    ),
    "yolov4": Case(
        "yolov4", {"boxes": SHARES[:, : 3 * P].reshape(1, -1, 1, 4), "confs": values(1, 3 * P, 4)},
        {"form": "split", "normalised": True, "box_format": "xyxy"}, classes=4,
    ),
    "yolov5-face": Case("yolov5-face", THREE, {"form": "raw", "layout": "nahwc"}, 1),
    "yolov5-face decoded": Case("yolov5-face", {"o": rows(3 * P, 16)}, {"form": "decoded"}, 1),
    "yolo-e2e": Case("yolo-e2e", {"output0": finished()}, {}, 2, None),
    "yolo-seg": Case(
        "yolo-seg",
        {"rows": rows(P, 4 + 3 + 32).transpose(0, 2, 1).copy(), "protos": PROTOTYPES},
        {"masks": 32},
        classes=3,
    ),
    "yolo-seg with anchors": Case("yolo-seg", {"r": rows(3 * P, 40), "p": PROTOTYPES}, {"form": "anchors"}, classes=3),
    "ssd": Case(
        "ssd", {"scores": softmaxed(1, 4420, 2), "boxes": SHARES}, {"background": "first"}, shape=(1, 3, 240, 320)
    ),
    "rt-detr": Case(
        "rt-detr", {"logits": logits(1, 300, 4), "pred_boxes": values(1, 300, 4)}, {}, 4, 4, (1, 3, 640, 640)
    ),
    "detr": Case("detr", {"logits": sure_of_none(1, 100, 5), "pred_boxes": values(1, 100, 4)}, {}, 4, 4),
    "torchvision-detection": Case(
        "torchvision-detection",
        {"boxes": CORNERS, "labels": np.array([1, 2]), "scores": values(2)},
        {}, 2, None, (3, "H", "W"),
    ),
    "tensorflow": Case(
        "torchvision-detection",
        {
            "num_detections": np.array([2], np.float32),
            "detection_boxes": values(1, 2, 4),
            "detection_classes": np.ones((1, 2), np.float32),
            "detection_scores": values(1, 2),
        },
        {"corner_format": "yxyx", "normalised": True},
        2, None,
    ),
    "faster-rcnn": Case(
        "faster-rcnn", {"6379": CORNERS, "6381": np.array([1, 2]), "6383": values(2)}, {}, 2, None, (3, "H", "W")
    ),
    "efficient-nms": Case(
        "efficient-nms",
        {
            "num": np.array([[2]], np.int32),
            "box": CORNERS[None],
            "score": values(1, 2),
            "class": np.array([[0, 1]], np.int32),
        },
        {"outputs": ("num", "box", "score", "class")}, 2, None,
    ),
    "segmentation": Case("segmentation", {"mask": values(1, 1, 64, 96)}),
    "segmentation, softmax, channels last": Case(
        "segmentation", {"mask": softmaxed(1, 32, 48, 3)}, {"layout": "nhwc", "background": "first"}, classes=2
    ),
    "segmentation, labels": Case(
        "segmentation", {"mask": np.zeros((1, 64, 96), np.int64)}, {"layout": "labels", "background": "first"}, 3, None
    ),
}  # fmt: skip
