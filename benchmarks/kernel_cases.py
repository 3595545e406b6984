"""What `kernels.py` times: each kernel on a batch of plausible work, with a check against its NumPy reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from trt_anon.config import RedactConfig
from trt_anon.cuda.device import Accounting
from trt_anon.detect.base import Family
from trt_anon.detect.decode_cuda import DecodeCuda
from trt_anon.detect.decode_cuda import Status as DecodeStatus
from trt_anon.detect.yolov8 import YoloV8
from trt_anon.detect.yunet import STRIDES, YuNet
from trt_anon.postprocess.merge_cuda import CandidateList, MergeCuda
from trt_anon.postprocess.nms import Pass, merge, nms
from trt_anon.postprocess.nms_cuda import NmsCuda
from trt_anon.preprocess.letterbox import letterbox, plan_letterbox
from trt_anon.preprocess.letterbox_cuda import TOLERANCE_CODES, LetterboxCuda
from trt_anon.redact.frame import Redactor
from trt_anon.redact.frame_cuda import TOLERANCE_CODES as REDACT_TOLERANCE_CODES
from trt_anon.redact.frame_cuda import RedactCuda
from trt_anon.types import PIXEL_FORMATS, Frame, InputSpec, Orientation, Region

CAPACITY = 1024  # candidates per image


@dataclass(frozen=True)
class Sizes:
    """Of the pictures and networks; `faces` in each picture."""

    width_px: int = 1920
    height_px: int = 1080
    input_px: int = 640
    classes: int = 80
    faces: int = 20
    nms_images: int = 64
    nms_boxes: int = 1024

    @classmethod
    def tiny(cls) -> Sizes:
        """What the host build does in seconds."""
        return cls(96, 64, 64, 5, 3, 4, 64)


@dataclass
class Case:
    """Something to time. check: raises where the result is not the reference's. kept: boxes that stay, of NMS."""

    name: str
    images: int
    accounting: Accounting
    work: Callable[[], None]
    check: Callable[[], None]
    peer_arrays: tuple[Any, ...] = ()
    kept: Callable[[], int] = int


def all_cases(xp: Any, sizes: Sizes, images: int) -> Iterator[Case]:
    """Every kernel on a batch; each case's arrays are freed before the next are made."""
    for name, layout in (("nv12", "nchw"), ("rgb24", "nchw"), ("p010le", "nhwc")):
        yield preprocess_case(xp, sizes, images, name, layout)
    yield decode_case(xp, sizes, images, "decode yunet", YuNet())
    yield decode_case(xp, sizes, images, "decode yolov8", YoloV8(classes=sizes.classes))
    yield nms_case(xp, images, min(CAPACITY, sizes.nms_boxes), sizes.faces)
    yield merge_case(xp, sizes, images)
    for method in ("gaussian", "pixelate", "solid"):
        yield redact_case(xp, sizes, images, method)


def fetched(array: Any) -> np.ndarray:
    """The array in host memory."""
    return array if isinstance(array, np.ndarray) else array.get()


def noise(name: str, width_px: int, height_px: int, seed: int) -> Frame:
    """A frame of smoothly changing noise."""
    form, rng, planes = PIXEL_FORMATS[name], np.random.default_rng(seed), []
    for shape in form.plane_shapes(width_px, height_px):
        codes = rng.integers(16 << (form.bit_depth - 8), 235 << (form.bit_depth - 8), shape)
        planes.append((codes << form.sample_shift).astype(form.dtype))
    return Frame(tuple(planes), form, width_px, height_px)


def moved(xp: Any, frame: Frame) -> Frame:
    """A copy of a frame on the device."""
    return dataclasses.replace(frame, planes=tuple(xp.array(plane) for plane in frame.planes))


def expect(condition: bool, what: str) -> None:
    """Nothing is timed that is wrong."""
    if not condition:
        raise RuntimeError(f"{what} disagrees with its reference: nothing is timed")


def preprocess_case(xp: Any, sizes: Sizes, images: int, name: str, layout: Any) -> Case:
    spec = InputSpec(channels="bgr", stride_px=32)
    original = noise(name, sizes.width_px, sizes.height_px, 0)
    factor = sizes.input_px / sizes.width_px
    plan = plan_letterbox(sizes.width_px, sizes.height_px, Orientation.NORMAL, Fraction(1), factor, spec)
    frames = [moved(xp, original) for _ in range(images)]
    shape = (3, *plan.target_hw_px) if layout == "nchw" else (*plan.target_hw_px, 3)
    outs = [xp.empty(shape, np.float16) for _ in frames]
    accounting = Accounting()
    kernel = LetterboxCuda(accounting=accounting)

    def work() -> None:
        kernel.batch(frames, [plan] * images, spec, outs, layout=layout)

    def check() -> None:
        work()
        wanted = letterbox(original, plan, spec).astype(int)
        for out in (outs[0], outs[-1]):
            found = fetched(out).astype(int)
            found = found.transpose(1, 2, 0) if layout == "nchw" else found
            expect(abs(found - wanted).max() <= TOLERANCE_CODES, f"preprocess {name}")

    return Case(f"preprocess {name}", images, accounting, work, check)


def candidate_list(xp: Any, images: int, capacity: int, marks: int = 0, distinct: bool = False) -> CandidateList:
    """Empty arrays."""
    return CandidateList(
        xp.zeros((images, capacity, 4), np.float32),
        xp.zeros((images, capacity), np.float32),
        xp.zeros((images, capacity), np.int32),
        xp.zeros(images, np.int32),
        xp.zeros((images, capacity, marks, 2), np.float32) if marks else None,
        distinct=distinct,
    )


def network_outputs(sizes: Sizes, family: Family, images: int) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """What a network gives that sees `faces` objects in each image, ten places for each."""
    rng = np.random.default_rng(1)
    side = -(-sizes.input_px // 32) * 32
    hw = (-(-side * 9 // 16 // 32) * 32, side)
    counts = {stride: (hw[0] // stride) * (hw[1] // stride) for stride in STRIDES}

    def scores(places: int, classes: int, found: int) -> np.ndarray:
        values = rng.uniform(0, 0.2, (images, places, classes)).astype(np.float32)
        for image in range(images):
            values[image, rng.integers(0, places, found), rng.integers(0, classes, found)] = 0.9
        return values

    if isinstance(family, YuNet):
        outputs: dict[str, np.ndarray] = {}
        for stride, places in counts.items():
            outputs[f"cls_{stride}"] = scores(places, 1, sizes.faces * 10 // 3)
            outputs[f"obj_{stride}"] = np.full((images, places, 1), 0.9, np.float32)
            outputs[f"bbox_{stride}"] = rng.normal(0, 0.5, (images, places, 4)).astype(np.float32)
            outputs[f"kps_{stride}"] = rng.normal(0, 0.5, (images, places, 10)).astype(np.float32)
        return outputs, hw
    places = sum(counts.values())
    boxes = rng.uniform(1, side, (images, places, 4)).astype(np.float32)
    rows = np.concatenate((boxes, scores(places, sizes.classes, sizes.faces * 10)), axis=-1)
    return {"output0": np.ascontiguousarray(rows.transpose(0, 2, 1))}, hw


def decode_case(xp: Any, sizes: Sizes, images: int, name: str, family: Family) -> Case:
    originals, hw = network_outputs(sizes, family, images)
    outputs = {key: xp.asarray(array) for key, array in originals.items()}
    accounting = Accounting()
    kernel = DecodeCuda(family, accounting=accounting)
    scheme = kernel.scheme(outputs, hw)
    out = candidate_list(xp, images, CAPACITY, scheme.marks)
    status, workspace = xp.zeros(images, np.int32), xp.zeros(kernel.workspace_words(outputs, hw), np.uint64)
    factors = xp.full((images, 2), sizes.input_px / sizes.width_px, np.float64)

    def work() -> None:
        kernel.batch(
            outputs,
            hw,
            0.5,
            boxes_xyxy=out.boxes_xyxy,
            scores=out.scores,
            class_ids=out.class_ids,
            counts=out.counts,
            status=status,
            landmarks=out.landmarks,
            factors_xy=factors,
            workspace=workspace,
        )

    def check() -> None:
        work()
        counts, boxes = fetched(out.counts), fetched(out.boxes_xyxy)
        expect(not (fetched(status) & ~int(DecodeStatus.CANDIDATES_DROPPED)).any(), name)
        for image in (0, images - 1):
            (wanted,) = family.decode({key: array[image : image + 1] for key, array in originals.items()}, hw, 0.5)
            expect(counts[image] == len(wanted.scores) > 0, name)
            upright = wanted.boxes_xyxy[:CAPACITY] * (sizes.width_px / sizes.input_px)
            expect(np.allclose(boxes[image, : len(upright)], upright, rtol=1e-4, atol=1e-2), name)

    return Case(name, images, accounting, work, check)


def clustered(rng: np.random.Generator, images: int, boxes: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (images, boxes, 4) around that many objects, as a detector gives them, and their scores."""
    centre = rng.uniform(0, 1900, (images, objects, 2))
    size = rng.uniform(20, 200, (images, objects, 2))
    chosen = rng.integers(0, objects, (images, boxes, 1))
    middle = np.take_along_axis(centre, chosen, 1) + rng.normal(0, 3, (images, boxes, 2))
    half = np.take_along_axis(size, chosen, 1) * rng.uniform(0.8, 1.25, (images, boxes, 2)) / 2
    found = np.concatenate((middle - half, middle + half), axis=-1).astype(np.float32)
    return found, rng.permuted(np.linspace(0.5, 1, images * boxes, dtype=np.float32)).reshape(images, boxes)


def nms_case(xp: Any, images: int, boxes: int, objects: int = 100, iou_threshold: float = 0.4) -> Case:
    rng = np.random.default_rng(2)
    corners, scores = clustered(rng, images, boxes, objects)
    classes = rng.integers(0, 2, (images, boxes), dtype=np.int32)
    arrays = tuple(xp.asarray(array) for array in (corners, scores, classes))
    counts = xp.full(images, boxes, np.int32)
    kept = xp.zeros((images, boxes), np.int32)
    kept_counts, status = xp.zeros(images, np.int32), xp.zeros(images, np.int32)
    accounting = Accounting()
    kernel = NmsCuda(accounting=accounting)

    def work() -> None:
        kernel.batch(*arrays, counts, iou_threshold, kept=kept, kept_counts=kept_counts, status=status)

    def check() -> None:
        work()
        for image in (0, images - 1):
            wanted = nms(corners[image], scores[image], classes[image], iou_threshold)
            expect(np.array_equal(fetched(kept)[image, : fetched(kept_counts)[image]], wanted), "nms")

    return Case("nms", images, accounting, work, check, arrays, lambda: int(fetched(kept_counts).sum()))


def merge_case(xp: Any, sizes: Sizes, images: int) -> Case:
    """Two detectors at two scales each."""
    rng = np.random.default_rng(3)
    each = min(CAPACITY, sizes.nms_boxes) // 4
    originals = [clustered(rng, images, each, sizes.faces) for _ in range(4)]
    classes = np.zeros((images, each), np.int32)
    counts = np.full(images, each, np.int32)
    lists = [CandidateList(*(xp.asarray(a) for a in (boxes, scores, classes, counts))) for boxes, scores in originals]
    merged, out = candidate_list(xp, images, 4 * each), candidate_list(xp, images, 4 * each)
    groups, kept = xp.zeros((images, 4 * each), np.int32), xp.zeros((images, 4 * each), np.int32)
    status, nms_status = xp.zeros(images, np.int32), xp.zeros(images, np.int32)
    accounting = Accounting()
    kernel, suppress = MergeCuda(accounting=accounting), NmsCuda(accounting=accounting)

    def work() -> None:
        kernel.concatenate(
            lists,
            boxes_xyxy=merged.boxes_xyxy,
            scores=merged.scores,
            class_ids=merged.class_ids,
            counts=merged.counts,
            groups=groups,
            status=status,
        )
        arrays = merged.boxes_xyxy, merged.scores, merged.class_ids, merged.counts
        suppress.batch(*arrays, 0.4, True, groups, kept=kept, kept_counts=out.counts, status=nms_status)
        kernel.take(merged, kept, out)

    def check() -> None:
        work()
        for image in (0, images - 1):
            passes = [Pass(boxes[image], scores[image], classes[image]) for boxes, scores in originals]
            wanted = merge(passes, ("face",), 0.4)
            expect(int(fetched(out.counts)[image]) == len(wanted), "merge")
            expect(np.array_equal(fetched(out.boxes_xyxy)[image, : len(wanted)], wanted.boxes_xyxy_px), "merge")

    return Case("merge of 4 lists", images, accounting, work, check)


def redact_case(xp: Any, sizes: Sizes, images: int, method: Any) -> Case:
    rng = np.random.default_rng(4)
    regions = []
    for _ in range(sizes.faces):
        side = float(rng.uniform(0.04, 0.12) * sizes.width_px)
        x, y = rng.uniform(0, sizes.width_px - side), rng.uniform(0, max(1.0, sizes.height_px - side))
        regions.append(Region(x, y, x + side, y + side, "ellipse", side))
    return _redact(xp, f"redact {method}", noise("nv12", sizes.width_px, sizes.height_px, 5), regions, images, method)


def blur_cases(xp: Any, sizes: Sizes, sigmas: Sequence[float]) -> Iterator[tuple[float, Case]]:
    """A whole picture of luma, blurred with each sigma."""
    strength = RedactConfig().detail_share
    for sigma in sigmas:
        frame = noise("gray", sizes.width_px, sizes.height_px, 6)
        whole = Region(0, 0, sizes.width_px, sizes.height_px, "box", sigma / strength)
        yield sigma, _redact(xp, f"blur, sigma {sigma}", frame, [whole], 1, "gaussian")


def _redact(xp: Any, name: str, original: Frame, regions: Sequence[Region], images: int, method: Any) -> Case:
    config = RedactConfig(method=method)
    frames = [moved(xp, original) for _ in range(images)]
    accounting = Accounting()
    kernel = RedactCuda(config, accounting=accounting)
    needed = kernel.workspace_bytes(frames, [regions] * images)
    workspace = xp.zeros(needed, np.uint8)
    staging = None
    if xp is not np:
        import cupyx

        staging = cupyx.empty_pinned(needed, np.uint8)

    def work() -> None:
        kernel.batch(frames, [regions] * images, workspace, staging=staging)

    def check() -> None:  # the frames are still as they were made
        work()
        wanted = moved(np, original)
        Redactor(config).redact(wanted, list(regions))
        for found, plane in zip(frames[-1].planes, wanted.planes, strict=True):
            expect(abs(fetched(found).astype(int) - plane).max() <= REDACT_TOLERANCE_CODES, name)

    return Case(name, images, accounting, work, check, frames[0].planes)
