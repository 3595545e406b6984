"""A mask's way through the pipeline: from a segmentation map to pixels, in turned pictures too."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from trt_anon.config import RedactConfig, Scale
from trt_anon.detect.families import get_family
from trt_anon.geometry import turn_upright
from trt_anon.pipeline.detection import Detector, FrameDetector
from trt_anon.pipeline.redaction import stored_regions
from trt_anon.redact.frame import Redactor
from trt_anon.runtime.base import TensorSpec
from trt_anon.types import PIXEL_FORMATS, Frame, Orientation


class Brightness:
    """A runner whose map is its input: red and green are the probabilities of two classes."""

    inputs = (TensorSpec("image", np.dtype(np.uint8), (None, None, None, 3)),)
    outputs = (TensorSpec("map", np.dtype(np.float32), (None, 2, None, None)),)
    concurrency = 1

    def submit(self, feeds):
        tensor = feeds["image"][..., :2].transpose(0, 3, 1, 2) / np.float32(255)
        return SimpleNamespace(result=lambda: {"map": tensor})

    def run(self, feeds):
        return self.submit(feeds).result()

    def close(self):
        pass


def letter_l() -> np.ndarray:
    """Upright, 64 wide and 96 high: a red L, inside the corner that it leaves a small red square, and green below."""
    picture = np.full((96, 64, 3), 20, np.uint8)
    picture[8:72, 8:20, 0] = 250
    picture[60:72, 8:56, 0] = 250
    picture[16:28, 40:52, 0] = 240
    picture[80:90, 10:50, 1] = 250
    return picture


@pytest.mark.parametrize("orientation", Orientation)
def test_the_mask_is_redacted_and_what_it_encloses_by_its_box_is_not(orientation):
    upright = letter_l()
    inverse = {6: Orientation(8), 8: Orientation(6)}.get(orientation, orientation)
    stored = np.ascontiguousarray(turn_upright(upright, inverse))
    frame = Frame((stored,), PIXEL_FORMATS["rgb24"], stored.shape[1], stored.shape[0], orientation=orientation)
    family = get_family("segmentation", {"classes": 2})
    detector = FrameDetector([Detector(family, Brightness(), [Scale()], [0, None], 0.5)], ["face"], 0.1)
    found = detector.submit(frame).result()
    assert len(found) == 2  # the square lies in the L's box, but is another part; green is not wanted
    assert found.class_ids.tolist() == [0, 0]
    assert [len(c) for c in found.contours_px] == [6, 4]
    assert found.boxes_xyxy_px.tolist() == [[8, 8, 56, 72], [40, 16, 52, 28]]

    regions = stored_regions(frame, found, RedactConfig(grow=1.0))
    Redactor(RedactConfig(method="solid")).redact(frame, regions)
    result = turn_upright(frame.planes[0], orientation)
    black = ~result.any(axis=-1)
    assert black[upright[..., 0] > 100].all()
    assert not black[30:58, 24:].any()  # the rest of the L's box
    np.testing.assert_array_equal(result[75:], upright[75:])


def test_two_scales_give_each_mask_once():
    upright = letter_l()
    frame = Frame((upright,), PIXEL_FORMATS["rgb24"], 64, 96)
    family = get_family("segmentation", {"classes": 2})
    scales = [Scale(), Scale(min_long_side_px=192, max_long_side_px=192)]
    detector = FrameDetector([Detector(family, Brightness(), scales, [0, None], 0.5)], ["face"], 0.3)
    found = detector.submit(frame).result()
    assert len(found) == len(found.contours_px) == 2


def test_detections_without_masks_have_none():
    frame = Frame((np.zeros((64, 64, 3), np.uint8),), PIXEL_FORMATS["rgb24"], 64, 64)
    family = get_family("segmentation", {"classes": 2})
    found = (
        FrameDetector([Detector(family, Brightness(), [Scale()], [0, 0], 0.5)], ["face"], 0.3).submit(frame).result()
    )
    assert len(found) == 0
    assert stored_regions(frame, found, RedactConfig()) == []
    plain = dataclasses.replace(found, contours_px=None)
    assert stored_regions(frame, plain, RedactConfig()) == []


def test_outlines_come_back_from_another_scale():
    upright = letter_l()
    frame = Frame((upright.copy(),), PIXEL_FORMATS["rgb24"], 64, 96)
    family = get_family("segmentation", {"classes": 2})
    scale = Scale(min_long_side_px=192, max_long_side_px=192)
    detector = FrameDetector([Detector(family, Brightness(), [scale], [0, None], 0.4)], ["face"], 0.3)
    found = detector.submit(frame).result()
    for box, outline in zip(found.boxes_xyxy_px, found.contours_px, strict=True):
        np.testing.assert_array_equal(outline.min(axis=0), box[:2])
        np.testing.assert_array_equal(outline.max(axis=0), box[2:])
    Redactor(RedactConfig(method="solid")).redact(frame, stored_regions(frame, found, RedactConfig(grow=1.0)))
    black = ~frame.planes[0].any(axis=-1)
    assert black[upright[..., 0] > 100].all()
    assert not black[30:58, 24:].any()
