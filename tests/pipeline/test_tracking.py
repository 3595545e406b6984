"""Tracks in the loop: who waits, what is hidden, and what a fault leads to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.config import AnonymizeConfig, PipelineConfig, TrackConfig
from trt_anon.errors import ModelError, PipelineError
from trt_anon.media import MediaInfo
from trt_anon.pipeline import tracking
from trt_anon.pipeline.loop import anonymize_frames
from trt_anon.pipeline.redaction import Redaction
from trt_anon.pipeline.tracking import MOST_SPREAD, SPREADS, most_waiting, to_hide
from trt_anon.pipeline.two_pass import KnownTracks, look_through
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Tracks

pytest.importorskip("cv2")
pytest.importorskip("lap")

FRAMES = 60
GRAY = PIXEL_FORMATS["gray"]
SIZE = (96, 64)


class Source:
    """Bright noise that stands still, 25 frames a second."""

    info = MediaInfo("video", *SIZE, GRAY, "raw", "raw", average_rate=Fraction(25))

    def __iter__(self) -> Iterator[Frame]:
        noise = np.random.default_rng(0).integers(50, 200, SIZE[::-1]).astype(np.uint8)
        for index in range(FRAMES):
            yield Frame((noise.copy(),), GRAY, *SIZE, index, index, Fraction(1, 25))

    def close(self) -> None: ...


class Sink:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.calls: list[str] = []

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def finish(self) -> None:
        self.calls.append("finish")

    def abort(self) -> None:
        self.calls.append("abort")


class Finds:
    """Finds one box that stands still in the frames of `seen`, weakly in those of `weak`; fails in those of `fails`."""

    class_names = ("face",)
    complete = False
    thresholds = (0.2,)

    def __init__(self, seen: Any, weak: Any = (), fails: Any = ()) -> None:
        self.seen, self.weak, self.fails = seen, weak, fails

    def prepare(self, info: MediaInfo) -> None: ...

    def submit(self, frame: Frame) -> Finds._Pending:
        return Finds._Pending(self, frame.index)

    class _Pending:
        def __init__(self, detector: Finds, index: int) -> None:
            self._detector, self._index = detector, index

        def result(self) -> Detections:
            return self.result_with_weak()[0]

        def result_with_weak(self) -> tuple[Detections, Detections]:
            if self._index in self._detector.fails:
                raise ModelError("not finite")
            one = Detections(
                np.array([[40, 20, 60, 44]], np.float32), np.full(1, 0.4, np.float32), np.zeros(1, np.int32), ("face",)
            )
            none = Detections.empty(("face",))
            return (
                one if self._index in self._detector.seen else none,
                one if self._index in self._detector.weak else none,
            )


class Counts(Finds):
    """Remembers which frames it was asked about."""

    def __init__(self, seen: Any) -> None:
        super().__init__(seen)
        self.asked: list[int] = []

    def submit(self, frame: Frame) -> Finds._Pending:
        self.asked.append(frame.index)
        return super().submit(frame)


def run(detector: Finds, track: TrackConfig | None = None, **pipeline: Any) -> tuple[Any, Sink]:
    sink = Sink()
    config = AnonymizeConfig.model_validate({"redact": {"method": "solid", "shape": "box", "grow": 1.0}})
    report = anonymize_frames(
        Source(), sink, detector, Redaction(config), PipelineConfig(**pipeline), track=track or TrackConfig()
    )  # type: ignore[arg-type]
    return report, sink


def hidden(frame: Frame) -> bool:
    return not frame.planes[0][22:42, 42:58].any()


def test_gaps_are_hidden_in_the_pixels_and_frames_keep_their_order() -> None:
    report, sink = run(Finds([*range(10, 20), *range(40, 50)], weak=range(20, 24)))
    assert [f.index for f in sink.frames] == list(range(FRAMES))
    assert all(hidden(f) for f in sink.frames[10:50])
    assert report.objects == {"face": FRAMES}, "the picture stands still, so it is followed to both ends"
    assert set(report.busy_seconds) == {"decode", "detect", "track", "redact", "encode"}
    assert report.frames_redacted_whole == {}


def test_off_is_each_frame_by_itself() -> None:
    report, sink = run(Finds(range(10, 20)), TrackConfig(track="off"))
    assert [hidden(f) for f in sink.frames] == [i in range(10, 20) for i in range(FRAMES)]
    assert report.objects == {"face": 10}


def test_a_frame_whose_detection_fails_ends_the_file_or_is_hidden_whole() -> None:
    with pytest.raises(ModelError):
        run(Finds(range(FRAMES), fails=[30]))
    report, sink = run(Finds(range(FRAMES), fails=[0, 30, FRAMES - 1]), on_error="redact-frame")
    assert report.frames_redacted_whole == {"detect": 3}
    assert [not f.planes[0].any() for f in sink.frames] == [i in (0, 30, FRAMES - 1) for i in range(FRAMES)]
    assert all(hidden(f) for f in sink.frames)


@pytest.mark.parametrize("at", [0, 30, FRAMES - 1])
@pytest.mark.parametrize("where", ["push", "finish"])
def test_a_fault_of_the_tracker_publishes_no_frame_that_waits(
    monkeypatch: pytest.MonkeyPatch, at: int, where: str
) -> None:
    class Breaks(tracking.LookAhead):
        count = 0

        def push(self, sight: Any) -> list[Tracks]:
            Breaks.count += 1
            if where == "push" and Breaks.count == at + 1:
                raise FloatingPointError("singular")
            return super().push(sight)

        def finish(self) -> list[Tracks]:
            if where == "finish":
                raise FloatingPointError("singular")
            return super().finish()

    monkeypatch.setattr(tracking, "LookAhead", Breaks)
    with pytest.raises(FloatingPointError):
        run(Finds(range(FRAMES)))
    Breaks.count = 0
    report, sink = run(Finds(range(FRAMES)), on_error="redact-frame")
    assert [f.index for f in sink.frames] == list(range(FRAMES))
    assert all(hidden(f) for f in sink.frames)
    black = sum(not f.planes[0].any() for f in sink.frames)
    assert report.frames_redacted_whole == {"track": black}
    assert 1 <= black <= 39


@pytest.mark.parametrize(("every", "step"), [(1, 1), (4, 4), ("auto", 2)])
def test_the_detector_looks_at_every_nth_frame_and_tracks_hide_what_lies_between(every: Any, step: int) -> None:
    detector = Counts(range(FRAMES))
    report, sink = run(detector, TrackConfig(detect_every=every))
    assert detector.asked == list(range(0, FRAMES, step))
    assert all(hidden(f) for f in sink.frames)
    assert report.objects == {"face": FRAMES}
    assert report.frames_redacted_whole == {}


def test_the_first_frame_of_a_shot_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def shots(self: Source) -> Iterator[Frame]:
        for index in range(FRAMES):
            picture = np.random.default_rng(index >= 30).integers(50, 200, (4, 6)).astype(np.uint8)
            yield Frame((np.kron(picture, np.ones((16, 16), np.uint8)),), GRAY, *SIZE, index, index, Fraction(1, 25))

    monkeypatch.setattr(Source, "__iter__", shots)
    detector = Counts(())
    run(detector, TrackConfig(detect_every=7))
    assert detector.asked == [0, 7, 14, 21, 28, 30, 35, 42, 49, 56]


def two_passes(detector: Finds, folder: Path, **options: Any) -> tuple[Any, Sink]:
    config = AnonymizeConfig.model_validate(
        {"redact": {"method": "solid", "shape": "box", "grow": 1.0}, "track": {"two_pass": True}, "pipeline": options}
    )
    known = look_through(Source, detector, config, folder)  # type: ignore[arg-type]
    assert not list(folder.iterdir()), "the temporary file has no name"
    sink = Sink()
    try:
        report = anonymize_frames(Source(), sink, known, Redaction(config), config.pipeline, track=config.track)  # type: ignore[arg-type]
    finally:
        known.close()
    return report, sink


def test_two_passes_know_what_comes_later_than_any_look_ahead(tmp_path: Path) -> None:
    detector = Finds(range(50, 60), weak=range(4, 50))
    _, once = run(detector, TrackConfig(look_ahead_seconds=0.2))
    assert not hidden(once.frames[4])
    report, sink = two_passes(Finds(range(30, 60), weak=range(4, 30)), tmp_path)
    assert [f.index for f in sink.frames] == list(range(FRAMES))
    assert all(hidden(f) for f in sink.frames[4:])
    assert report.frames == FRAMES


def test_what_fails_in_the_first_pass_fails_in_the_second(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="frame 30"):
        two_passes(Finds(range(FRAMES), fails=[30]), tmp_path)
    report, sink = two_passes(Finds(range(FRAMES), fails=[30]), tmp_path, on_error="redact-frame")
    assert report.frames_redacted_whole == {"detect": 1}
    assert [f.index for f in sink.frames if not f.planes[0].any()] == [30]


def test_a_file_that_grew_between_the_passes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = AnonymizeConfig.model_validate({"track": {"two_pass": True}})
    known = look_through(Source, Finds(()), config, tmp_path)  # type: ignore[arg-type]
    longer = next(iter(Source()))
    with pytest.raises(PipelineError, match="was not there"):
        known.submit(replace(longer, index=FRAMES))
    known.close()


def test_known_tracks_come_back_as_they_went(tmp_path: Path) -> None:
    known = KnownTracks(("face", "license_plate"), tmp_path)
    outline = np.array([[1, 2], [3, 4], [5, 6.5]], np.float32)
    found = Detections(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8.25]], np.float32),
        np.array([0.9, 0.25], np.float32),
        np.array([1, 0], np.int32),
        ("face", "license_plate"),
        contours_px=(outline, np.zeros((0, 2), np.float32)),
    )
    frame = next(iter(Source()))
    known.add(3, found)
    known.add(4, Detections.empty(("face", "license_plate")))
    back = known.submit(replace(frame, index=3)).result()
    np.testing.assert_array_equal(back.boxes_xyxy_px, found.boxes_xyxy_px)
    np.testing.assert_array_equal(back.scores, found.scores)
    np.testing.assert_array_equal(back.class_ids, found.class_ids)
    assert back.contours_px is not None
    np.testing.assert_array_equal(back.contours_px[0], outline)
    assert len(known.submit(replace(frame, index=4)).result()) == 0
    known.close()


def test_frames_that_wait_are_bounded_by_their_bytes(caplog: pytest.LogCaptureFixture) -> None:
    large = MediaInfo("video", 7680, 4320, PIXEL_FORMATS["yuv420p10le"], "hevc", "mov", average_rate=Fraction(60))
    with caplog.at_level(logging.WARNING):
        assert most_waiting(large, TrackConfig(waiting_mib=768)) == 8
    assert "look-ahead" in caplog.text
    caplog.clear()
    small = MediaInfo("video", 1920, 1080, PIXEL_FORMATS["yuv420p"], "h264", "mov", average_rate=Fraction(30))
    with caplog.at_level(logging.WARNING):
        assert most_waiting(small, TrackConfig(waiting_mib=768)) > 250
    assert not caplog.text


def test_uncertain_tracks_are_hidden_wider_but_not_without_bound() -> None:
    boxes = np.array([[0, 0, 10, 20], [50, 50, 60, 60]], np.float32)
    spread = np.array([[1, 2], [1000, 1000]], np.float32) / np.float32(SPREADS)
    tracks = Tracks(
        boxes,
        spread,
        np.array([0.2, 0.9], np.float32),
        np.zeros(2, np.int32),
        np.array([1, 2]),
        np.array([True, False]),
        ("face",),
        (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)),
    )
    found = to_hide(tracks)
    np.testing.assert_allclose(found.scores, [0.9, 0.2])
    side = 10 * MOST_SPREAD
    np.testing.assert_allclose(found.boxes_xyxy_px, [[50 - side, 50 - side, 60 + side, 60 + side], [-1, -2, 11, 22]])
    with pytest.raises(ValueError, match="not finite"):
        Tracks(boxes * np.nan, spread, tracks.scores, tracks.class_ids, tracks.track_ids, tracks.seen, ("face",))


def test_a_tracker_given_what_is_not_finite_stops() -> None:
    detector = Finds(range(FRAMES))
    broken = Detections(np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32), np.zeros(1, np.int32), ("face",))

    def submit(frame: Frame) -> Any:
        class Pending:
            def result_with_weak(self) -> tuple[Detections, Detections]:
                return broken, Detections.empty(("face",))

        return Pending()

    detector.submit = submit  # type: ignore[method-assign]
    with pytest.raises(PipelineError, match="not finite"):
        run(detector)


@pytest.mark.parametrize("options", [{}, {"two_pass": True}, {"detect_every": 3}, {"track": "off"}], ids=str)
def test_a_real_face_is_hidden_where_the_detector_loses_it(
    clips: ModuleType, faces: ModuleType, tmp_path: Any, options: dict[str, Any]
) -> None:
    """A stretch in the middle of a clip in which something grey is before the face."""
    import av

    from trt_anon.api import Anonymizer

    sharp = faces.picture()
    covered = sharp.copy()
    x0, y0, x1, y1 = (int(v) for v in faces.FACE)
    covered[y0 - 10 : y1, x0 - 10 : x1 + 10] = 128

    def draw(index: int) -> av.VideoFrame:
        picture = covered if 8 <= index < 14 else sharp
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p")

    clip = clips.make_clip(tmp_path / "a.mp4", size=faces.SIZE, draw=draw, frames=22, options={"crf": "10"})
    with Anonymizer(**options, method="solid", threshold=0.3) as one:
        report = one.file(clip, tmp_path / "b.mp4")
    black = [bool((luma[100:130, 80:110] < 25).all()) for luma in faces.luma(tmp_path / "b.mp4")]
    lost = [i for i in range(22) if not black[i]]
    if "track" in options:
        assert lost == list(range(8, 14)), "else this test says nothing"
    else:
        assert not lost
        assert report.objects == {"face": 22}
