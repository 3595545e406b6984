"""Detections from a file in the place of a detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer
from trt_anon.errors import InputError, UsageError
from trt_anon.job.given import GivenDetections
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import PIXEL_FORMATS, Frame


def frame(index: int = 0, size: tuple[int, int] = (8, 6), pts: int | None = None) -> Frame:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    return Frame((pixels,), PIXEL_FORMATS["rgb24"], *size, index, pts, Fraction(1, 10))


def contents() -> dict[str, Any]:
    head = {"width": 8, "height": 6}
    return {
        "categories": [{"id": 5, "name": "face"}, {"id": 7, "name": "badge"}],
        "images": [
            {"id": 1, "file_name": "in/a.mp4", "frame_index": 0, "pts_seconds": 0.0, **head},
            {"id": 2, "file_name": "in/a.mp4", "frame_index": 1, "pts_seconds": 0.1, **head},
            {"id": 3, "file_name": "in/b.png", **head},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 7, "bbox": [1, 1, 2, 2], "score": 0.5},
            {"id": 2, "image_id": 2, "category_id": 5, "bbox": [0, 0, 4, 4]},
            {"id": 3, "image_id": 3, "category_id": 5, "bbox": [0, 0, 4, 4], "segmentation": [[0, 0, 4, 0, 4, 4]]},
        ],
    }


def given(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda _raw: None) -> GivenDetections:
    raw = contents()
    change(raw)
    path = folder / "d.json"
    path.write_text(json.dumps(raw))
    return GivenDetections(path)


def test_each_frame_has_its_own(tmp_path: Path) -> None:
    file = given(tmp_path)
    assert file.class_names == ("face", "badge")
    video = file.for_source(Path("/home/in/a.mp4"))
    assert len(video.submit(frame(0, pts=0)).result()) == 0
    found = video.submit(frame(1, pts=1)).result()
    assert found.boxes_xyxy_px.tolist() == [[0, 0, 4, 4], [1, 1, 3, 3]]
    assert found.scores.tolist() == [1.0, 0.5]
    assert found.class_ids.tolist() == [0, 1]
    (outline,) = file.for_source(Path("b.png")).submit(frame()).result().contours_px or ()
    assert outline.tolist() == [[0, 0], [4, 0], [4, 4]]


def test_what_nobody_looked_at_is_an_error(tmp_path: Path) -> None:
    file = given(tmp_path)
    video = file.for_source(Path("in/a.mp4"))
    with pytest.raises(InputError, match="says nothing about frame 2"):
        video.submit(frame(2))
    with pytest.raises(InputError, match="of a picture of 8x6, but frame 1 has 9x6"):
        video.submit(frame(1, (9, 6)))
    with pytest.raises(InputError, match="at another time"):
        video.submit(frame(1, pts=2))
    with pytest.raises(InputError, match="does not name"):
        file.for_source(Path("c.png"))


def test_two_files_of_one_name_must_be_told_apart(tmp_path: Path) -> None:
    file = given(tmp_path, lambda raw: raw["images"][2].update(file_name="other/a.mp4"))
    with pytest.raises(InputError, match="more than one"):
        file.for_source(Path("a.mp4"))
    assert file.for_source(Path("x/other/a.mp4")).submit(frame()).result()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("images"), "expected what"),
        (lambda raw: raw["categories"].append({"id": 5, "name": "x"}), "the id 5 is there twice"),
        (lambda raw: raw["images"][1].update(frame_index=0), "frame 0 of its file is there twice"),
        (lambda raw: raw["images"][1].update(frame_index=-1), "frame_index"),
        (lambda raw: raw["images"][1].update(width=0), "must be positive"),
        (lambda raw: raw["images"][1].update(pts_seconds="1"), "pts_seconds"),
        (lambda raw: raw["annotations"][0].update(image_id=4), "does not have"),
        (lambda raw: raw["annotations"][0].update(bbox=[0, 0, 1e400, 1]), "not valid JSON|not finite"),
        (lambda raw: raw["annotations"][0].update(score=2), "score"),
        (lambda raw: raw["annotations"][0].update(segmentation=[[1, 2, 3]]), "three corners"),
        (lambda raw: raw["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, 1e9]]), "beyond"),
    ],
)
def test_errors_name_the_entry(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        given(tmp_path, change)


def test_what_was_detected_and_edited_is_what_is_redacted(
    clips: ModuleType, faces: ModuleType, anonymizer: Anonymizer, tmp_path: Path
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mkv", codec="ffv1", frames=3)
    anonymizer.write_detections([clip], tmp_path / "d.json")
    raw = json.loads((tmp_path / "d.json").read_text())
    raw["annotations"] = [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [10, 20, 30, 40]}]
    (tmp_path / "d.json").write_text(json.dumps(raw))
    with Anonymizer(detections=tmp_path / "d.json", method="solid", shape="box", grow=1.0) as edited:
        assert edited.file(clip, tmp_path / "b.mkv").objects == {"face": 1}
        with pytest.raises(UsageError, match="detects nothing"):
            edited.detect(np.zeros((1, 8, 8, 3), np.uint8))
    part = np.s_[22:58, 12:38]
    before, after = ([f.planes[0][part].mean() for f in PyAVSource(tmp_path / name)] for name in ("a.mkv", "b.mkv"))
    assert after[1] < 20 < before[1]
    assert (after[0], after[2]) == (pytest.approx(before[0], abs=1), pytest.approx(before[2], abs=1))


def test_tracks_have_numbers_and_fill_the_frames_between(
    clips: ModuleType, faces: ModuleType, anonymizer: Anonymizer, tmp_path: Path
) -> None:
    import av

    rgb = faces.picture()
    hidden = rgb.copy()
    for x0, y0, x1, y1 in anonymizer.detect([rgb])[0].boxes_xyxy_px.round().astype(int):
        hidden[y0:y1, x0:x1] = 128

    def draw(index: int) -> av.VideoFrame:
        shown = hidden if index == 6 else rgb  # one frame in which nothing can be found
        return av.VideoFrame.from_ndarray(shown, format="rgb24").reformat(format="yuv420p")

    size = (rgb.shape[1], rgb.shape[0])
    clip = clips.make_clip(tmp_path / "a.mkv", codec="ffv1", frames=12, size=size, draw=draw)
    files = {}
    for tracks in (False, True):
        path = tmp_path / f"{tracks}.json"
        anonymizer.write_detections([clip], path, tracks=tracks)
        files[tracks] = json.loads(path.read_text())
    assert not any("track_id" in a for a in files[False]["annotations"])
    assert {a["image_id"] for a in files[False]["annotations"]} == set(range(1, 13)) - {7}
    followed = files[True]["annotations"]
    assert len(files[True]["images"]) == 12
    assert {a["track_id"] for a in followed} == set(range(1, len({a["track_id"] for a in followed}) + 1))
    assert [a["seen"] for a in followed if a["image_id"] == 7] == [False]
    with Anonymizer(detections=tmp_path / "True.json") as edited:
        assert edited.file(clip, tmp_path / "b.mkv").objects == {"face": len(followed)}
