"""What tests of families share: a real detector run on a real picture, and candidates held against a loop's."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from trt_anon.detect.base import Candidates, Family
from trt_anon.postprocess.nms import Pass, merge
from trt_anon.preprocess.letterbox import plan_letterbox
from trt_anon.preprocess.letterbox_cpu import letterbox_cpu
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation


@pytest.fixture(scope="session")
def find(data_dir: Path) -> Callable[[Family, str, str, float], Detections]:
    """Runs `models/<model>.onnx` by ONNX Runtime on a picture, decodes and suppresses what it gives."""

    def run(family: Family, model: str, picture: str, threshold: float) -> Detections:
        pixels = np.array(Image.open(data_dir / "data" / "faces" / "unlabelled" / picture).convert("RGB"))
        height, width = pixels.shape[:2]
        spec = family.input_spec
        frame = Frame((pixels,), PIXEL_FORMATS["rgb24"], width, height)
        plan = plan_letterbox(width, height, Orientation.NORMAL, Fraction(1), None, spec)
        codes = letterbox_cpu(frame, plan, spec)
        tensor = ((codes - np.array(spec.mean)) * spec.scale).astype(np.float32).transpose(2, 0, 1)[None]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(data_dir / "models" / f"{model}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor}), strict=True))
        (found,) = family.decode(outputs, plan.target_hw_px, threshold)
        marks = None if found.landmarks is None else plan.landmarks_to_upright_px(found.landmarks)
        outlines = found.contours and tuple(plan.landmarks_to_upright_px(c) for c in found.contours)
        boxes = plan.boxes_to_upright_px(found.boxes_xyxy)
        one = Pass(boxes, found.scores, found.class_ids, marks, outlines, found.distinct)
        return merge([one], [str(i) for i in range(80)], 0.45)

    return run


@pytest.fixture(scope="session")
def assert_covers() -> Callable[..., None]:
    """Each box known by eye is found by a detection of its class, at the IoU given."""

    def check(found: Detections, known_px: list[tuple[float, ...]], class_id: int, iou: float) -> None:
        boxes = found.boxes_xyxy_px[found.class_ids == class_id]
        for box in np.array(known_px, float):
            sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
            shared = np.prod(np.clip(sides, 0, None), axis=1)
            union = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2]) - shared
            assert (shared / union).max(initial=0) >= iou, f"nothing at {box}"

    return check


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Candidates, list[Any]], None]:
    """Candidates are those of a loop, (score, class, box, points or None), in whatever order."""

    def check(found: Candidates, wanted: list[Any], at_least: int = 6) -> None:
        assert len(wanted) >= at_least, "the case proves nothing"
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
        assert found.class_ids.dtype == np.int32
        columns = [found.scores[:, None], found.class_ids[:, None], found.boxes_xyxy]
        if wanted[0][3] is None:
            assert found.landmarks is None
        else:
            assert found.landmarks is not None
            assert found.landmarks.dtype == np.float32
            columns.append(found.landmarks.reshape(len(found.scores), -1))
        have = np.concatenate(columns, axis=1).astype(float)
        want = np.array([[s, c, *box, *np.ravel([] if points is None else points)] for s, c, box, points in wanted])
        assert have.shape == want.shape
        # Scores are continuous and random, so that sorting by score pairs the rows.
        have, want = have[have[:, 0].argsort(kind="stable")], want[want[:, 0].argsort(kind="stable")]
        np.testing.assert_allclose(have, want, rtol=2e-4, atol=2e-3)

    return check
