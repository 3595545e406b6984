"""What the small picture says: the camera's motion, an object's, and where a shot begins."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from trt_anon.track import motion
from trt_anon.track.cuts import CutFinder
from trt_anon.track.kalman import Warp
from trt_anon.track.motion import camera_motion, context, follow, patch
from trt_anon.track.tracker import Tracker

STANDS = Warp.identity()
STILL = (160.0, 90.0, 30.0)


def test_the_cameras_shift_is_found_below_a_pixel(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: STILL], camera=lambda i: (2.3 * i, -1.4 * i))
    warp, share = camera_motion(scene.picture(0), scene.picture(1))
    np.testing.assert_allclose(warp.shift, [2.3, -1.4], atol=0.2)
    np.testing.assert_allclose(warp.matrix, np.eye(2), atol=5e-3)
    assert share > 0.8


def test_a_jump_of_the_camera_is_found_too(scenes: ModuleType) -> None:
    scene = scenes.Scene([], camera=lambda i: (70.0 * i, -31.0 * i))
    warp, share = camera_motion(scene.picture(0), scene.picture(1))
    np.testing.assert_allclose(warp.shift, [70, -31], atol=0.5)
    assert share > 0.4


def test_between_unlike_pictures_there_is_no_motion(scenes: ModuleType) -> None:
    scene = scenes.Scene([], cuts=[1])
    warp, share = camera_motion(scene.picture(0), scene.picture(1))
    assert share < 0.4
    np.testing.assert_array_equal(warp.matrix, np.eye(2))
    np.testing.assert_array_equal(warp.shift, 0)


def test_what_lies_in_a_box_is_followed_while_the_background_stands(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (60 + 3.0 * i, 90 - 1.0 * i, 24)])
    box = scene.box(0, 0)
    shift = follow(scene.picture(0), scene.picture(1), box[None], [patch(scene.picture(0), context(box))], STANDS)[0]
    assert shift is not None
    np.testing.assert_allclose(shift, [3, -1], atol=0.5)


def test_what_is_covered_or_gone_is_lost(scenes: ModuleType) -> None:
    scene = scenes.Scene([lambda i: (60, 90, 24) if i == 0 else None])
    box = scene.box(0, 0)
    assert (
        follow(scene.picture(0), scene.picture(1), box[None], [patch(scene.picture(0), context(box))], STANDS)[0]
        is None
    )
    away = np.array([-40.0, 50.0, -20.0, 70.0])
    assert (
        follow(scene.picture(0), scene.picture(0), away[None], [patch(scene.picture(0), context(away))], STANDS)[0]
        is None
    )


@pytest.mark.parametrize("camera", [lambda i: (0.0, 0.0), lambda i: (9.0 * i, 0.0)])
def test_a_cut_is_found_and_nothing_else_is_taken_for_one(scenes: ModuleType, camera: object) -> None:
    scene = scenes.Scene([lambda i: (20 + 10.0 * i, 90, 60)], cuts=[6], camera=camera)
    finder, last, cuts = CutFinder(), None, []
    for index in range(12):
        picture = scene.picture(index)
        share = 0.0 if last is None else camera_motion(last, picture)[1]
        if finder.is_cut(picture, lambda share=share: share):
            cuts.append(index)
        last = picture
    assert cuts == [0, 6]


def test_a_camera_that_rests_is_known_and_one_that_moves_is_not_taken_for_one(scenes: ModuleType) -> None:
    noise = np.random.default_rng(0)
    for shift, rests in ((0.0, True), (0.3, False), (4.0, False)):
        scene = scenes.Scene([lambda i: (60 + 3.0 * i, 90, 40)], camera=lambda i, s=shift: (s * i, 0.0))
        finder = CutFinder()
        for index in range(10):
            picture = scene.picture(index).astype(np.float32) + noise.normal(0, 1, scene.picture(index).shape)
            finder.is_cut(picture.clip(0, 255).astype(np.uint8), lambda: 1.0)
            if index:
                assert finder.is_still == rests


def test_a_flash_is_no_cut_and_black_is_one(scenes: ModuleType) -> None:
    picture = scenes.Scene([]).picture(0)
    finder = CutFinder()
    finder.is_cut(picture, lambda: 0.0)
    assert not finder.is_cut(np.minimum(picture.astype(int) // 2 + 120, 255).astype(np.uint8), lambda: 0.0)
    assert finder.is_cut(np.full_like(picture, 16), lambda: 0.0)
    assert not finder.is_cut(np.full_like(picture, 16), lambda: 0.0)
    assert finder.is_cut(picture, lambda: 0.0)


def test_the_cameras_motion_is_found_only_where_it_is_asked_for(
    scenes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(motion, "camera_motion", lambda *pictures: (asked.append(1), camera_motion(*pictures))[1])
    for path, speed, first, last in (
        (lambda i: None, 2.0, 0, 1),  # nothing is in sight
        (lambda i: (60 + i, 90, 24), 2.0, 5, 5),
        (lambda i: (60 + i, 90, 24), 0.0, 0, 0),  # the camera rests
    ):
        scene = scenes.Scene([path], camera=lambda i, s=speed: (s * i, 0.0))
        tracker = Tracker(1.0, scenes.THRESHOLDS)
        asked.clear()
        moments = [tracker.advance(scene.sight(index)) for index in range(6)]
        assert len(asked) == first
        np.testing.assert_allclose(moments[-1].warp.shift, (speed, 0), atol=0.2)
        assert len(asked) == last
