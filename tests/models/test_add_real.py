"""Detectors as they are found in the world: each is added from its file, and then finds what is in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from trt_anon.config import AnonymizeConfig, DetectConfig
from trt_anon.errors import UsageError
from trt_anon.models.add import Wish, add_model
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.types import PIXEL_FORMATS, Frame

ASTRONAUT = ("faces/unlabelled/astronaut.png", [(179, 60, 271, 176)])
TWO_PEOPLE = ("faces/unlabelled/two_people.jpg", [(243, 40, 380, 222), (792, 62, 938, 256)])
PLATE = ("plates/carplate433/images/Cars116.jpg", [(149, 218, 267, 247)])
BUS = ("faces/unlabelled/bus.jpg", [(45, 398, 245, 907), (215, 400, 348, 855), (670, 380, 810, 880)])
PERSON = ("faces/unlabelled/astronaut.png", [(5, 5, 480, 505)])
"""Known by eye or by the labels that come with the pictures."""

FACE_ANCHORS = [[4, 6], [7, 10], [11, 15], [16, 24], [33, 25], [26, 41], [47, 60], [83, 97], [141, 149]]
COCO_ANCHORS = [[12, 18], [37, 49], [52, 132], [115, 74], [119, 199], [243, 238]]
DARKNET = {"anchors_px": COCO_ANCHORS, "masks": [[3, 4, 5], [0, 1, 2]], "strides_px": [32, 16]}
STRETCHED = {"fit": "stretch"}
ONE_FACE = {"classes": ("face",)}
PEOPLE = {"redact_as": {"0": "face"}}
SINET = {
    "channels": "bgr",
    "mean": [102.890434, 111.25247, 126.91212],
    "scale": [1 / (255 * s) for s in (62.93292, 62.82138, 66.355705)],
}


class Case(NamedTuple):
    family: str
    picture: tuple[str, list[tuple[int, ...]]]
    wish: Mapping[str, object] = MappingProxyType({})
    iou: float = 0.5
    kind: str = "face"
    batch: str = "free"


CASES = {
    "blazeface_shield": Case("blazeface", TWO_PEOPLE),
    "dk_MobileNetV2-YOLOv3-Nano-coco": Case(
        "yolov3",
        BUS,
        PEOPLE | {"family": "yolov3", "options": DARKNET | {"scale_x_y": [1.1, 1.05]}, "input": STRETCHED},
    ),
    "dk_yolo-fastest-1.1": Case("yolov3", BUS, PEOPLE | {"family": "yolov3", "options": DARKNET, "input": STRETCHED}),
    "dk_yoloface-500k-v2": Case(
        "yolov3",
        ASTRONAUT,
        ONE_FACE | {"family": "yolov3", "options": {"anchors_px": FACE_ANCHORS}, "input": STRETCHED},
    ),
    "lpd_yunet_2023mar": Case("lpd-yunet", PLATE, kind="license_plate"),
    "lpd_yunet_2023mar_int8": Case("lpd-yunet", PLATE, kind="license_plate"),
    "prismanet_unet_seg": Case("segmentation", PERSON, ONE_FACE),
    "retinaface_mnet025": Case("retinaface", ASTRONAUT),
    "scrfd_500m_bnkps_official": Case("scrfd", TWO_PEOPLE),
    "sinet_softmax_seg": Case("segmentation", PERSON, ONE_FACE | {"input": SINET}),
    "ultralight_version-RFB-320": Case("ssd", TWO_PEOPLE, ONE_FACE),
    "ultralight_version-RFB-640": Case("ssd", TWO_PEOPLE, ONE_FACE),
    "yolo11n_int8": Case("yolov8", BUS, {"redact_as": {"person": "face"}}, batch="one"),
    "yolov5n-0.5-face": Case("yolov5-face", ASTRONAUT, ONE_FACE),
    "yolov8-lite-t-face": Case("yolov8-face", ASTRONAUT),
    "yunet_n_dynamic": Case("yunet", ASTRONAUT),
    "yunet_s_dynamic": Case("yunet", ASTRONAUT),
}


@pytest.mark.dataset
def test_every_file_has_a_case(data_dir):
    assert {path.stem for path in (data_dir / "models").glob("*.onnx")} == set(CASES)


@pytest.mark.dataset
@pytest.mark.parametrize("model", CASES)
def test_it_is_added_and_finds_what_is_there(data_dir, tmp_path, monkeypatch, model):
    for name in ("MODELS", "RECIPES", "CACHE"):
        monkeypatch.setenv(f"TRT_ANON_{name}", str(tmp_path / name.lower()))
    case = CASES[model]
    file = data_dir / "models" / f"{model}.onnx"
    added = add_model(
        file, Wish(name="it", threshold=0.5 if case.family == "segmentation" else None, **case.wish), Registry()
    )
    assert added.recipe.family == case.family
    assert added.recipe.batch == case.batch

    picture, known = case.picture
    pixels = np.array(Image.open(data_dir / "data" / picture).convert("RGB"))
    config = AnonymizeConfig(detect=DetectConfig(classes=(case.kind,), detectors=("it",)))
    detector = FrameDetector.load(config, Registry())
    try:
        frame = Frame((pixels,), PIXEL_FORMATS["rgb24"], pixels.shape[1], pixels.shape[0])
        found = detector.submit(frame).result()
    finally:
        detector.close()
    for box in np.array(known, float):
        assert best_iou(found.boxes_xyxy_px, box) >= case.iou, f"nothing at {box}"
    if case.family != "segmentation":  # whose maps have crumbs
        assert len(found) <= 3 * len(known)


def best_iou(boxes: np.ndarray, box: np.ndarray) -> float:
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - shared
    return float((shared / union).max(initial=0))


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("dk_yolo-fastest-1.1", r"yolov3 of 80 classes or .*yolov7 of 80 classes.*--family"),
        ("yolov5n-0.5-face", r"yolov5-face of 1 class; say which"),
        ("ultralight_version-RFB-320", r"none of its classes is redacted"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(data_dir, tmp_path, monkeypatch, model, message):
    for name in ("MODELS", "RECIPES", "CACHE"):
        monkeypatch.setenv(f"TRT_ANON_{name}", str(tmp_path / name.lower()))
    with pytest.raises(UsageError, match=message):
        add_model(Path(data_dir / "models" / f"{model}.onnx"), Wish(), Registry())
