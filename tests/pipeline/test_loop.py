"""The loop over a file: failures of every stage at every place, and pixels that end where they should."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer
from trt_anon.config import AnonymizeConfig, PipelineConfig, RedactConfig
from trt_anon.errors import InputError, ModelError, OutputError
from trt_anon.job.publish import atomic_output
from trt_anon.media import MediaInfo
from trt_anon.pipeline.loop import anonymize_frames, detect_frames
from trt_anon.pipeline.redaction import Redaction, stored_regions
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation

FRAMES = 12


class Source:
    """Gray frames that are numbered by their value."""

    info = MediaInfo("video", 32, 32, PIXEL_FORMATS["gray"], "raw", "raw")

    def __init__(self, fail_at: int | None = None) -> None:
        self._fail_at = fail_at
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(FRAMES + 1):
            if index == self._fail_at:
                raise InputError("damaged")
            if index < FRAMES:
                yield Frame((np.full((32, 32), index, np.uint8),), PIXEL_FORMATS["gray"], 32, 32, index)

    def close(self) -> None:
        self.closed = True


class Sink:
    """Remembers what happened to it."""

    def __init__(self, fail_at: int | None = None, fail_finish: bool = False) -> None:
        self.frames: list[Frame] = []
        self.calls: list[str] = []
        self._fail_at = fail_at
        self._fail_finish = fail_finish

    def write(self, frame: Frame) -> None:
        if len(self.frames) == self._fail_at:
            raise OutputError("disk full")
        self.frames.append(frame)

    def finish(self) -> None:
        self.calls.append("finish")
        if self._fail_finish:
            raise OutputError("disk full")

    def abort(self) -> None:
        self.calls.append("abort")


class Finds:
    """A detector that finds one box in each frame with an odd number; fails in `submit` or in `result`."""

    class_names = ("face", "license_plate")

    def __init__(self, fail_at: int | None = None, where: str = "submit") -> None:
        self._fail_at = fail_at
        self._where = where

    def prepare(self, info: MediaInfo) -> None:
        assert info.kind == "video"

    def submit(self, frame: Frame) -> Finds._Pending:
        if frame.index == self._fail_at and self._where == "submit":
            raise ModelError("the device is gone")
        return Finds._Pending(self, frame)

    class _Pending:
        def __init__(self, detector: Finds, frame: Frame) -> None:
            self._detector, self._frame = detector, frame

        def result(self) -> Detections:
            if self._frame.index == self._detector._fail_at and self._detector._where == "result":
                raise ModelError("not finite")
            if self._frame.index % 2 == 0:
                return Detections.empty(Finds.class_names)
            box = np.array([[4, 4, 20, 20]], np.float32)
            ids = np.array([self._frame.index % 4 == 3], np.int32)
            return Detections(box, np.ones(1, np.float32), ids, Finds.class_names)


CONFIG = AnonymizeConfig(redact=RedactConfig(method="solid", shape="box", grow=1.0))


class Breaks(Redaction):
    def __init__(self, fail_at: int) -> None:
        super().__init__(CONFIG)
        self._fail_at = fail_at

    def apply(self, frame: Frame, detections: Detections) -> None:
        if frame.index == self._fail_at:
            raise ValueError("a region holds values that are not finite")
        super().apply(frame, detections)


def run(source: Any, sink: Any, detector: Any, redaction: Redaction | None = None, **options: Any) -> Any:
    return anonymize_frames(
        source, sink, detector, redaction or Redaction(CONFIG), PipelineConfig(queue_frames=2), **options
    )


def own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("trt-anon-")]


def test_every_frame_arrives_once_in_order_with_its_own_redaction() -> None:
    sink, counts = Sink(), []
    report = run(Source(), sink, Finds(), on_frame=counts.append)
    assert [f.index for f in sink.frames] == list(range(FRAMES))
    assert counts == list(range(1, FRAMES + 1))
    assert sink.calls == ["finish"]
    for frame in sink.frames:
        expected = np.full((32, 32), frame.index, np.uint8)
        if frame.index % 2:
            expected[4:20, 4:20] = 0
        assert np.array_equal(frame.planes[0], expected)
    assert report.frames == FRAMES
    assert report.objects == {"face": 3, "license_plate": 3}
    assert set(report.busy_seconds) == {"decode", "detect", "redact", "encode"}
    assert report.seconds > 0
    assert not own_threads()


@pytest.mark.parametrize("at", [0, FRAMES // 2, FRAMES - 1])
@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("source", InputError),
        ("submit", ModelError),
        ("result", ModelError),
        ("redaction", ValueError),
        ("sink", OutputError),
        ("callback", KeyboardInterrupt),
    ],
)
def test_a_failure_of_any_stage_at_any_place_aborts_the_sink_and_ends_all_threads(
    stage: str, expected: type[BaseException], at: int
) -> None:
    sink = Sink(fail_at=at if stage == "sink" else None)
    detector = Finds(at, stage) if stage in ("submit", "result") else Finds()
    redaction = Breaks(at) if stage == "redaction" else None

    def interrupt(done: int) -> None:
        if stage == "callback" and done == at + 1:
            raise KeyboardInterrupt

    with pytest.raises(expected):
        run(Source(at if stage == "source" else None), sink, detector, redaction, on_frame=interrupt)
    assert sink.calls == ["abort"]
    assert len(sink.frames) <= at + 1, "nothing after the failure is written"
    assert [f.index for f in sink.frames] == list(range(len(sink.frames)))
    assert not own_threads()


def test_damage_after_the_last_frame_is_a_failure_too() -> None:
    sink = Sink()
    with pytest.raises(InputError):
        run(Source(FRAMES), sink, Finds())
    assert sink.calls == ["abort"]


def test_a_sink_that_cannot_finish_is_aborted() -> None:
    sink = Sink(fail_finish=True)
    with pytest.raises(OutputError):
        run(Source(), sink, Finds())
    assert sink.calls == ["finish", "abort"]
    assert not own_threads()


@pytest.mark.parametrize("at", [0, 6, 11])
@pytest.mark.parametrize("where", ["submit", "result"])
def test_a_failing_detector_leaves_no_output_file(clips: ModuleType, tmp_path: Path, at: int, where: str) -> None:
    clip = clips.make_clip(tmp_path / "a.mp4", frames=FRAMES)
    target = tmp_path / "out" / "b.mp4"

    def publish() -> None:
        with atomic_output(target, overwrite=False) as partial:
            source = PyAVSource(clip)
            sink = PyAVSink(partial, source_path=clip, info=source.info, config=AnonymizeConfig().sink)
            run(source, sink, Finds(at, where))

    with pytest.raises(ModelError):
        publish()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_frames_with_detections_come_in_order() -> None:
    found = list(detect_frames(Source(), Finds(), PipelineConfig(queue_frames=1)))  # type: ignore[arg-type]
    assert [(f.index, len(d)) for f, d in found] == [(n, n % 2) for n in range(FRAMES)]
    with pytest.raises(InputError):
        list(detect_frames(Source(5), Finds(), PipelineConfig()))  # type: ignore[arg-type]
    assert not own_threads()


def test_regions_grow_in_the_upright_picture_and_land_in_the_stored_one() -> None:
    (frame,) = [f for f in Source() if f.index == 0]
    frame = replace(frame, orientation=Orientation.ROTATE_90_CLOCKWISE)
    found = Detections(np.array([[2, 10, 6, 18]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), ("face",))
    (region,) = stored_regions(frame, found, RedactConfig(grow=2.0, shape="box"))
    # Upright (0, 6, 8, 22); shown after a clockwise turn, stored x runs up the upright picture.
    assert (region.x0_px, region.y0_px, region.x1_px, region.y1_px) == (6, 24, 22, 32)
    assert region.object_px == 8


def test_the_null_runtime_runs_the_whole_pipeline_and_finds_nothing(
    clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mkv", codec="ffv1", frames=4)
    with Anonymizer(runtime="null", codec="h264", quality=100) as nothing:
        report = nothing.file(clip, tmp_path / "b.mkv")
    assert (report.frames, dict(report.objects)) == (4, {"face": 0})
    for before, after in zip(faces.luma(clip), faces.luma(tmp_path / "b.mkv"), strict=True):
        assert np.abs(before.astype(int) - after).mean() < 1.5


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("method", ["gaussian", "solid"])
def test_in_rotated_video_the_upright_face_is_destroyed_where_it_is_stored(
    clips: ModuleType, faces: ModuleType, tmp_path: Path, degrees: int, method: str
) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", degrees=degrees, frames=4, options={"crf": "10"})
    with Anonymizer(method=method, threshold=0.3) as one:
        report = one.file(clip, tmp_path / "b.mp4")
    assert report.objects == {"face": 4}
    marked = np.zeros((256, 384), bool)  # upright: the face with room for growth
    marked[40:200, 30:162] = True
    outside = faces.stored(~marked, degrees)
    face = np.zeros((256, 384), bool)
    face[80:155, 65:125] = True
    inside = faces.stored(face, degrees)
    for before, after in zip(faces.luma(clip), faces.luma(tmp_path / "b.mp4"), strict=True):
        change = np.abs(before.astype(int) - after.astype(int))
        assert change[outside].mean() < 1.5
        assert np.percentile(change[outside], 99.9) < 16
        assert change[inside].mean() > 12
        box = np.argwhere(inside)
        (y0, x0), (y1, x1) = box.min(axis=0), box.max(axis=0) + 1
        assert faces.detail(after[y0:y1, x0:x1]) < 0.35 * faces.detail(before[y0:y1, x0:x1])
