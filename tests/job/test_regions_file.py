"""Regions by hand from our own JSON, from CVAT and from COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trt_anon.errors import ConfigError, InputError, TrtAnonError
from trt_anon.job.regions_file import json_schema, read_regions
from trt_anon.regions.timeline import Timeline


def written(folder: Path, value: Any, name: str = "r.json") -> Path:
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def boxes(path: Path, source: str, frame: int) -> list[tuple[float, ...]]:
    placed = Timeline(read_regions(path), source).at(frame, float(frame), 0.0, 640, 480)
    return [(r.x0_px, r.y0_px, r.x1_px, r.y1_px) for p in placed for r in p.shapes]


def test_our_own_format(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {
            "time_unit": "frames",
            "regions": [
                {"name": "door", "keyframes": [{"at": 0, "box": [0, 0, 4, 4]}, {"at": 4, "box": [4, 0, 8, 4]}]}
            ],
            "treatments": {"face": {"method": "solid"}},
        },
    )
    assert boxes(path, "a.mp4", 2) == [(2, 0, 6, 4)]
    assert read_regions(path).treatments["face"].method == "solid"
    assert "regions" in json_schema()["properties"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[]", "expected an object"),
        ("{", "not valid JSON"),
        ({"regions": [{"box": [0, 0, 1]}]}, r"regions\.0\.box"),
        ({"areas": []}, "areas"),
        ({"regions": [{"mask": "no.png"}]}, r"regions\[0\]: the mask no.png cannot be read"),
        ({"regions": [{"mask": 5}]}, "name of an image"),
        ({"regions": [{"mask": "m.png", "box": [0, 0, 1, 1]}]}, "not both"),
        ({"regions": 5}, "regions"),
        ({"regions": [5]}, "regions"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
        read_regions(written(tmp_path, value))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_mask_becomes_the_outline_of_what_is_white(tmp_path: Path, relative: bool, alpha: bool) -> None:
    white = np.zeros((48, 64), np.uint8)
    white[10:20, 8:32] = 255
    picture = Image.fromarray(white)
    if alpha:
        colours = Image.new("RGB", (64, 48), (255, 255, 255))
        colours.putalpha(picture)
        picture = colours
    picture.save(tmp_path / "m.png")
    kind = "relative" if relative else "pixels"
    path = written(tmp_path, {"coordinates": kind, "regions": [{"keyframes": [{"at": 0, "mask": "m.png"}]}]})
    scale = 10 if relative else 1  # the picture has ten times the mask's size
    assert boxes(path, "a.png", 0) == [pytest.approx([v * scale for v in (8, 10, 32, 20)])]


def test_an_empty_mask_is_an_error(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    with pytest.raises(ConfigError, match="nothing is white"):
        read_regions(written(tmp_path, {"regions": [{"mask": "m.png"}]}))


CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><size>9</size></task></meta>
 <track id="0" label="person" source="manual">
  <box frame="2" keyframe="1" outside="0" occluded="0" xtl="10.0" ytl="20.0" xbr="30.0" ybr="40.0" z_order="0"></box>
  <box frame="4" keyframe="1" outside="0" occluded="0" xtl="20.0" ytl="20.0" xbr="40.0" ybr="40.0" z_order="0"></box>
  <box frame="5" keyframe="1" outside="1" occluded="0" xtl="20.0" ytl="20.0" xbr="40.0" ybr="40.0" z_order="0"></box>
 </track>
 <track id="1" label="Keep">
  <polygon frame="0" outside="0" points="0,0;10,0;10,10"></polygon>
  <polygon frame="3" outside="0" points="0,0;10,0;10,10;0,10"></polygon>
 </track>
</annotations>"""


def test_cvat_for_video(tmp_path: Path) -> None:
    path = written(tmp_path, CVAT_VIDEO, "a.xml")
    config = read_regions(path)
    assert [region.action for region in config.regions] == ["redact", "keep"]
    assert boxes(path, "a.mp4", 1) == [(0, 0, 10, 10)]
    assert boxes(path, "a.mp4", 3) == [(15, 20, 35, 40), (0, 0, 10, 10)]
    assert boxes(path, "a.mp4", 5) == boxes(path, "a.mp4", 7) == []


CVAT_IMAGES = """<annotations>
 <image id="0" name="a/one[1].jpg" width="64" height="48">
  <box label="plate" xtl="1" ytl="2" xbr="11" ybr="22" rotation="90"/>
  <ellipse label="face" cx="30" cy="20" rx="5" ry="8"/>
  <tag label="street"/>
 </image>
 <image id="1" name="a/two.jpg" width="64" height="48"/>
</annotations>"""


def test_cvat_for_images(tmp_path: Path) -> None:
    path = written(tmp_path, CVAT_IMAGES, "a.xml")
    turned, ellipse = boxes(path, "/data/a/one[1].jpg", 0)
    assert turned == pytest.approx((-4, 7, 16, 17))  # a box of 10 x 20 turned by a quarter about its centre
    assert ellipse == (25, 12, 35, 28)
    assert boxes(path, "/data/a/two.jpg", 0) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation/>", "expected CVAT's <annotations>"),
        ("<annotations/>", "no boxes"),
        ("<annotations>", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "document type"),
        ('<annotations><track label="x"/></annotations>', "track 0: has no shapes"),
        ('<annotations><track label="x"><box frame="0" xtl="a"/></track></annotations>', "no number 'xtl'"),
        ('<annotations><track label="x"><box frame="nan"/></track></annotations>', "not finite"),
        ('<annotations><image name="a"><mask rle="1"/></image></annotations>', "<mask> is no area"),
        ('<annotations><image name="a"><polygon points="1,2;3"/></image></annotations>', "not pairs"),
        ('<annotations><image name="a"><polygon points="a,b"/></image></annotations>', "not numbers"),
        ("<annotations><image><box/></image></annotations>", "has no name"),
    ],
)
def test_cvat_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrtAnonError, match=message):
        read_regions(written(tmp_path, text, "a.xml"))


def coco(**annotation: Any) -> dict[str, Any]:
    return {
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "ignore"}],
        "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.mp4", "frame_index": 7}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [5, 5, 2, 2], **annotation},
        ],
    }


def test_coco(tmp_path: Path) -> None:
    path = written(tmp_path, coco(segmentation=[[0, 0, 4, 0, 4, 4], [8, 8, 9, 8, 9, 9]]))
    assert boxes(path, "/x/a.png", 0) == [(1, 2, 4, 6)]
    assert boxes(path, "/x/b.mp4", 7) == [(0, 0, 4, 4), (8, 8, 9, 9)]
    assert boxes(path, "/x/b.mp4", 6) == []
    assert read_regions(path).regions[1].action == "ignore"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, "names an image or category"),
        ({"bbox": [0, 0, -1, 2]}, "wrong order"),
        ({"segmentation": [[0, 0, 1]]}, "at least three corners"),
        ({"bbox": [0, 0, 0, 2]}, "x0 < x1"),
    ],
)
def test_coco_errors(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, InputError), match=message):
        read_regions(written(tmp_path, coco(**change)))
