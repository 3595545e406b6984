"""From real networks' outputs to detections: decoding, merging and suppression by the kernels, against NumPy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions
from trt_anon.detect.base import Family
from trt_anon.detect.decode_cuda import DecodeCuda
from trt_anon.detect.decode_cuda import check_status as check_decode_status
from trt_anon.detect.families import get_family
from trt_anon.postprocess.merge_cuda import CandidateList, MergeCuda
from trt_anon.postprocess.nms import Pass, merge
from trt_anon.postprocess.nms_cuda import NmsCuda, check_status
from trt_anon.preprocess.letterbox import LetterboxPlan, plan_letterbox
from trt_anon.preprocess.letterbox_cpu import letterbox_cpu
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation

pytestmark = pytest.mark.dataset
DARKNET = {
    "anchors_px": [[4, 6], [7, 10], [11, 15], [16, 24], [33, 25], [26, 41], [47, 60], [83, 97], [141, 149]],
    "strides_px": [32, 16, 8],
    "masks": [[6, 7, 8], [3, 4, 5], [0, 1, 2]],
    "classes": 1,
}
NANO = {
    "anchors_px": [[12, 18], [37, 49], [52, 132], [115, 74], [119, 199], [243, 238]],
    "strides_px": [32, 16],
    "masks": [[3, 4, 5], [0, 1, 2]],
    "scale_x_y": [1.1, 1.05],
}
DETECTORS: dict[str, tuple[str, str, dict[str, object], dict[str, object]]] = {
    "yunet-s": ("yunet_s_dynamic", "yunet", {}, {"size_px": (640, 640)}),
    "yunet-n": ("yunet_n_dynamic", "yunet", {}, {"size_px": (960, 544)}),
    "retinaface": ("retinaface_mnet025", "retinaface", {}, {"size_px": (640, 640)}),
    "scrfd": ("scrfd_500m_bnkps_official", "scrfd", {}, {"size_px": (640, 640)}),
    "yolov5-face": ("yolov5n-0.5-face", "yolov5-face", {}, {"size_px": (640, 640)}),
    "yolov8-face": ("yolov8-lite-t-face", "yolov8-face", {}, {"size_px": (640, 640)}),
    "yoloface": ("dk_yoloface-500k-v2", "yolov3", DARKNET, {"size_px": (352, 288), "fit": "stretch"}),
    "yolov3-nano": ("dk_MobileNetV2-YOLOv3-Nano-coco", "yolov3", NANO, {"size_px": (320, 320), "fit": "stretch"}),
    "ultralight": ("ultralight_version-RFB-320", "ssd", {}, {}),
    "blazeface": ("blazeface_shield", "blazeface", {}, {}),
    "lpd-yunet": ("lpd_yunet_2023mar", "lpd-yunet", {}, {}),
    "yolo11": ("yolo11n_int8", "yolov8", {"outputs": ["output0"]}, {"size_px": (320, 320)}),
}
Run = tuple[Family, LetterboxPlan, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def run(data_dir: Path) -> Any:
    """What a detector's network gives for a picture; each is run once."""
    done: dict[tuple[str, str], Run] = {}

    def infer(name: str, picture: str) -> Run:
        if (name, picture) not in done:
            model, family_name, options, changes = DETECTORS[name]
            family = get_family(family_name, options, changes)
            pixels = np.array(Image.open(data_dir / "data/faces/unlabelled" / picture).convert("RGB"))
            frame = Frame((pixels,), PIXEL_FORMATS["rgb24"], pixels.shape[1], pixels.shape[0])
            spec = family.input_spec
            plan = plan_letterbox(frame.width_px, frame.height_px, Orientation.NORMAL, Fraction(1), None, spec)
            codes = letterbox_cpu(frame, plan, spec)
            tensor = ((codes - np.array(spec.mean)) * spec.scale).astype(np.float32).transpose(2, 0, 1)[None]
            options_of_session = onnxruntime.SessionOptions()
            options_of_session.log_severity_level = 3
            session = onnxruntime.InferenceSession(
                str(data_dir / "models" / f"{model}.onnx"), options_of_session, providers=["CPUExecutionProvider"]
            )
            names = [output.name for output in session.get_outputs()]
            outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: tensor}), strict=True))
            done[name, picture] = family, plan, outputs
        return done[name, picture]

    return infer


def by_numpy(runs: Sequence[Run], threshold: float, iou: float, class_map: np.ndarray) -> Detections:
    passes = []
    for family, plan, outputs in runs:
        (found,) = family.decode(outputs, plan.target_hw_px, threshold)
        ids = class_map[found.class_ids]
        on = ids >= 0
        marks = None if found.landmarks is None else plan.landmarks_to_upright_px(found.landmarks[on])
        boxes = plan.boxes_to_upright_px(found.boxes_xyxy[on])
        passes.append(Pass(boxes, found.scores[on], ids[on], marks, distinct=found.distinct))
    return merge(passes, ("object", "other"), iou)


def by_kernels(
    xp: Any, runs: Sequence[Run], threshold: float, iou: float, class_map: np.ndarray, host: HostOptions | None
) -> tuple[Detections, Mapping[str, int]]:
    accounting = Accounting()
    lists, statuses = [], []
    capacity, points = 1024, 0
    for family, plan, outputs in runs:
        decode = DecodeCuda(family, host=host, accounting=accounting)
        there = {name: xp.asarray(np.ascontiguousarray(array)) for name, array in outputs.items()}
        scheme = decode.scheme(there, plan.target_hw_px)
        points = max(points, scheme.marks)
        one = CandidateList(
            xp.empty((1, capacity, 4), np.float32),
            xp.empty((1, capacity), np.float32),
            xp.empty((1, capacity), np.int32),
            xp.empty(1, np.int32),
            xp.empty((1, capacity, scheme.marks, 2), np.float32) if scheme.marks else None,
            distinct=scheme.distinct,
        )
        status = xp.empty(1, np.int32)
        decode.batch(
            there,
            plan.target_hw_px,
            threshold,
            boxes_xyxy=one.boxes_xyxy,
            scores=one.scores,
            class_ids=one.class_ids,
            counts=one.counts,
            status=status,
            landmarks=one.landmarks,
            factors_xy=xp.asarray(np.array([plan.factors_xy])),
            class_map=xp.asarray(class_map[: scheme.classes]),
            workspace=xp.zeros(decode.workspace_words(there, plan.target_hw_px), np.uint64),
        )
        lists.append(one)
        statuses.append((family.name, status))
    total, kernel = capacity * len(lists), MergeCuda(host=host, accounting=accounting)
    merged = CandidateList(
        xp.empty((1, total, 4), np.float32),
        xp.empty((1, total), np.float32),
        xp.empty((1, total), np.int32),
        xp.empty(1, np.int32),
        xp.empty((1, total, points, 2), np.float32) if points else None,
    )
    groups, status = xp.empty((1, total), np.int32), xp.empty(1, np.int32)
    kernel.concatenate(
        lists,
        boxes_xyxy=merged.boxes_xyxy,
        scores=merged.scores,
        class_ids=merged.class_ids,
        landmarks=merged.landmarks,
        groups=groups,
        counts=merged.counts,
        status=status,
    )
    kept, kept_counts = xp.empty((1, total), np.int32), xp.empty(1, np.int32)
    arrays = merged.boxes_xyxy, merged.scores, merged.class_ids, merged.counts
    NmsCuda(host=host, accounting=accounting).batch(
        *arrays, iou, True, groups, kept=kept, kept_counts=kept_counts, status=status
    )
    out = CandidateList(
        xp.empty((1, total, 4), np.float32),
        xp.empty((1, total), np.float32),
        xp.empty((1, total), np.int32),
        kept_counts,
        None if merged.landmarks is None else xp.empty(merged.landmarks.shape, np.float32),
    )
    kernel.take(merged, kept, out)
    fetch = (lambda array: array) if xp is np else (lambda array: array.get())
    for name, one_status in statuses:
        check_decode_status(name, fetch(one_status))
        assert not fetch(one_status).any()  # nothing was dropped
    check_status(fetch(status))
    n = int(fetch(kept_counts)[0])
    found = Detections(
        fetch(out.boxes_xyxy)[0, :n],
        fetch(out.scores)[0, :n],
        fetch(out.class_ids)[0, :n],
        ("object", "other"),
        None if out.landmarks is None else fetch(out.landmarks)[0, :n],
    )
    return found, {name: traffic.launches for name, traffic in accounting.by_kernel.items()}


def assert_same(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted)
    assert np.array_equal(found.class_ids, wanted.class_ids)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy_px, wanted.boxes_xyxy_px, rtol=1e-4, atol=1e-2)
    assert (found.landmarks_px is None) == (wanted.landmarks_px is None)
    if found.landmarks_px is not None:
        np.testing.assert_allclose(found.landmarks_px, wanted.landmarks_px, rtol=1e-4, atol=1e-2)


EVERY_CLASS = np.zeros(80, np.int32)
PEOPLE_AND_CARS = np.array([0, -1, 1, *[-1] * 77], np.int32)


@pytest.mark.parametrize("picture", ["bald_guys.jpg", "bus.jpg", "dlib_cars1.jpg"])
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector(run, name, picture):
    one = run(name, picture)
    for threshold, class_map in ((0.3, EVERY_CLASS), (0.1, PEOPLE_AND_CARS)):
        found, launches = by_kernels(np, [one], threshold, 0.4, class_map, None)
        assert_same(found, by_numpy([one], threshold, 0.4, class_map))
        assert launches == {"decode": 1, "concatenate": 1, "nms": 1, "take": 1}


def test_the_detectors_see_something(run):
    for name, (picture, least) in {"yunet-s": ("bald_guys.jpg", 15), "yolo11": ("bus.jpg", 3)}.items():
        assert len(by_numpy([run(name, picture)], 0.5, 0.4, EVERY_CLASS)) >= least


def test_several_detectors_and_scales_of_one_picture(run):
    runs = [run(name, "bald_guys.jpg") for name in ("yunet-s", "yunet-n", "ultralight", "yolov8-face")]
    wanted = by_numpy(runs, 0.4, 0.4, EVERY_CLASS)
    assert len(wanted) >= 20
    for host in (None, HostOptions(seed=5, poison=255)):
        found, launches = by_kernels(np, runs, 0.4, 0.4, EVERY_CLASS, host)
        assert_same(found, wanted)
        assert launches == {"decode": 4, "concatenate": 1, "nms": 1, "take": 1}


@pytest.mark.gpu
@pytest.mark.parametrize("name", DETECTORS)
def test_on_a_gpu(cupy, run, name):
    one = run(name, "bald_guys.jpg")
    found, _ = by_kernels(cupy, [one], 0.3, 0.4, EVERY_CLASS, None)
    assert_same(found, by_numpy([one], 0.3, 0.4, EVERY_CLASS))
