"""Whether a frame's results on a device are all of it: bounded lists may leave out weak candidates alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trt_anon.detect.decode_cuda import Status
from trt_anon.errors import ModelError
from trt_anon.pipeline import device_found
from trt_anon.pipeline.device_found import Found, Seen, seen_in, seen_in_batch
from trt_anon.postprocess.nms_cuda import Status as NmsStatus

NAMES = ("face", "license_plate")
THRESHOLDS = np.array([0.2, 0.6], np.float32)


def results(scores: list[float], classes: list[int] | None = None, lists: int = 1, **changes: Any) -> dict[str, Any]:
    count = len(scores)
    made: dict[str, Any] = {
        "boxes": np.tile(np.array([0, 0, 8, 8], np.float32), (1, count, 1)),
        "scores": np.array([scores], np.float32),
        "class_ids": np.array([classes or [0] * count], np.int32),
        "counts": np.array([count], np.int32),
        "nms": np.zeros(1, np.int32),
    }
    made |= {f"decode {number}": np.zeros(1, np.int32) for number in range(lists)}
    return made | {name.replace("_", " "): np.array([value], np.int32) for name, value in changes.items()}


def seen(made: dict[str, Any], *, weak: bool = True) -> tuple[int, int]:
    families = [f"family {number}" for number in range(sum(name.startswith("decode") for name in made))]
    what = seen_in(made, 0, families, NAMES, THRESHOLDS, weak=weak)
    return len(what.found), -1 if what.weak is None else len(what.weak)


def test_each_class_has_its_threshold():
    assert seen(results([0.9, 0.5, 0.5, 0.1], [1, 0, 1, 0])) == (2, 2)
    assert seen(results([0.9, 0.5]), weak=False) == (2, -1)
    assert seen(results([])) == (0, 0)


def test_weak_candidates_may_be_left_out():
    """One below every threshold is there, so all that reach one are."""
    for changes in ({"decode_0": Status.CANDIDATES_DROPPED}, {"nms": NmsStatus.KEPT_DROPPED}):
        assert seen(results([0.9, 0.3, 0.1], **changes)) == (2, 1)


@pytest.mark.parametrize(
    ("scores", "classes", "lists", "changes"),
    [
        ([0.9, 0.3], None, 1, {"decode_0": Status.CANDIDATES_DROPPED}),
        ([0.9, 0.3], None, 1, {"nms": NmsStatus.KEPT_DROPPED}),
        # A weak plate scores more than a face that counts: it says nothing about faces.
        ([0.9, 0.5], [0, 1], 1, {"nms": NmsStatus.KEPT_DROPPED}),
        # The weak one is of the other list.
        ([0.9, 0.1], None, 2, {"decode_1": Status.CANDIDATES_DROPPED}),
        ([], None, 1, {"decode_0": Status.CANDIDATES_DROPPED}),
    ],
)
def test_nothing_that_counts_is_left_out_in_silence(scores, classes, lists, changes):
    with pytest.raises(ModelError, match="more objects than the device keeps"):
        seen(results(scores, classes, lists, **changes))


def test_more_than_are_kept(monkeypatch):
    monkeypatch.setattr(device_found, "MAX_FOUND", 2)
    assert seen(results([0.9, 0.1, 0.05])) == (1, 1)
    with pytest.raises(ModelError, match="more objects"):
        seen(results([0.9, 0.8, 0.7]))


def test_broken_networks():
    for changes in ({"nms": NmsStatus.NOT_FINITE}, {"counts": -1}, {"decode_0": Status.NOT_FINITE}):
        with pytest.raises(ModelError, match="not finite"):
            seen(results([0.9], **changes))


@pytest.mark.parametrize("weak", [False, True])
@pytest.mark.parametrize("trouble", ["none", "weak ones", "dropped", "too many", "broken"])
def test_a_batch_is_its_frames(trouble, weak):
    """The quick way of a whole batch says what each of its frames says alone."""
    rng = np.random.default_rng(3)
    room, frames = device_found.MAX_FOUND, 5
    counts = np.array([3, 0, 7, 1, 4], np.int32)
    made: dict[str, Any] = {
        "boxes": rng.uniform(0, 99, (frames, room, 4)).astype(np.float32),
        "scores": np.sort(rng.uniform(0.6, 1, (frames, room)).astype(np.float32), axis=1)[:, ::-1].copy(),
        "class_ids": rng.integers(0, 2, (frames, room), dtype=np.int32),
        "counts": counts,
        "nms": np.zeros(frames, np.int32),
        "decode 0": np.zeros(frames, np.int32),
    }
    made["class_ids"][np.arange(room) >= counts[:, None]] = -7  # whatever lies behind what was found
    if trouble == "weak ones":
        made["scores"][2, 4:7] = 0.15
    elif trouble == "dropped":
        made["decode 0"][2] = Status.CANDIDATES_DROPPED
    elif trouble == "too many":
        counts[2] = room + 1
    elif trouble == "broken":
        made["nms"][0] = NmsStatus.NOT_FINITE
    found = seen_in_batch(made, frames, ["family"], NAMES, THRESHOLDS, weak=weak)
    assert len(found) == frames
    for place, one in enumerate(found):
        alone: Found
        try:
            alone = seen_in(made, place, ["family"], NAMES, THRESHOLDS, weak=weak)
        except ModelError as error:
            alone = error
        if isinstance(alone, ModelError):
            assert str(one) == str(alone)
            continue
        assert isinstance(one, Seen)
        for mine, its in ((one.found, alone.found), (one.weak, alone.weak)):
            assert (mine is None) == (its is None)
            if mine is not None and its is not None:
                np.testing.assert_array_equal(mine.boxes_xyxy_px, its.boxes_xyxy_px)
                np.testing.assert_array_equal(mine.scores, its.scores)
                np.testing.assert_array_equal(mine.class_ids, its.class_ids)
