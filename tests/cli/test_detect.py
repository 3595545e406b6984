"""`trt-anon detect`: COCO JSON with the right boxes at the right frames."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_picture_and_a_clip_with_their_faces(
    invoke: Invoke, samples: Path, tmp_path: Path, faces: ModuleType
) -> None:
    target = tmp_path / "boxes.json"
    result = invoke("detect", samples / "face.png", samples / "face.mp4", "-o", target, "--threshold", 0.3)
    assert (result.exit_code, result.stdout) == (0, f"9 boxes in 9 frames, written to {target}\n")
    found = read(target)
    assert set(found) == {"categories", "annotations", "images"}
    assert found["categories"] == [{"id": 1, "name": "face", "supercategory": "face"}]
    images = {image["id"]: image for image in found["images"]}
    assert [i["frame_index"] for i in found["images"]] == [0, *range(8)]
    assert {(i["width"], i["height"]) for i in found["images"]} == {faces.SIZE}
    assert [Path(i["file_name"]).name for i in found["images"]] == ["face.png"] + ["face.mp4"] * 8
    assert [i["pts_seconds"] for i in found["images"]] == [None, *(pytest.approx(n / 25) for n in range(8))]
    assert [a["image_id"] for a in found["annotations"]] == list(images)
    assert [a["id"] for a in found["annotations"]] == list(range(1, 10))
    x0, y0, x1, y1 = faces.FACE
    for one in found["annotations"]:
        x, y, width, height = one["bbox"]
        assert [x, y, x + width, y + height] == pytest.approx([x0, y0, x1, y1], abs=8)
        assert one["area"] == pytest.approx(width * height, rel=1e-3)
        assert (one["category_id"], one["iscrowd"]) == (1, 0)
        assert 0.7 < one["score"] <= 1


def test_times_of_variable_rate_are_kept(invoke: Invoke, clips: ModuleType, faces: ModuleType, tmp_path: Path) -> None:
    times = [5, 6, 9, 30]
    clip = faces.face_clip(clips, tmp_path / "a.mkv", times=times, time_base=Fraction(1, 100))
    assert invoke("detect", clip, "-o", tmp_path / "b.json", "-q", "--runtime", "null").exit_code == 0
    found = [i["pts_seconds"] for i in read(tmp_path / "b.json")["images"]]
    assert found == [pytest.approx(t / 100) for t in times]


def test_boxes_of_turned_video_are_upright(
    invoke: Invoke, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", frames=2, degrees=90)
    invoke("detect", clip, "-o", tmp_path / "b.json")
    found = read(tmp_path / "b.json")
    assert (found["images"][0]["width"], found["images"][0]["height"]) == faces.SIZE
    x, y, width, height = found["annotations"][0]["bbox"]
    assert [x, y, x + width, y + height] == pytest.approx(list(faces.FACE), abs=8)


def test_a_picture_without_faces_is_listed_without_boxes(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    result = invoke("detect", samples / "face.png", "-o", tmp_path / "b.json", "--threshold", "0.99", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    found = read(tmp_path / "b.json")
    assert found["annotations"] == []
    assert len(found["images"]) == 1


def test_an_unreadable_input_leaves_no_file_of_boxes(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    good = (samples / "face.png").read_bytes()
    (tmp_path / "in" / "a.png").write_bytes(good)
    (tmp_path / "in" / "b.png").write_bytes(good[: len(good) // 2])
    result = invoke("detect", tmp_path / "in", "-o", tmp_path / "b.json")
    assert result.exit_code == 1
    assert "b.png" in str(result.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_the_file_of_boxes_replaces_nothing_unasked(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.json"
    source.write_bytes((samples / "face.png").read_bytes())
    target.write_text("old")
    assert invoke("detect", source, "-o", target).exit_code == 2
    assert target.read_text() == "old"
    assert invoke("detect", source, "-o", source, "--overwrite").exit_code == 2
    assert source.read_bytes() == (samples / "face.png").read_bytes()
    assert invoke("detect", source, "-o", target, "--overwrite").exit_code == 0
    assert len(read(target)["annotations"]) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "sealed").mkdir(mode=0o500)
    result = invoke("detect", samples / "face.png", "-o", tmp_path / "sealed" / "b.json")
    assert result.exit_code == 1
