"""Scenes with known answers through the whole tracker."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.config import TrackConfig
from trt_anon.errors import PipelineError
from trt_anon.track.look_ahead import LookAhead
from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Tracks


def run(
    scenes: ModuleType, scene: Any, most_frames: int = 1 << 20, config: TrackConfig | None = None, **sight: Any
) -> list[Tracks]:
    ahead = LookAhead(config or TrackConfig(), scenes.CLASSES, scenes.THRESHOLDS, most_frames)
    given_out: list[Tracks] = []
    for index in range(scene.frames):
        given_out += ahead.push(scene.sight(index, **sight))
    return given_out + ahead.finish()


def right(i: int) -> tuple[float, float, float]:
    return 60 + 2.0 * i, 90, 24


def test_a_frame_waits_no_longer_than_it_must(scenes: ModuleType) -> None:
    scene = scenes.Scene([right], frames=100)
    ahead = LookAhead(TrackConfig(look_ahead_seconds=1.0), scenes.CLASSES, scenes.THRESHOLDS)
    done = longest = 0
    for index in range(scene.frames):
        done += len(ahead.push(scene.sight(index)))
        longest = max(longest, index + 1 - done)
        if index >= 38:
            assert index - done >= 24, "and no shorter"
    assert longest <= 38
    assert done + len(ahead.finish()) == scene.frames
    bounded = LookAhead(TrackConfig(look_ahead_seconds=1.0), scenes.CLASSES, scenes.THRESHOLDS, most_frames=8)
    done = 0
    for index in range(scene.frames):
        done += len(bounded.push(scene.sight(index, pictured=False)))
        assert index + 1 - done < 8
    assert not LookAhead(TrackConfig(), scenes.CLASSES, scenes.THRESHOLDS).finish()


def test_without_look_ahead_every_frame_comes_at_once(scenes: ModuleType) -> None:
    ahead = LookAhead(TrackConfig(look_ahead_seconds=0), scenes.CLASSES, scenes.THRESHOLDS)
    for index in range(10):
        (tracks,) = ahead.push(scenes.Scene([right]).sight(index))
        assert len(tracks) == 1


@pytest.mark.parametrize("pictured", [True, False])
def test_a_gap_of_a_second_is_filled_and_the_track_stays_one(scenes: ModuleType, pictured: bool) -> None:
    scene = scenes.Scene([right])
    gap = range(20, 44)
    found = run(scenes, scene, misses=[(0, i) for i in gap], pictured=pictured)
    for index, tracks in enumerate(found):
        assert tracks.track_ids.tolist() == [1]
        assert tracks.seen.tolist() == [index not in gap]
        assert scenes.covered(tracks, scene.box(0, index)) > 0.85
        assert (tracks.spread_px[0] > found[10].spread_px[0]).all() or index not in gap[6:-6]


def test_a_longer_gap_ends_a_track_and_grace_and_picture_extend_both_ends(scenes: ModuleType) -> None:
    scene = scenes.Scene([right], frames=100)
    gap = range(20, 80)
    blind = run(scenes, scene, misses=[(0, i) for i in gap], pictured=False)
    assert [len(t) for t in blind] == [1] * 26 + [0] * 48 + [1] * 26  # 0.25 s are 6 frames
    assert blind[99].track_ids.tolist() != blind[0].track_ids.tolist()
    pictured = run(scenes, scene, misses=[(0, i) for i in gap])
    assert all(scenes.covered(pictured[i], scene.box(0, i)) > 0.75 for i in (*range(44), *range(56, 100)))


def test_an_object_is_hidden_before_it_is_found_as_long_as_the_picture_shows_it(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (40 + 2.0 * i, 90, 24) if i >= 15 else None])
    found = run(scenes, scene, misses=[(0, i) for i in range(35)])
    assert all(scenes.covered(found[i], scene.box(0, i)) > 0.75 for i in range(15, 60))
    assert all(len(t) == 0 for t in found[:9]), "nothing is there yet"


def test_nothing_is_followed_across_a_cut(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (160, 90, 24) if i < 30 else None], cuts=[30])
    found = run(scenes, scene, misses=[(0, i) for i in range(20, 30)])
    assert [len(t) for t in found] == [1] * 30 + [0] * 30
    back = scenes.Scene([lambda i: (160, 90, 24) if i >= 30 else None], cuts=[30])
    assert [len(t) for t in run(scenes, back)] == [0] * 30 + [1] * 30
    both = scenes.Scene([lambda i: (160, 90, 24)], cuts=[30])
    ids = [t.track_ids.tolist() for t in run(scenes, both)]
    assert ids == [[1]] * 30 + [[2]] * 30


def test_a_shaking_camera_neither_breaks_a_track_nor_uncovers_it(scenes: ModuleType) -> None:
    shake = np.random.default_rng(0).normal(0, 6, (60, 2))
    scene = scenes.Scene(
        [lambda i: (160 + shake[i, 0], 90 + shake[i, 1], 16)], camera=lambda i: (shake[i, 0], shake[i, 1])
    )
    found = run(scenes, scene, misses=[(0, i) for i in range(20, 40)])
    assert {tuple(t.track_ids.tolist()) for t in found} == {(1,)}
    covers = [scenes.covered(t, scene.box(0, i)) for i, t in enumerate(found)]
    assert np.mean(covers) > 0.9
    assert min(covers) > 0.6


def test_masks_do_not_jump_where_boxes_do(scenes: ModuleType) -> None:
    scene = scenes.Scene([right])
    found = run(scenes, scene, jitter=0.06)
    raw = np.stack([scene.sight(i, jitter=0.06).found.boxes_xyxy_px[0] for i in range(60)])
    smooth = np.stack([t.boxes_xyxy_px[0] for t in found])
    steps = [np.diff(np.ptp(b.reshape(-1, 2, 2), axis=1), axis=0).std() for b in (raw, smooth)]
    assert steps[1] < 0.5 * steps[0]


@pytest.mark.parametrize("part", ["left", "top"])
def test_an_object_half_out_of_sight_is_hidden_at_its_usual_size(scenes: ModuleType, part: str) -> None:
    scene = scenes.Scene([right])
    half = range(6) if part == "left" else range(25, 37)
    ahead = LookAhead(TrackConfig(), scenes.CLASSES, scenes.THRESHOLDS)
    found: list[Tracks] = []
    for index in range(scene.frames):
        sight = scene.sight(index)
        if index in half:  # the detector sees half of it, and says that it is half as large
            x0, y0, x1, y1 = sight.found.boxes_xyxy_px[0]
            seen = (x0, y0, (x0 + x1) / 2, y1) if part == "left" else (x0, y0, x1, (y0 + y1) / 2)
            sight = replace(sight, found=replace(sight.found, boxes_xyxy_px=np.array([seen], np.float32)))
        found += ahead.push(sight)
    for index, tracks in enumerate(found + ahead.finish()):
        width, height = (tracks.boxes_xyxy_px[0, 2:] - tracks.boxes_xyxy_px[0, :2]).tolist()
        assert min(width, height) > 0.95 * 24
        assert max(width, height) < 1.4 * 24, "and no larger"
        assert scenes.covered(tracks, scene.box(0, index)) >= (0.7 if index in half else 0.9)


def test_an_object_that_becomes_smaller_is_hidden_at_its_own_size_a_second_later(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (160, 90, 40 if i < 20 else 20)], frames=80)
    found = run(scenes, scene, pictured=False)
    sides = [float(np.ptp(tracks.boxes_xyxy_px[0, [0, 2]])) for tracks in found]
    assert all(side > 38 for side in sides[:12])
    assert all(side < 22 for side in sides[50:])


def test_two_objects_that_cross_keep_their_ids(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (80 + 2.5 * i, 80, 24), lambda i: (230 - 2.5 * i, 96, 24)])
    found = run(scenes, scene, misses=[(1, i) for i in range(28, 33)])
    assert all(sorted(t.track_ids.tolist()) == [1, 2] for t in found)
    first, last = found[0], found[-1]
    for number, box in ((1, scene.box(0, 59)), (2, scene.box(1, 59))):
        place = last.track_ids.tolist().index(number)
        assert abs(last.boxes_xyxy_px[place, 0] - box[0]) < 4
    assert first.track_ids.tolist() == [1, 2]


def test_classes_have_tracks_of_their_own(scenes: ModuleType) -> None:
    scene = scenes.Scene([right, right], frames=10)
    found = run(scenes, scene, classes=[0, 1])
    assert all(sorted(zip(t.track_ids, t.class_ids, strict=True)) == [(1, 0), (2, 1)] for t in found)


def test_weak_detections_continue_a_track_that_is_sure_and_make_none(scenes: ModuleType) -> None:
    scene = scenes.Scene([right], frames=40)
    early = run(scenes, scene, weakly=[(0, i) for i in range(15)])
    assert [len(t) for t in early] == [1] * 40, "confident in the end, and so from its first weak detection on"
    alone = run(scenes, scene, weakly=[(0, i) for i in range(40)])
    assert not any(len(t) for t in alone)


def test_a_doubtful_track_is_hidden_where_the_detector_is_confident_and_in_short_gaps(scenes: ModuleType) -> None:
    scene = scenes.Scene([right], frames=40)
    confident = (10, 14, 34)
    doubtful = run(scenes, scene, weakly=[(0, i) for i in range(40) if i not in confident])
    assert [len(t) for t in doubtful] == [10 <= i <= 14 or i == 34 for i in range(40)]
    once = run(scenes, scene, misses=[(0, i) for i in range(40) if i != 20])
    assert [len(t) for t in once] == [i == 20 for i in range(40)]


def test_ids_belong_to_the_instance(scenes: ModuleType) -> None:
    scene = scenes.Scene([right], frames=3)
    assert run(scenes, scene)[0].track_ids.tolist() == run(scenes, scene)[0].track_ids.tolist() == [1]


def test_what_is_not_finite_is_an_error(scenes: ModuleType) -> None:
    ahead = LookAhead(TrackConfig(), scenes.CLASSES, scenes.THRESHOLDS)
    with pytest.raises(PipelineError, match="not finite"):
        ahead.push(Sight(0.0, scenes.SIZE, None, scenes.detections([(0, np.array([0, 0, np.nan, 9]))], 0.9)))
    with pytest.raises(ValueError, match="finite"):
        Sight(float("nan"), scenes.SIZE, None, None)


def test_strange_times_keep_order_and_count(scenes: ModuleType) -> None:
    scene = scenes.Scene([right])
    ahead = LookAhead(TrackConfig(), scenes.CLASSES, scenes.THRESHOLDS, most_frames=50)
    times = [0.0, 0.0, 5.0, 4.0, 4.0, 1e6, 0.5, *np.arange(7.0, 60.0)]
    given_out: list[Tracks] = []
    for seconds in times:
        sight = scene.sight(0, pictured=False)
        given_out += ahead.push(Sight(seconds, scenes.SIZE, None, sight.found))
    given_out += ahead.finish()
    assert len(given_out) == len(times)
    assert all(scenes.covered(tracks, scene.box(0, 0)) > 0.75 for tracks in given_out)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(-50, 350), st.floats(-50, 250), st.floats(0, 200), st.booleans()), max_size=5),
        min_size=1,
        max_size=30,
    ),
    st.floats(0, 1),
)
def test_the_core_of_every_confident_detection_is_hidden_in_its_own_frame(
    frames: list[list[tuple[float, float, float, bool]]], look_ahead: float
) -> None:
    pytest.importorskip("lap")
    ahead = LookAhead(TrackConfig(look_ahead_seconds=look_ahead), ("face",), (0.3,))
    found, out = [], []
    for index, objects in enumerate(frames):
        ranks = [[(x, y, s) for x, y, s, strong in objects if strong is rank] for rank in (True, False)]
        strong, weak = (
            Detections(
                np.array([(x, y, x + s, y + s) for x, y, s in rank], np.float32).reshape(-1, 4),
                np.full(len(rank), 0.5, np.float32),
                np.zeros(len(rank), np.int32),
                ("face",),
            )
            for rank in ranks
        )
        found.append(strong)
        out += ahead.push(Sight(index / 25, (300, 200), None, strong, weak))
    out += ahead.finish()
    assert len(out) == len(frames)
    for strong, tracks in zip(found, out, strict=True):
        assert len(set(tracks.track_ids.tolist())) == len(tracks)
        for box in strong.boxes_xyxy_px.astype(np.float64):
            inset = 0.1 * (box[2:] - box[:2])
            inside = (tracks.boxes_xyxy_px[:, :2] <= box[:2] + inset + 1e-2).all(axis=1)
            inside &= (tracks.boxes_xyxy_px[:, 2:] >= box[2:] - inset - 1e-2).all(axis=1)
            assert inside.any()
