"""The kernel against the specification: the same indices, always."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions
from trt_anon.errors import ModelError
from trt_anon.postprocess.nms import nms
from trt_anon.postprocess.nms_cuda import MAX_CANDIDATES, NmsCuda, Status, check_status

PLAIN = NmsCuda()
STRICT = NmsCuda(host=HostOptions(seed=7, poison=255, check=True))
SHAPES_OF_BOXES = ["spread", "crowded", "same", "flat", "inverted", "huge", "tiny", "grid"]


def some_boxes(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    corner = rng.uniform(-50, 500, (count, 2))
    size = rng.uniform(0, 90, (count, 2))
    if kind == "crowded":
        corner = rng.integers(0, 4, (count, 2)) * 8.0
    elif kind == "same":
        corner[:], size[:] = 5, 9
    elif kind == "flat":
        size[:, 0] = 0
    elif kind == "inverted":
        size *= rng.choice([-1.0, 1.0], (count, 2))
    elif kind == "huge":
        corner, size = corner * 1e35, size * 1e36
    elif kind == "tiny":
        corner, size = corner * 1e-40, size * 1e-40
    elif kind == "grid":  # whole numbers: overlaps at exactly the threshold are common
        corner, size = np.round(corner / 60) * 2, np.full((count, 2), 4.0)
    return np.concatenate((corner, corner + size), axis=1).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([0, 1, 2, 31, 32, 33, 64, 100, 257]),
    st.sampled_from(SHAPES_OF_BOXES),
    st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 1.0]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
    st.sampled_from([PLAIN, STRICT]),
    st.integers(0, 2**32),
)
def test_the_same_boxes_stay(count, kind, threshold, class_aware, grouped, levels, kernel, seed):
    rng = np.random.default_rng(seed)
    boxes = some_boxes(kind, count, rng)
    scores = (rng.integers(-levels, levels, count) / levels).astype(np.float32)  # many ties, and minus zero
    scores[rng.random(count) < 0.1] = -0.0
    class_ids = rng.integers(0, 3, count, dtype=np.int32)
    groups = rng.integers(-1, 2, count, dtype=np.int32) if grouped else None
    wanted = nms(boxes, scores, class_ids, threshold, class_aware, groups)
    assert np.array_equal(kernel(boxes, scores, class_ids, threshold, class_aware, groups), wanted)


@pytest.mark.parametrize("kind", ["spread", "same", "grid"])
def test_as_many_as_there_can_be(kind):
    rng = np.random.default_rng(1)
    boxes = some_boxes(kind, MAX_CANDIDATES, rng)
    scores = rng.random(MAX_CANDIDATES, np.float32)
    class_ids = rng.integers(0, 2, MAX_CANDIDATES, dtype=np.int32)
    assert np.array_equal(PLAIN(boxes, scores, class_ids, 0.4), nms(boxes, scores, class_ids, 0.4))


def test_near_the_threshold_float64_decides():
    rng = np.random.default_rng(2)
    width = rng.uniform(10, 11, 2000).astype(np.float32)
    shift = (width / 3).astype(np.float32)  # IoU of one half, but for rounding
    zero, one = np.zeros_like(width), np.ones_like(width)
    for a, b in zip(
        np.stack((zero, zero, width, one), 1)[:64], np.stack((shift, zero, width + shift, one), 1), strict=False
    ):
        boxes = np.stack((a, b))
        args = boxes, np.array([1, 0.5], np.float32), np.zeros(2, np.int32), 0.5
        assert np.array_equal(PLAIN(*args), nms(*args))


def batch_of(xp, kernel, counts, capacity, keep, rng, stream=None):
    images = len(counts)
    boxes = np.stack([some_boxes("crowded", capacity, rng) + 3 * rng.random((capacity, 1)) for _ in counts])
    arrays = (
        boxes.astype(np.float32),
        rng.integers(0, 20, (images, capacity)).astype(np.float32),
        rng.integers(0, 2, (images, capacity)).astype(np.int32),
        np.array(counts, np.int32),
    )
    kept = xp.full((images, keep), -7, xp.int32)
    kept_counts, status = xp.full(images, -7, xp.int32), xp.full(images, -7, xp.int32)
    kernel.batch(
        *(xp.asarray(array) for array in arrays), 0.3, kept=kept, kept_counts=kept_counts, status=status, stream=stream
    )
    if xp is not np:
        kept, kept_counts, status = kept.get(), kept_counts.get(), status.get()
    return arrays, kept, kept_counts, status


def check_batch(xp, kernel):
    counts, capacity, keep = [0, 1, 77, 200, 90, 300], 200, 12
    arrays, kept, kept_counts, status = batch_of(xp, kernel, counts, capacity, keep, np.random.default_rng(3))
    for image, found in enumerate(counts):
        n = min(found, capacity)
        wanted = nms(*(array[image, :n] for array in arrays[:3]), 0.3)
        assert kept_counts[image] == len(wanted)
        written = min(keep, len(wanted))
        assert np.array_equal(kept[image, :written], wanted[:written])
        assert (kept[image, written:] == -7).all()
        flags = Status(0)
        if found > capacity:
            flags |= Status.CANDIDATES_DROPPED
        if len(wanted) > keep:
            flags |= Status.KEPT_DROPPED
        assert Status(int(status[image])) == flags
    assert (kept_counts > keep).any()
    assert (kept_counts < keep).any()


@pytest.mark.parametrize("kernel", [PLAIN, STRICT])
def test_a_batch_reports_what_did_not_fit(kernel):
    check_batch(np, kernel)


@pytest.mark.gpu
def test_a_batch_on_a_gpu(cupy):
    check_batch(cupy, NmsCuda())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["boxes", "scores"])
def test_numbers_that_are_not_finite_spoil_their_image_alone(value, where):
    rng = np.random.default_rng(4)
    boxes = np.stack([some_boxes("spread", 40, rng) for _ in range(3)])
    scores = rng.random((3, 40), np.float32)
    (boxes if where == "boxes" else scores)[1, 30] = value
    class_ids, counts = np.zeros((3, 40), np.int32), np.full(3, 40, np.int32)
    kept, kept_counts, status = np.zeros((3, 40), np.int32), np.zeros(3, np.int32), np.zeros(3, np.int32)
    STRICT.batch(boxes, scores, class_ids, counts, 0.5, kept=kept, kept_counts=kept_counts, status=status)
    assert kept_counts[1] == -1
    assert list(status) == [0, Status.NOT_FINITE, 0]
    for image in (0, 2):
        wanted = nms(boxes[image], scores[image], class_ids[image], 0.5)
        assert np.array_equal(kept[image, : kept_counts[image]], wanted)
    with pytest.raises(ModelError, match="not finite"):
        check_status(status)
    with pytest.raises(ModelError, match="not finite"):
        STRICT(boxes[1], scores[1], class_ids[1], 0.5)
    counts[1] = 30  # what lies behind the candidates does not matter
    STRICT.batch(boxes, scores, class_ids, counts, 0.5, kept=kept, kept_counts=kept_counts, status=status)
    check_status(status)


def test_one_launch_for_a_batch():
    accounting = Accounting()
    batch_of(np, NmsCuda(accounting=accounting), [5] * 9, 16, 16, np.random.default_rng(0))
    assert accounting.by_kernel["nms"].launches == 1
    assert accounting.by_kernel["nms"].bytes_moved == 9 * (16 * 24 + 16 * 4 + 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_xyxy": np.zeros((2, 8, 5), np.float32)}, r"boxes_xyxy: expected float32 \(2, 8, 4\)"),
        ({"boxes_xyxy": np.zeros((2, 8, 4), np.float64)}, "boxes_xyxy: expected float32 .* got float64"),
        ({"boxes_xyxy": np.zeros((8, 4), np.float32)}, "3 dimensions"),
        ({"boxes_xyxy": np.zeros((2, 4097, 4), np.float32)}, "at most 4096"),
        ({"boxes_xyxy": np.zeros(65, np.float32)[1:].reshape(2, 8, 4)}, "multiple of 16 bytes"),
        ({"scores": np.zeros((2, 7), np.float32)}, "scores: expected"),
        ({"class_ids": np.zeros((2, 8), np.int64)}, "class_ids: expected int32"),
        ({"distinct_groups": np.zeros((2, 7), np.int32)}, "distinct_groups: expected"),
        ({"counts": np.zeros(3, np.int32)}, "counts: expected"),
        ({"status": np.zeros(2, np.uint8)}, "status: expected"),
        ({"iou_threshold": -0.1}, "threshold must be in"),
        ({"iou_threshold": float("nan")}, "threshold must be in"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "boxes_xyxy": np.zeros((2, 8, 4), np.float32),
        "scores": np.zeros((2, 8), np.float32),
        "class_ids": np.zeros((2, 8), np.int32),
        "counts": np.zeros(2, np.int32),
        "iou_threshold": 0.5,
        "kept": np.zeros((2, 8), np.int32),
        "kept_counts": np.zeros(2, np.int32),
        "status": np.zeros(2, np.int32),
    }
    with pytest.raises(ValueError, match=message):
        PLAIN.batch(**(arguments | change))


def test_it_is_called_like_the_specification():
    assert list(inspect.signature(PLAIN.__call__).parameters.values()) == list(
        inspect.signature(nms).parameters.values()
    )
