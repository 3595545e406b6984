"""The pictures that the plate detector is trained on and judged by: none is on both sides."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "engines" / "plates"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    names = ("data", "scenes", "render")
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("data")
    for name in names:
        sys.modules.pop(name, None)


def _photo(data: ModuleType, seed: int, boxes: list[tuple[int, ...]], name: str, *, enlarged: int = 1) -> Any:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
    return data.Photo(pixels, np.array(boxes, np.float32).reshape(-1, 4) * enlarged, name)


def test_copies_are_one_picture_with_the_plates_of_all(data: ModuleType) -> None:
    one, other = (10, 10, 30, 20), (40, 40, 60, 50)
    photos = [
        _photo(data, 1, [one], "a"),
        _photo(data, 2, [], "b"),
        _photo(data, 1, [other], "c"),
        _photo(data, 1, [(11, 10, 30, 20)], "d", enlarged=2),
        _photo(data, 2, [one], "e"),
    ]
    joined = data.join_copies(photos)
    assert [photo.name for photo in joined] == ["a", "b"]
    assert joined[0].boxes.tolist() == [list(one), list(other)]
    assert joined[1].boxes.tolist() == [list(one)]


def test_no_picture_is_trained_on_and_judged(data: ModuleType, data_dir: Path) -> None:
    photos = [photo for photo in data.load_cars(data_dir) if photo.name.startswith("carplate433/")]
    exact = [(photo.pixels.shape, photo.pixels.tobytes()) for photo in photos]
    assert len(set(exact)) == len(exact)
    assert len(photos) == 174  # of 217, as the model card says
    assert sum(len(photo.boxes) for photo in photos) == 196


def test_plates_seen_by_eye_are_trained_on_and_not_judged_by(data: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled, seen = (10, 10, 30, 20), (40, 40, 60, 50)
    monkeypatch.setattr(data, "UNLABELLED", {"a": [list(seen), [11, 10, 30, 20]]})
    photos = [_photo(data, 1, [labelled], "a"), _photo(data, 2, [labelled], "b")]
    completed = data.with_unlabelled(photos)
    assert [photo.boxes.tolist() for photo in completed] == [[list(labelled), list(seen)], [list(labelled)]]
    assert photos[0].boxes.tolist() == [list(labelled)]


def test_pictures_without_plates_are_looked_at_where_a_network_was_mistaken(data: ModuleType) -> None:
    scenes = sys.modules["scenes"]
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[300:320, 500:540] = 255
    settings = scenes.Settings(side_px=64, free=1, plated=0, signs=0, mosaic=0, mistaken=1)
    shares = []
    for mistaken in (np.zeros((0, 4), np.float32), np.array([(500, 300, 540, 320)], np.float32)):
        photo = data.Photo(pixels, np.zeros((0, 4), np.float32), "a", mistaken)
        maker = scenes.SceneMaker([], [photo], None, settings)
        rng = np.random.default_rng(0)
        views = [maker._view(rng, photo, 64) for _ in range(100)]
        assert not any(len(boxes) for _, boxes in views)
        shares.append(np.mean([view.max() > 128 for view, _ in views]))
    assert shares[0] < 0.4
    assert shares[1] > 0.8
