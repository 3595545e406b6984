"""Several scales and several detectors as one, with models whose answers are known."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_anon.api import make_config
from trt_anon.config import AnonymizeConfig, Scale
from trt_anon.detect.base import Candidates
from trt_anon.errors import ModelError, UsageError
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import Detector, FrameDetector, choose_recipes, with_growth
from trt_anon.runtime.base import TensorSpec
from trt_anon.types import PIXEL_FORMATS, Frame, InputSpec, Orientation


class Spots:
    """A family whose network gives its own input back: it finds bright squares on black, one per class by channel."""

    name = "spots"
    input_spec = InputSpec(channels="rgb")
    output_names = ("picture",)

    def __init__(self, classes: int = 1, marks: int = 0, distinct: bool = False) -> None:
        self._classes = classes
        self._marks = marks
        self._distinct = distinct

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        picture = outputs["picture"][0]
        assert picture.shape[:2] == input_hw_px
        boxes, scores, ids = [], [], []
        for class_id in range(self._classes):
            rows, columns = np.nonzero(picture[..., class_id] > 100)
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                scores.append(picture[..., class_id].max() / 255)
                ids.append(class_id)
        score = np.array(scores, np.float32)
        keep = score >= threshold
        box = np.array(boxes, np.float32).reshape(-1, 4)[keep]
        marks = np.repeat(box[:, None, :2], self._marks, axis=1) if self._marks else None
        return [Candidates(box, score[keep], np.array(ids, np.int32)[keep], marks, distinct=self._distinct)]


class Mirror:
    """A runner that gives its input back, and remembers the sizes it saw."""

    inputs = (TensorSpec("image", np.dtype(np.uint8), (None, None, None, 3)),)
    outputs = (TensorSpec("picture", np.dtype(np.uint8), (None, None, None, 3)),)
    concurrency = 1

    def __init__(self, fail_at: int | None = None) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.closed = 0
        self._fail_at = fail_at

    def submit(self, feeds: Mapping[str, NDArray[Any]]) -> Mirror._Pending:
        picture = feeds["image"]
        if self._fail_at == len(self.sizes):
            raise ModelError("the device is gone")
        self.sizes.append((picture.shape[2], picture.shape[1]))
        return Mirror._Pending({"picture": picture.copy()})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return self.submit(feeds).result()

    def close(self) -> None:
        self.closed += 1

    class _Pending:
        def __init__(self, outputs: dict[str, NDArray[Any]]) -> None:
            self._outputs = outputs

        def result(self) -> dict[str, NDArray[Any]]:
            return self._outputs


def frame(*squares: tuple[int, int, int, int, int], size: tuple[int, int] = (320, 192), orientation: int = 1) -> Frame:
    """A black picture with squares (x, y, side, channel, value)."""
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    for x, y, side, channel, value in squares:
        picture[y : y + side, x : x + side, channel] = value
    return Frame((picture,), PIXEL_FORMATS["rgb24"], width, height, orientation=Orientation(orientation))


def detector(
    runner: Mirror, *scales: Scale, classes: tuple[int | None, ...] = (0,), threshold: float = 0.5, **family: Any
) -> Detector:
    return Detector(Spots(len(classes), **family), runner, scales or (Scale(),), classes, threshold)


def test_boxes_come_back_in_the_frames_own_pixels_from_every_scale() -> None:
    runner = Mirror()
    scales = (Scale(), Scale(min_long_side_px=640, max_long_side_px=640), Scale(max_long_side_px=160))
    together = FrameDetector([detector(runner, *scales)], ["face"], 0.4)
    found = together.submit(frame((64, 32, 48, 0, 255))).result()
    assert runner.sizes == [(320, 192), (640, 384), (160, 96)]
    assert len(found) == 1, "what several passes saw is one object"
    np.testing.assert_allclose(found.boxes_xyxy_px, [[64, 32, 112, 80]], atol=2)


def test_a_pass_that_only_one_scale_sees_is_kept() -> None:
    # Shrunk to a fifth, a square of two pixels fades below the threshold.
    shrunk = FrameDetector([detector(Mirror(), Scale(max_long_side_px=64))], ["face"], 0.4)
    assert not len(shrunk.submit(frame((101, 51, 2, 0, 255))).result())
    both = FrameDetector([detector(Mirror(), Scale(max_long_side_px=64), Scale())], ["face"], 0.4)
    found = both.submit(frame((101, 51, 2, 0, 255))).result()
    np.testing.assert_allclose(found.boxes_xyxy_px, [[101, 51, 103, 53]], atol=1)


def test_scales_that_come_to_the_same_size_run_once() -> None:
    runner = Mirror()
    scales = (Scale(), Scale(max_long_side_px=400), Scale(min_long_side_px=64))
    together = FrameDetector([detector(runner, *scales)], ["face"], 0.4)
    together.submit(frame()).result()
    assert runner.sizes == [(320, 192)]


def test_several_detectors_are_merged_best_first_with_their_own_landmarks() -> None:
    first = detector(Mirror(), marks=5)
    second = detector(Mirror(), classes=(None, 0), threshold=0.9)  # finds faces as its class 1, in green
    together = FrameDetector([first, second], ["face"], 0.4)
    found = together.submit(frame((40, 40, 40, 0, 200), (200, 100, 60, 1, 255))).result()
    np.testing.assert_allclose(found.boxes_xyxy_px, [[200, 100, 260, 160], [40, 40, 80, 80]], atol=0.5)
    np.testing.assert_allclose(found.scores, [1.0, 200 / 255], atol=0.01)
    assert found.landmarks_px is not None
    assert found.landmarks_px.shape == (2, 5, 2)
    assert np.isnan(found.landmarks_px[0]).all(), "the second detector has no landmarks"
    np.testing.assert_allclose(found.landmarks_px[1], np.full((5, 2), 40.0), atol=0.5)
    # Where both see the same object there is one, with the better score.
    same = together.submit(frame((40, 40, 40, 0, 200), (41, 40, 40, 1, 255))).result()
    assert same.scores.tolist() == [1.0]


def test_classes_that_are_not_wanted_are_left_out_and_the_others_renumbered() -> None:
    # The model knows (person, plate, face); faces and plates are asked for, in this order.
    together = FrameDetector([detector(Mirror(), classes=(None, 1, 0))], ["face", "license_plate"], 0.4)
    found = together.submit(frame((10, 10, 30, 0, 255), (100, 10, 30, 1, 250), (200, 10, 30, 2, 240))).result()
    assert [found.class_names[i] for i in found.class_ids] == ["license_plate", "face"]
    np.testing.assert_allclose(found.boxes_xyxy_px[:, 0], [100, 200], atol=0.5)
    assert len(together.submit(frame((10, 10, 30, 0, 255))).result()) == 0


def test_objects_of_different_classes_at_one_place_both_stay() -> None:
    together = FrameDetector([detector(Mirror(), classes=(0, 1))], ["face", "license_plate"], 0.4)
    found = together.submit(frame((40, 40, 40, 0, 255), (40, 40, 40, 1, 255))).result()
    assert sorted(found.class_ids.tolist()) == [0, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_those_of_the_upright_picture(orientation: int) -> None:
    upright = np.zeros((192, 320, 3), np.uint8)
    upright[20:60, 200:264, 0] = 255
    from trt_anon.geometry import turn_upright

    # The stored picture is the one whose turned view is `upright`: turn indices, then scatter.
    wanted = Orientation(orientation)
    width, height = (192, 320) if wanted.swaps_axes else (320, 192)
    places = turn_upright(np.arange(width * height).reshape(height, width), wanted)
    picture = np.zeros((width * height, 3), np.uint8)
    picture[places.ravel()] = upright.reshape(-1, 3)
    stored = Frame((picture.reshape(height, width, 3),), PIXEL_FORMATS["rgb24"], width, height, orientation=wanted)
    together = FrameDetector([detector(Mirror())], ["face"], 0.4)
    found = together.submit(stored).result()
    np.testing.assert_allclose(found.boxes_xyxy_px, [[200, 20, 264, 60]], atol=0.5)


def test_frames_of_many_sizes_do_not_pile_up() -> None:
    one = detector(Mirror())
    together = FrameDetector([one], ["face"], 0.4)
    for width in range(64, 64 + 300):
        found = together.submit(frame((8, 8, 20, 0, 255), size=(width, 48))).result()
        np.testing.assert_allclose(found.boxes_xyxy_px, [[8, 8, 28, 28]], atol=0.5)
    assert len(one._views) <= 257


def test_threads_share_a_detector() -> None:
    together = FrameDetector([detector(Mirror(), Scale(), Scale(max_long_side_px=160))], ["face"], 0.4)
    wrong: list[int] = []

    def work(x: int) -> None:
        for _ in range(20):
            found = together.submit(frame((x, 40, 40, 0, 255), size=(320 + x, 192))).result()
            if len(found) != 1 or abs(found.boxes_xyxy_px[0, 0] - x) > 2:
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in (16, 32, 64, 128)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_failing_detector_fails_the_frame() -> None:
    together = FrameDetector([detector(Mirror()), detector(Mirror(fail_at=0))], ["face"], 0.4)
    with pytest.raises(ModelError, match="device is gone"):
        together.submit(frame())


def test_close_frees_every_model() -> None:
    runners = [Mirror(), Mirror()]
    FrameDetector([detector(r) for r in runners], ["face"], 0.4).close()
    assert [r.closed for r in runners] == [1, 1]


# --- choosing


def test_the_default_detector_of_each_class_is_taken(tmp_path: Any) -> None:
    registry = Registry(models_dir=tmp_path)
    assert [r.name for r in choose_recipes(AnonymizeConfig(), registry)] == ["yunet"]
    both = make_config(classes=("license_plate", "face"))
    assert [r.name for r in choose_recipes(both, registry)] == ["plates", "yunet"]


def test_each_class_grows_as_much_as_the_most_careful_of_its_own_detectors(tmp_path: Any) -> None:
    registry = Registry(models_dir=tmp_path)
    config = make_config(classes=("face", "license_plate"))
    face, plate = choose_recipes(config, registry)
    recipes = [face.model_copy(update={"grow": 1.1}), face.model_copy(update={"grow": 1.2}), plate]
    grown = with_growth(config, recipes).redact
    assert (grown.growth_of("face"), grown.growth_of("license_plate")) == (1.2, plate.grow)
    chosen = with_growth(make_config(config, grow=2.0), recipes).redact
    assert (chosen.growth_of("face"), chosen.growth_of("license_plate"), chosen.growth) == (2.0, 2.0, 2.0)


def test_beside_a_default_detector_look_those_of_its_preset_that_are_here(tmp_path: Any) -> None:
    recipes = tmp_path / "recipes"
    (recipes / "plates").mkdir(parents=True)
    own = Path(__file__).parents[2] / "engines"
    for name in ("plates.toml", "plates/plates.onnx"):
        shutil.copy(own / name, recipes / name)
    registry = Registry(models_dir=tmp_path, recipes_dir=recipes)
    thorough = make_config(classes=("license_plate",), preset="thorough")
    assert registry.get("plates").presets["thorough"].beside == ("lpd-yunet",)
    assert [r.name for r in choose_recipes(thorough, registry)] == ["plates"]  # it has no recipe here
    other = (own / "lpd-yunet.toml").read_text()
    (recipes / "lpd-yunet.toml").write_text(other)
    assert [r.name for r in choose_recipes(thorough, Registry(tmp_path, recipes))] == ["plates"]  # nor a file
    pinned = Registry(tmp_path, recipes).get("lpd-yunet")
    stand_in = other.replace(pinned.sha256, hashlib.sha256(b"x").hexdigest()).replace(str(pinned.size_bytes), "1")
    (recipes / "lpd-yunet.toml").write_text(stand_in)
    (recipes / pinned.source.path).write_bytes(b"x")
    there = Registry(tmp_path, recipes)
    assert [r.name for r in choose_recipes(thorough, there)] == ["plates", "lpd-yunet"]
    assert [r.name for r in choose_recipes(make_config(classes=("license_plate",)), there)] == ["plates"]
    alone = make_config(classes=("license_plate",), preset="thorough", detectors=("plates",))
    assert [r.name for r in choose_recipes(alone, there)] == ["plates"]


def test_named_detectors_are_taken_once_and_must_find_what_is_wanted(tmp_path: Any) -> None:
    registry = Registry(models_dir=tmp_path)
    named = make_config(detectors=("centerface", "yunet", "centerface"))
    assert [r.name for r in choose_recipes(named, registry)] == ["centerface", "yunet"]
    with pytest.raises(UsageError, match="none of the detectors"):
        choose_recipes(make_config(detectors=("yunet",), classes=("face", "license_plate")), registry)
    with pytest.raises(UsageError, match="unknown detector"):
        choose_recipes(make_config(detectors=("nobody",)), registry)


def test_a_class_without_default_detector_says_how_to_name_one(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="--detector"):
        choose_recipes(AnonymizeConfig(), Registry(models_dir=tmp_path, recipes_dir=tmp_path))


def test_what_was_loaded_is_freed_when_the_next_cannot_be(monkeypatch: pytest.MonkeyPatch, faces: ModuleType) -> None:
    from trt_anon.pipeline import detection

    made: list[Mirror] = []

    def open_runner(*_: Any) -> Mirror:
        if made:
            raise ModelError("the second does not load")
        made.append(Mirror())
        return made[0]

    monkeypatch.setattr(detection, "open_runner", open_runner)
    monkeypatch.setattr(Registry, "prepared", lambda *_: None)
    with pytest.raises(ModelError, match="second"):
        FrameDetector.load(make_config(detectors=("yunet", "centerface")), Registry())
    assert made[0].closed == 1
