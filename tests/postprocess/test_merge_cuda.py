"""Merging by the kernels against the specification: the same detections, always."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.errors import ModelError
from trt_anon.postprocess.merge_cuda import MAX_LISTS, CandidateList, MergeCuda, MergeStatus, check_merge_status
from trt_anon.postprocess.nms import Pass, merge
from trt_anon.postprocess.nms_cuda import NmsCuda
from trt_anon.postprocess.nms_cuda import Status as NmsStatus

PLAIN = MergeCuda()
STRICT = MergeCuda(host=HostOptions(seed=3, poison=255, check=True))
NAMES = ("face", "plate", "head")


def some_pass(rng: np.random.Generator, count: int, points: int | None, distinct: bool) -> Pass:
    corner = rng.integers(0, 12, (count, 2)) * 5.0
    boxes = np.concatenate((corner, corner + rng.integers(6, 30, (count, 2))), axis=1).astype(np.float32)
    scores = (rng.integers(1, 12, count) / 12).astype(np.float32)  # many ties
    marks = None if points is None else rng.random((count, points, 2), np.float32)
    return Pass(boxes, scores, rng.integers(0, 3, count, dtype=np.int32), marks, distinct=distinct)


def assert_same(found, wanted):
    assert np.array_equal(found.boxes_xyxy_px, wanted.boxes_xyxy_px)
    assert np.array_equal(found.scores, wanted.scores)
    assert np.array_equal(found.class_ids, wanted.class_ids)
    assert found.class_names == wanted.class_names
    assert (found.landmarks_px is None) == (wanted.landmarks_px is None)
    if found.landmarks_px is not None:
        assert np.array_equal(found.landmarks_px, wanted.landmarks_px, equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 2, 31, 33, 90, 300]), st.sampled_from([None, 0, 4, 5]), st.booleans()),
        max_size=6,
    ),
    st.sampled_from([0.0, 0.3, 0.6]),
    st.sampled_from([PLAIN, STRICT]),
    st.integers(0, 2**32),
)
def test_the_same_detections(passes, threshold, kernel, seed):
    rng = np.random.default_rng(seed)
    made = [some_pass(rng, *one) for one in passes]
    assert_same(kernel(made, NAMES, threshold), merge(made, NAMES, threshold))


def test_as_many_lists_and_candidates_as_there_can_be():
    rng = np.random.default_rng(0)
    made = [some_pass(rng, 4096 // MAX_LISTS, 5, i % 3 == 0) for i in range(MAX_LISTS)]
    assert_same(PLAIN(made, NAMES, 0.4), merge(made, NAMES, 0.4))
    with pytest.raises(ValueError, match="1 to 32 lists can be merged, not 33"):
        PLAIN([*made, made[0]], NAMES, 0.4)
    with pytest.raises(ValueError, match="at most 4096 candidates"):
        PLAIN([some_pass(rng, 4097, None, False)], NAMES, 0.4)


def check_batch(xp, host):
    """Two detectors, one of them with a class map, two scales; an image whose first list overflowed, an empty one."""
    rng = np.random.default_rng(5)
    images, capacities = 4, (70, 300, 16)
    counts = np.array([(5, 300, 16), (90, 0, 3), (0, 0, 0), (70, 11, 17)], np.int32)
    maps = (np.array([0, 1, 2], np.int32), np.array([-1, 0, -1, 2, 1], np.int32), None)
    points = (5, None, 4)
    lists, plain = [], []
    for number, capacity in enumerate(capacities):
        each = [some_pass(rng, capacity, points[number], number == 1) for _ in range(images)]
        ids = [rng.integers(0, 5, capacity, dtype=np.int32) if number == 1 else one.class_ids for one in each]
        arrays = [
            np.stack([one.boxes_xyxy_px for one in each]),
            np.stack([one.scores for one in each]),
            np.stack(ids),
            counts[:, number].copy(),
            None if points[number] is None else np.stack([one.landmarks_px for one in each]),
            maps[number],
        ]
        place = guarded if xp is np else xp.asarray
        lists.append(CandidateList(*(None if a is None else place(a) for a in arrays), distinct=number == 1))
        plain.append(arrays)
    total = sum(capacities)
    accounting = Accounting()
    kernel, suppress = MergeCuda(host=host, accounting=accounting), NmsCuda(host=host, accounting=accounting)
    merged = CandidateList(
        xp.full((images, total, 4), -7, np.float32),
        xp.full((images, total), -7, np.float32),
        xp.full((images, total), -7, np.int32),
        xp.full(images, -7, np.int32),
        (guarded if xp is np else xp.asarray)(np.full((images, total, 5, 2), -7, np.float32)),
    )
    groups, status = xp.full((images, total), -7, np.int32), xp.full(images, -7, np.int32)
    kernel.concatenate(
        lists,
        boxes_xyxy=merged.boxes_xyxy,
        scores=merged.scores,
        class_ids=merged.class_ids,
        counts=merged.counts,
        landmarks=merged.landmarks,
        groups=groups,
        status=status,
    )
    keep = 40
    kept, nms_status = xp.full((images, keep), -7, np.int32), xp.zeros(images, np.int32)
    out = CandidateList(
        xp.full((images, keep, 4), -7, np.float32),
        xp.full((images, keep), -7, np.float32),
        xp.full((images, keep), -7, np.int32),
        xp.zeros(images, np.int32),
        xp.full((images, keep, 5, 2), -7, np.float32),
    )
    arrays = merged.boxes_xyxy, merged.scores, merged.class_ids, merged.counts
    suppress.batch(*arrays, 0.3, True, groups, kept=kept, kept_counts=out.counts, status=nms_status)
    kernel.take(merged, kept, out)

    host_of = (lambda array: array) if xp is np else (lambda array: array.get())
    for image in range(images):
        passes = []
        for number, (boxes, scores, ids, _, marks, class_map) in enumerate(plain):
            n = min(int(counts[image, number]), capacities[number])
            mapped = ids[image, :n] if class_map is None else class_map[ids[image, :n]]
            on = mapped >= 0
            points_px = None if marks is None else marks[image, :n][on]
            passes.append(
                Pass(boxes[image, :n][on], scores[image, :n][on], mapped[on], points_px, distinct=number == 1)
            )
        wanted = merge(passes, NAMES, 0.3)
        assert host_of(merged.counts)[image] == sum(len(one.scores) for one in passes)
        assert host_of(out.counts)[image] == len(wanted)
        n = min(keep, len(wanted))
        assert np.array_equal(host_of(out.boxes_xyxy)[image, :n], wanted.boxes_xyxy_px[:n])
        assert np.array_equal(host_of(out.scores)[image, :n], wanted.scores[:n])
        assert np.array_equal(host_of(out.class_ids)[image, :n], wanted.class_ids[:n])
        assert np.array_equal(host_of(out.landmarks)[image, :n], wanted.landmarks_px[:n], equal_nan=True)
        assert (host_of(out.scores)[image, n:] == -7).all()
    assert list(host_of(status)) == [0, MergeStatus.CANDIDATES_DROPPED, 0, MergeStatus.CANDIDATES_DROPPED]
    assert (host_of(out.counts) > keep).any()
    assert {name: traffic.launches for name, traffic in accounting.by_kernel.items()} == {
        "concatenate": 1,
        "nms": 1,
        "take": 1,
    }


@pytest.mark.parametrize("host", [None, HostOptions(seed=9, poison=255, check=True)])
def test_a_batch(host):
    check_batch(np, host)


@pytest.mark.gpu
def test_a_batch_on_a_gpu(cupy):
    check_batch(cupy, None)


def one_list(scores, ids, class_map):
    n = len(scores)
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (1, n, 1))
    return CandidateList(
        boxes, np.array([scores], np.float32), np.array([ids], np.int32), np.array([n], np.int32), class_map=class_map
    )


def merged_of(lists, capacity):
    out = {
        "boxes_xyxy": np.zeros((1, capacity, 4), np.float32),
        "scores": np.zeros((1, capacity), np.float32),
        "class_ids": np.zeros((1, capacity), np.int32),
        "groups": np.zeros((1, capacity), np.int32),
        "counts": np.zeros(1, np.int32),
        "status": np.zeros(1, np.int32),
    }
    STRICT.concatenate(lists, **out)
    return out


def test_a_class_map_never_hides_a_broken_detector():
    out_of_map = merged_of([one_list([0.9, 0.8], [1, 7], guarded(np.array([0, 1], np.int32)))], 4)
    assert out_of_map["status"][0] == MergeStatus.WRONG_CLASS
    with pytest.raises(ModelError, match="a class that it does not have"):
        check_merge_status(out_of_map["status"])
    nan_left_out = merged_of([one_list([np.nan, 0.5], [0, 0], guarded(np.array([-1], np.int32)))], 4)
    for out in (out_of_map, nan_left_out):
        assert np.isnan(out["scores"][0, : out["counts"][0]]).any()
        kept_counts, status = np.zeros(1, np.int32), np.zeros(1, np.int32)
        arrays = (out[k] for k in ("boxes_xyxy", "scores", "class_ids", "counts"))
        NmsCuda().batch(*arrays, 0.5, kept=np.zeros((1, 4), np.int32), kept_counts=kept_counts, status=status)
        assert status[0] == NmsStatus.NOT_FINITE
    check_merge_status(nan_left_out["status"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_an_error(value):
    one = some_pass(np.random.default_rng(0), 40, 5, False)
    one.scores[7] = value
    with pytest.raises(ModelError, match="not finite"):
        PLAIN([one], NAMES, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_xyxy": np.zeros((1, 1, 4), np.float32)}, "merged scores: expected"),
        ({"groups": np.zeros((1, 2), np.int64)}, "groups: expected int32"),
        ({"status": np.zeros(2, np.int32)}, "status: expected"),
        ({"lists": []}, "1 to 32 lists"),
        ({"lists": [one_list([1, 1, 1], [0, 0, 0], None)]}, "fewer than its lists together"),
        ({"lists": [one_list([1], [0], np.zeros(2, np.int64))]}, "class_map: expected int32"),
        ({"landmarks": np.zeros((1, 2, 4), np.float32)}, "landmarks: expected float32"),
    ],
)
def test_wrong_arguments(change, message):
    out = {
        "lists": [one_list([1], [0], None)],
        "boxes_xyxy": np.zeros((1, 2, 4), np.float32),
        "scores": np.zeros((1, 2), np.float32),
        "class_ids": np.zeros((1, 2), np.int32),
        "groups": np.zeros((1, 2), np.int32),
        "counts": np.zeros(1, np.int32),
        "status": np.zeros(1, np.int32),
    } | change
    with pytest.raises(ValueError, match=message):
        PLAIN.concatenate(**out)


def test_outlines_and_signature():
    one = some_pass(np.random.default_rng(0), 1, None, False)
    outlined = Pass(one.boxes_xyxy_px, one.scores, one.class_ids, contours_px=(np.zeros((3, 2), np.float32),))
    with pytest.raises(ValueError, match="outlines are merged on the host"):
        PLAIN([outlined], NAMES, 0.5)
    assert list(inspect.signature(PLAIN.__call__).parameters.values()) == list(
        inspect.signature(merge).parameters.values()
    )
