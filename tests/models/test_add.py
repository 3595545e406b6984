"""A detector is added from its ONNX file and then finds things by name; what cannot be added leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from trt_anon.config import AnonymizeConfig, DetectConfig
from trt_anon.errors import ConfigError, ModelError, ModelMissing, UsageError
from trt_anon.models.add import Wish, add_model
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.types import PIXEL_FORMATS, Detections, Frame


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("MODELS", "RECIPES", "CACHE"):
        monkeypatch.setenv(f"TRT_ANON_{name}", str(tmp_path / name.lower()))
    return tmp_path


def left_over(folder: Path) -> list[str]:
    return sorted(p.name for kind in ("models", "recipes") for p in (folder / kind).rglob("*") if p.is_file())


def detect(name: str, pixels: np.ndarray, kind: str = "face") -> Detections:
    config = AnonymizeConfig(detect=DetectConfig(classes=(kind,), detectors=(name,)))
    detector = FrameDetector.load(config, Registry())
    try:
        frame = Frame((np.ascontiguousarray(pixels),), PIXEL_FORMATS["rgb24"], pixels.shape[1], pixels.shape[0])
        return detector.submit(frame).result()
    finally:
        detector.close()


def with_a_face(made, dtype=np.float32):
    rows = made.rows(made.P, 7)
    rows[0, 5] = (48, 32, 20, 30, 0.01, 0.9, 0.8)  # a person of 0.9 and a face of 0.8
    return {"o": rows.astype(dtype)}


NAMES = {"names": "{0: 'car', 1: 'person', 2: 'Face'}"}


@pytest.mark.parametrize(
    ("shape", "element"),
    [
        (("N", 3, 64, 96), TensorProto.FLOAT),
        ((1, 3, 64, 96), TensorProto.FLOAT16),
        ((1, 64, 96, 3), TensorProto.FLOAT),
        (("N", 64, 96, 3), TensorProto.UINT8),
        ((3, 64, 96), TensorProto.FLOAT16),
    ],
)
def test_every_kind_of_input_ends_in_boxes(made, folders, shape, element):
    dtype = np.float16 if element == TensorProto.FLOAT16 else np.float32
    file = made.save(made.detector(with_a_face(made, dtype), shape, element, NAMES), folders / "Own Model.onnx")
    added = add_model(file, Wish(), Registry())
    assert added.recipe.name == "own-model"
    assert added.recipe.family == "yolov8"
    assert added.recipe.classes == ("car", "person", "face")
    assert added.recipe.input.size_px == (96, 64)
    assert added.recipe.batch == ("free" if len(shape) == 4 else "one")
    assert added.recipe.licence.spdx == "LicenseRef-unknown"
    assert any("class 'Face' is redacted as 'face'" in note for note in added.notes)
    found = detect("own-model", np.zeros((128, 192, 3), np.uint8))
    # the best class of the place is the person, which is not redacted
    assert len(found) == 0
    again = add_model(
        file, Wish(name="both", options={"multi_label": True}, redact_as={"person": "face", "0": "plate"}), Registry()
    )
    assert again.recipe.classes == ("license_plate", "face", "face")
    found = detect("both", np.zeros((128, 192, 3), np.uint8))
    assert found.boxes_xyxy_px[0] == pytest.approx((76, 34, 116, 94), abs=1)
    assert found.scores[0] == pytest.approx(0.9, abs=1e-2)


def test_a_batch_that_cannot_be_freed_is_run_one_by_one(made, folders):
    model = made.detector(with_a_face(made), (1, 3, 64, 96), metadata=NAMES)
    # moves the batch away from the first axis, where no patch can follow
    model.graph.node[-1].output[0] = "rows"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, made.P // 2, 7], np.int64), "t1"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, made.P, 7], np.int64), "t2"))
    model.graph.node.extend(
        [
            helper.make_node("Transpose", ["rows"], ["moved"], perm=[1, 0, 2]),
            helper.make_node("Reshape", ["moved", "t1"], ["four"]),
            helper.make_node("Reshape", ["four", "t2"], ["o"]),
        ]
    )
    added = add_model(made.save(model, folders / "m.onnx"), Wish(redact_as={"person": "face"}), Registry())
    assert added.recipe.batch == "one"
    assert any("one picture at a time" in note for note in added.notes)
    assert len(detect("m", np.zeros((64, 96, 3), np.uint8))) == 1


def test_several_pictures_that_cannot_be_freed_are_refused(made, folders):
    model = made.detector(with_a_face(made), (4, 3, 64, 96), metadata=NAMES, ties_batch=True)
    with pytest.raises(ModelError):
        add_model(made.save(model, folders / "m.onnx"), Wish(), Registry())
    assert left_over(folders) == []


def test_the_recipe_says_what_the_user_said(made, folders):
    file = made.save(made.detector(with_a_face(made), metadata=NAMES), folders / "m.onnx")
    wish = Wish(
        name="mine",
        classes=("a", 'b "quoted" \\ \x7f', "face"),
        threshold=0.7,
        licence="MIT",
        input={"channels": "bgr", "mean": [1, 2, 3]},
        output=folders / "out",
    )
    added = add_model(file, wish, Registry())
    registry = Registry()
    read = registry.get(folders / "out" / "mine.toml")
    assert read == added.recipe
    assert (read.threshold, read.licence.spdx, read.classes) == (0.7, "MIT", wish.classes)
    assert (read.input.channels, read.input.mean) == ("bgr", (1, 2, 3))
    assert left_over(folders) == []  # the recipe and the model are in a folder of their own
    assert registry.locate(read).parent == folders / "out"


def test_without_a_copy_the_file_stays_where_it_is(made, folders):
    (folders / "here").mkdir()
    file = made.save(made.detector(with_a_face(made), metadata=NAMES), folders / "here" / "m.onnx")
    with pytest.raises(UsageError, match=r"--no-copy: .* must lie in"):
        add_model(file, Wish(copy=False), Registry())
    added = add_model(file, Wish(copy=False, output=folders / "here"), Registry())
    assert added.model_path == file
    registry = Registry()
    assert registry.locate(registry.get(added.recipe_path)) == file
    assert sorted(p.name for p in (folders / "here").iterdir()) == ["m.onnx", "m.toml"]


def test_a_name_is_taken_once(made, folders):
    file = made.save(made.detector(with_a_face(made), metadata=NAMES), folders / "yunet.onnx")
    with pytest.raises(UsageError, match="'yunet' is there already"):
        add_model(file, Wish(), Registry())
    add_model(file, Wish(name="mine"), Registry())
    with pytest.raises(UsageError, match="'mine' is there already"):
        add_model(file, Wish(name="mine"), Registry())
    assert "mine" in Registry().names()
    (folders / "recipes" / "mine.toml").rename(folders / "recipes" / "yunet.toml")
    text = (folders / "recipes" / "yunet.toml").read_text()
    (folders / "recipes" / "yunet.toml").write_text(text.replace('name = "mine"', 'name = "yunet"'))
    with pytest.raises(UsageError, match=r"yunet\.toml: a detector named 'yunet' comes with the library"):
        Registry()


@pytest.mark.parametrize("name", ["../up", "A", "", "a/b", ".hidden"])
def test_names_that_are_none(made, folders, name):
    file = made.save(made.detector(with_a_face(made), metadata=NAMES), folders / "m.onnx")
    if name:
        with pytest.raises(ConfigError, match="name"):
            add_model(file, Wish(name=name), Registry())
        assert left_over(folders) == []
        assert not (folders / "up.toml").exists()
    else:
        assert add_model(file, Wish(name=name), Registry()).recipe.name == "m"


def test_other_outputs_than_the_family_expects_are_shown(made, folders):
    file = made.save(made.detector(with_a_face(made)), folders / "m.onnx")
    with pytest.raises(
        ModelError, match=r"no output of the expected shape \(any, 8, 126\); the model gave 'o' \(1, 126, 7\)"
    ):
        add_model(file, Wish(family="yolov8", classes=("face", "b", "c", "d")), Registry())
    with pytest.raises(ModelError, match="no output 'cls_8'; it has o"):
        add_model(file, Wish(family="yunet"), Registry())
    assert left_over(folders) == []


def test_a_wrong_reading_shows_in_a_black_picture(made, folders):
    file = made.save(made.detector({"mask": np.full((1, 1, 64, 96), 0.6, np.float32)}), folders / "m.onnx")
    added = add_model(file, Wish(classes=("face",)), Registry())
    assert any("finds 1 objects in a black picture" in note for note in added.notes)
    many = {"scores": np.full((1, 4420, 2), 0.5, np.float32), "boxes": made.SHARES}
    file = made.save(made.detector(many, (1, 3, 240, 320)), folders / "n.onnx")
    with pytest.raises(ModelError, match=r"finds 4420 objects in a black picture.*background"):
        add_model(file, Wish(classes=("face",)), Registry())


def test_scores_that_are_none_are_refused(made, folders):
    rows = made.rows(made.P, 7)
    rows[..., 4:] = -3
    file = made.save(made.detector({"o": rows}, metadata=NAMES), folders / "m.onnx")
    with pytest.raises(ModelError, match=r"outside \[0, 1\]"):
        add_model(file, Wish(), Registry())
    assert left_over(folders) == []


def test_classes_are_asked_for(made, folders):
    file = made.save(made.detector({"o": made.rows(made.P, 7).transpose(0, 2, 1).copy()}), folders / "m.onnx")
    with pytest.raises(
        UsageError, match=r"none of its classes is redacted: 0 class_0, 1 class_1, 2 class_2\..*--redact-as"
    ):
        add_model(file, Wish(), Registry())
    with pytest.raises(UsageError, match="has no class '7'"):
        add_model(file, Wish(redact_as={"7": "face"}), Registry())
    with pytest.raises(UsageError, match="only face and license_plate are redacted"):
        add_model(file, Wish(redact_as={"0": "person"}), Registry())
    finished = made.save(made.detector(made.CASES["yolo-e2e"].outputs), folders / "e.onnx")
    with pytest.raises(UsageError, match="do not show how many classes"):
        add_model(finished, Wish(), Registry())


def test_anchors_are_asked_for(made, folders):
    case = made.CASES["yolov3, two heads"]
    file = made.save(made.detector(case.outputs), folders / "m.onnx")
    wish = Wish(family="yolov3", classes=("face", "a", "b"))
    with pytest.raises(UsageError, match=r"pass --option anchors_px=.* and --option masks="):
        add_model(file, wish, Registry())
    added = add_model(file, Wish(family="yolov3", classes=wish.classes, options=case.give), Registry())
    assert added.recipe.family_options["masks"] == [[0, 1, 2], [3, 4, 5]]


def test_a_size_is_freed_only_on_demand(made, folders):
    name = made.CASES["segmentation"]
    file = made.save(made.detector(name.outputs, (1, 3, 64, 96)), folders / "m.onnx")
    added = add_model(file, Wish(classes=("face",), free_size=True), Registry())
    assert added.recipe.input is None
    assert added.recipe.scales[0].max_long_side_px == 1920


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x08\x07" * 500, b"\0" * 4096])
def test_files_that_are_no_models_are_refused(folders, data):
    (folders / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX file"):
        add_model(folders / "m.onnx", Wish(), Registry())
    assert left_over(folders) == []


def test_a_missing_file(folders):
    with pytest.raises(ModelMissing, match="no such model file"):
        add_model(folders / "none.onnx", Wish(), Registry())


def test_a_recipe_that_cannot_be_written_leaves_no_model(made, folders):
    file = made.save(made.detector(with_a_face(made), metadata=NAMES), folders / "m.onnx")
    (folders / "recipes").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match="cannot write"):
        add_model(file, Wish(), Registry())
    assert left_over(folders) == []
