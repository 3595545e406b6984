from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from trt_anon.errors import InputError, UsageError
from trt_anon.evaluate import ClassMap, read_labels

FACES = [[[10, 20, 30, 50], [60, 5, 90, 25]], [], [[0, 0, 100, 80]]]
"""Boxes of three pictures of 100x80, the second without any."""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (100, 80)).save(tmp_path / "images" / "a" / f"{number}.png")
    return tmp_path


def coco(folder, **changes):
    boxes = [(image, box) for image, these in enumerate(FACES) for box in these]
    labels = {
        "images": [{"id": i + 7, "file_name": f"images/a/{i}.png", "width": 100, "height": 80} for i in range(3)],
        "annotations": [
            {
                "id": n + 100,
                "image_id": i + 7,
                "category_id": 3,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": 0,
            }
            for n, (i, (x0, y0, x1, y1)) in enumerate(boxes)
        ],
        "categories": [{"id": 3, "name": "with_mask", "supercategory": "face"}],
    }
    (folder / "annotations.json").write_text(json.dumps(labels | changes))
    return folder


def yolo(folder):
    (folder / "labels" / "a").mkdir(parents=True)
    (folder / "classes.txt").write_text("car\nface\n")
    for number, boxes in enumerate(FACES):
        if not boxes:
            continue  # an image without objects needs no file
        lines = [
            f"1 {(x0 + x1) / 200} {(y0 + y1) / 160} {(x1 - x0) / 100} {(y1 - y0) / 80}" for x0, y0, x1, y1 in boxes
        ]
        (folder / "labels" / "a" / f"{number}.txt").write_text("\n".join(lines) + "\n")
    return folder


def voc(folder, first=1, name="face"):
    (folder / "Annotations" / "a").mkdir(parents=True)
    for number, boxes in enumerate(FACES):
        objects = "".join(
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0 + first}</xmin><ymin>{y0 + first}"
            f"</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in boxes
        )
        (folder / "Annotations" / "a" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.png</filename><size><width>100</width><height>80</height></size>"
            f"{objects}</annotation>"
        )
    return folder


def wider(folder):
    lines = []
    for number, boxes in enumerate(FACES):
        lines += [f"a/{number}.png", str(len(boxes))]
        lines += [f"{x0} {y0} {x1 - x0} {y1 - y0} 0 0 0 0 0 0 " for x0, y0, x1, y1 in boxes] or ["0 0 0 0 0 0 0 0 0 0 "]
    path = folder / "wider_face_val_bbx_gt.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("write", [coco, yolo, voc, wider])
def test_all_formats_say_the_same(folder, write):
    labels = read_labels(write(folder))
    assert labels.class_names == ("face",)
    assert [image.path.relative_to(folder).as_posix() for image in labels.images] == [
        f"images/a/{number}.png" for number in range(3)
    ]
    for image, boxes in zip(labels.images, FACES, strict=True):
        assert image.boxes_xyxy_px == pytest.approx(np.array(boxes, float).reshape(-1, 4))
        assert image.size_px in (None, (100, 80))
        assert not image.ignore.any()
        assert str(boxes) not in repr(image)


def test_voc_that_counts_from_zero(folder):
    labels = read_labels(voc(folder, first=0), label_format="voc0")
    assert labels.images[0].boxes_xyxy_px.tolist() == FACES[0]


def test_images_may_lie_behind_a_link_and_be_named_in_full(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("linked")
    (linked / "images").symlink_to(folder / "images")
    images = [{"id": i + 7, "file_name": str(linked / f"images/a/{i}.png")} for i in range(3)]
    labels = read_labels(coco(linked, images=images))
    assert all(image.path.is_file() for image in labels.images)


def test_what_does_not_count(folder):
    labels = json.loads((coco(folder) / "annotations.json").read_text())
    labels["annotations"][0]["iscrowd"] = 1
    labels["annotations"][1]["ignore"] = 1
    read = read_labels(coco(folder, annotations=labels["annotations"]))
    assert read.images[0].crowd.tolist() == [True, False]
    assert read.images[0].ignore.tolist() == [True, True]
    assert read.images[0].keys.tolist() == [100, 101]
    path = wider(folder)
    path.write_text(path.read_text().replace("60 5 30 20 0 0 0 0", "60 5 30 20 0 0 0 1"))
    assert read_labels(path).images[0].ignore.tolist() == [False, True]
    voc(folder)
    xml = folder / "Annotations" / "a" / "0.xml"
    xml.write_text(xml.read_text().replace("<difficult>0", "<difficult>1", 1))
    assert read_labels(folder, label_format="voc").images[0].ignore.tolist() == [True, False]


def test_class_maps(folder):
    voc(folder, name="person")
    with pytest.raises(UsageError, match=r"'person'.*--class-map"):
        read_labels(folder)
    assert len(read_labels(folder, class_map=ClassMap.parse(["person=face"])).images[0].class_ids) == 2
    both = read_labels(folder, classes=("license_plate", "face"), class_map=ClassMap.parse(["person=plate"]))
    assert both.images[0].class_ids.tolist() == [0, 0]
    with pytest.raises(UsageError, match="no object of face"):
        read_labels(folder, class_map=ClassMap.parse(["person=ignore"]))
    for wrong in ("person", "person=dog", "=face"):
        with pytest.raises(UsageError, match="class map"):
            ClassMap.parse([wrong])


def test_objects_of_other_classes_are_counted_as_left_out(folder):
    labels = json.loads((coco(folder) / "annotations.json").read_text())
    labels["categories"].append({"id": 9, "name": "dog"})
    labels["annotations"][0]["category_id"] = 9
    read = read_labels(coco(folder, annotations=labels["annotations"], categories=labels["categories"]))
    assert read.left_out == {"dog": 1}
    assert sum(len(image.class_ids) for image in read.images) == 2
    assert read.categories == {3: 0}
    ignored = read_labels(folder, classes=("license_plate", "face"), class_map=ClassMap.parse(["dog=ignore"]))
    assert ignored.images[0].ignore.tolist() == [True, True, False]  # in each class
    assert ignored.images[0].class_ids.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "names",
    [
        "names: [car, 'face']",
        'nc: 2\nnames:\n  0: car # first\n  1: "face"\ntrain: x',
        "names:\n- car\n- face\nnc: 2\n",
    ],
)
def test_class_names_of_yolo(folder, names):
    yolo(folder)
    (folder / "classes.txt").unlink()
    with pytest.raises(UsageError, match="--class-names"):
        read_labels(folder, label_format="yolo")
    assert len(read_labels(folder, class_names=("car", "face")).images[0].class_ids) == 2
    (folder / "data.yaml").write_text(names)
    assert read_labels(folder).category_names == ("face",)
    assert read_labels(folder / "labels").images[2].boxes_xyxy_px == pytest.approx(np.array(FACES[2], float))


BAD_COCO = {
    "no list": {"annotations": {}},
    "bbox": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]},
    "bbox text": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, "4"]}]},
    "negative": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, -3, 4]}]},
    "huge": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1e300, 2, 3, 4]}]},
    "huge whole number": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10**400, 2, 3, 4]}]},
    "not a number": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [float("nan"), 2, 3, 4]}]},
    "no such image": {"annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}]},
    "no such category": {"annotations": [{"id": 1, "image_id": 7, "category_id": 4, "bbox": [1, 2, 3, 4]}]},
    "crowd": {"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": [1]}]},
    "entry": {"annotations": [None]},
    "image id": {"images": [{"file_name": "x.png"}], "annotations": []},
    "twice": {"images": [{"id": 7, "file_name": "x.png"}] * 2, "annotations": []},
    "outside": {"images": [{"id": 7, "file_name": "../../etc/passwd"}], "annotations": []},
    "absolute": {"images": [{"id": 7, "file_name": "/etc/passwd"}], "annotations": []},
    "name": {"images": [{"id": 7, "file_name": "a\0b.png"}], "annotations": []},
    "true": {"images": [{"id": True, "file_name": "a.png"}], "annotations": []},
    "size": {"images": [{"id": 7, "file_name": "a.png", "width": 0, "height": 3}], "annotations": []},
    "half a size": {"images": [{"id": 7, "file_name": "a.png", "width": 9}], "annotations": []},
    "category": {"categories": [{"id": 3}]},
}


@pytest.mark.parametrize("name", BAD_COCO)
def test_hostile_coco_is_an_error_that_names_the_file(folder, name):
    with pytest.raises(InputError, match=r"annotations\.json"):
        read_labels(coco(folder, **BAD_COCO[name]))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100000, b"\xff\xfe\x00", b"[1, 2]", b"null", b'{"images": 1e999}', b"[NaN]"]
)
def test_what_is_no_json_is_an_error(tmp_path, text):
    (tmp_path / "annotations.json").write_bytes(text)
    with pytest.raises(InputError, match=r"annotations\.json"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "1 0.5 0.5 0.2",
        "1 0.5 0.5 0.2 0.2 0.9",
        "face 0.5 0.5 0.2 0.2",
        "1 nan 0.5 0.2 0.2",
        "1 50 40 20 10",
        "9 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "1 0.5 0.5 -0.2 0.2",
        "1 inf 0.5 0.2 0.2",
        "1.5 0.5 0.5 0.2 0.2",
    ],
)
def test_hostile_yolo_is_an_error_that_names_the_line(folder, line):
    yolo(folder)
    (folder / "labels" / "a" / "0.txt").write_text("1 0.5 0.5 0.2 0.2\n" + line)
    with pytest.raises(InputError, match=r"0\.txt, line 2"):
        read_labels(folder)


def test_yolo_labels_of_other_images_are_an_error(folder):
    yolo(folder)
    for path in (folder / "labels" / "a").glob("*.txt"):
        path.rename(path.with_name("x" + path.name))
    with pytest.raises(InputError, match="no label file belongs to an image"):
        read_labels(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<annotation>", "<!DOCTYPE a [<!ENTITY x 'y'>]><annotation>"),
        ("<annotation>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><annotation>"),
        ("</annotation>", ""),
        ("annotation>", "html>"),
        ("<xmin>11</xmin>", ""),
        ("<xmin>11</xmin>", "<xmin>x</xmin>"),
        ("<xmin>11</xmin>", "<xmin>nan</xmin>"),
        ("<xmin>11</xmin>", "<xmin>1e99</xmin>"),
        ("<xmin>11</xmin>", "<xmin>99</xmin>"),
        ("<name>face</name>", ""),
        ("<difficult>0<", "<difficult>maybe<"),
        ("<width>100<", "<width>nan<"),
        ("<width>100<", "<width>1.5<"),
        ("0.png", "../../../../etc/passwd"),
    ],
)
def test_hostile_xml_is_an_error_that_names_the_file(folder, old, new):
    voc(folder)
    path = folder / "Annotations" / "a" / "0.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=r"0\.xml"):
        read_labels(folder)


def test_an_xml_file_without_its_image_is_an_error(folder):
    voc(folder)
    (folder / "images" / "a" / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.xml: neither"):
        read_labels(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a/0.png\n2", "a/0.png\nmany"),
        ("a/0.png\n2", "a/0.png\n-2"),
        ("a/0.png\n2", "a/0.png\n20"),
        ("a/0.png\n2", "a/0.png\n1"),
        ("10 20 20 30", "10 20 20"),
        ("10 20 20 30", "10 20 x 30"),
        ("10 20 20 30", "10 20 -20 30"),
        ("10 20 20 30", "inf 20 20 30"),
        ("a/1.png", "a/0.png"),
        ("a/1.png", "../1.png"),
        ("a/1.png", "/1.png"),
    ],
)
def test_hostile_wider_is_an_error_that_names_the_line(folder, old, new):
    path = wider(folder)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match="line"):
        read_labels(path)


def test_what_cannot_be_labels(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none")
    with pytest.raises(UsageError, match="--format"):
        read_labels(tmp_path)
    with pytest.raises(UsageError, match="unknown label format"):
        read_labels(tmp_path, label_format="csv")
    (tmp_path / "labels.txt").write_text("\n")
    with pytest.raises(InputError, match="no image"):
        read_labels(tmp_path / "labels.txt")
    with pytest.raises(UsageError, match="folder"):
        read_labels(tmp_path / "labels.txt", label_format="yolo")
    with pytest.raises(InputError, match="no images in it"):
        read_labels(tmp_path, label_format="yolo", class_names=("face",))
    with pytest.raises(InputError, match="no XML"):
        read_labels(tmp_path, label_format="voc")
    with pytest.raises(InputError, match="no folder of images"):
        read_labels(tmp_path, label_format="yolo", images=tmp_path / "none", class_names=("face",))
