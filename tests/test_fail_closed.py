"""A fault of every stage at the first, a middle and the last frame of a real file; then the output's pixels are read.

There are two ends, and no third: no output, or that frame black and counted while every other one is as it should be.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trt_anon.api import Anonymizer
from trt_anon.cli import main
from trt_anon.errors import InputError, ModelError, OutputError, PipelineError
from trt_anon.job.files import Event
from trt_anon.pipeline.detection import Detector
from trt_anon.pipeline.tracking import TrackStage
from trt_anon.redact.frame import Redactor
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.pyav import PyAVSource
from trt_anon.track.look_ahead import LookAhead
from trt_anon.types import Frame

FRAMES = 9
PLACES = (0, FRAMES // 2, FRAMES - 1)
WAYS = [*(("stop", at) for at in PLACES), ("redact-frame", FRAMES // 2)]
FACE = (slice(85, 150), slice(70, 122))
AWAY = (slice(None), slice(220, None))


@pytest.fixture(scope="module")
def clip(clips: ModuleType, faces: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face in every frame."""
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return faces.face_clip(clips, path, frames=FRAMES, audio=["aac"], options={"crf": "10", "preset": "ultrafast"})


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Anonymizer]]:
    """One Anonymizer for each way to take a fault."""
    with (
        Anonymizer(threshold=0.3) as stop,
        Anonymizer(threshold=0.3, on_error="redact-frame") as redact_frame,
    ):
        yield {"stop": stop, "redact-frame": redact_frame}


@dataclass
class Fault:
    """What goes wrong in frame `at`, and how often that frame passed."""

    at: int
    error: Callable[[], BaseException] | None = None
    seen: list[int] = field(default_factory=list)

    def strike(self, index: int) -> None:
        """Raise if this is the frame."""
        self.seen.append(index)
        if index == self.at and self.error is not None:
            raise self.error()


def in_submit(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = Detector.submit

    def submit(self: Detector, frame: Frame) -> Any:
        fault.strike(frame.index)
        return real(self, frame)

    patch.setattr(Detector, "submit", submit)


class Later:
    """A pending inference whose result is spoilt."""

    def __init__(self, pending: Any, spoil: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]) -> None:
        self._pending, self._spoil = pending, spoil

    def result(self) -> dict[str, NDArray[Any]]:
        return self._spoil(self._pending.result())


def in_result(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = Detector.submit

    def spoil(outputs: dict[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
        fault.strike(index)
        return outputs

    def submit(self: Detector, frame: Frame) -> Any:
        return [(plan, Later(p, lambda o: spoil(o, frame.index))) for plan, p in real(self, frame)]

    patch.setattr(Detector, "submit", submit)


def nan_in(name: str, share: float) -> Callable[[pytest.MonkeyPatch, Fault], None]:
    """A device that gives NaN in a share of one output's values."""

    def inject(patch: pytest.MonkeyPatch, fault: Fault) -> None:
        real = Detector.submit

        def spoil(outputs: dict[str, NDArray[Any]], index: int) -> dict[str, NDArray[Any]]:
            fault.strike(index)
            if index == fault.at:
                broken = outputs[name].copy()
                broken.reshape(-1)[: max(1, int(share * broken.size))] = np.nan
                outputs = {**outputs, name: broken}
            return outputs

        def submit(self: Detector, frame: Frame) -> Any:
            return [(plan, Later(p, lambda o: spoil(o, frame.index))) for plan, p in real(self, frame)]

        patch.setattr(Detector, "submit", submit)

    return inject


def in_redaction(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = Redactor.redact

    def redact(self: Redactor, frame: Frame, regions: Any) -> None:
        fault.strike(frame.index)
        real(self, frame, regions)

    patch.setattr(Redactor, "redact", redact)


def half_way_through_redaction(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    """The planes are partly changed when it fails."""
    real = Redactor.redact

    def redact(self: Redactor, frame: Frame, regions: Any) -> None:
        real(self, frame, regions)
        if frame.index == fault.at:
            frame.planes[0][:20] = 255
        fault.strike(frame.index)

    patch.setattr(Redactor, "redact", redact)


def in_decoder(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = PyAVSource.__iter__

    def frames(self: PyAVSource) -> Iterator[Frame]:
        for frame in real(self):
            fault.strike(frame.index)
            yield frame

    patch.setattr(PyAVSource, "__iter__", frames)


def in_sink(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = PyAVSink.write

    def write(self: PyAVSink, frame: Frame) -> None:
        fault.strike(frame.index)
        real(self, frame)

    patch.setattr(PyAVSink, "write", write)


def at_the_end_of_sink(patch: pytest.MonkeyPatch, fault: Fault) -> None:
    real = PyAVSink.finish

    def finish(self: PyAVSink) -> None:
        fault.strike(fault.at)
        real(self)

    patch.setattr(PyAVSink, "finish", finish)


FORGIVABLE: dict[str, tuple[Callable[[pytest.MonkeyPatch, Fault], None], Callable[[], Exception] | None]] = {
    "the runtime refuses": (in_submit, lambda: ModelError("the device is gone")),
    "the runtime fails": (in_result, lambda: ModelError("the device is gone")),
    "a foreign exception": (in_result, lambda: RuntimeError("CUDA error 700")),
    "a bug in detection": (in_submit, lambda: TypeError("a bug")),
    "no memory to detect": (in_submit, MemoryError),
    "no memory for a result": (in_result, MemoryError),
    "all scores NaN": (nan_in("cls_8", 1.0), None),
    "one box NaN": (nan_in("bbox_32", 0.0), None),
    "one landmark NaN": (nan_in("kps_16", 0.0), None),
    "redaction fails": (in_redaction, lambda: ValueError("not finite")),
    "no memory to redact": (in_redaction, MemoryError),
    "redaction fails half-way": (half_way_through_redaction, MemoryError),
}
FATAL: dict[str, tuple[Callable[[pytest.MonkeyPatch, Fault], None], Callable[[], BaseException]]] = {
    "the source fails": (in_decoder, lambda: InputError("damaged")),
    "no memory to decode": (in_decoder, MemoryError),
    "the encoder fails": (in_sink, lambda: OutputError("the encoder failed")),
    "the disk is full": (in_sink, lambda: OSError(errno.ENOSPC, "No space left on device")),
    "no memory to encode": (in_sink, MemoryError),
    "the disk is full at the end": (at_the_end_of_sink, lambda: OutputError("No space left on device")),
    "Ctrl-C while encoding": (in_sink, KeyboardInterrupt),
    "Ctrl-C while detecting": (in_submit, KeyboardInterrupt),
    "the end of the process while redacting": (in_redaction, lambda: SystemExit(143)),
}


def left_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def check_pixels(faces: ModuleType, source: Path, target: Path, black: set[int]) -> None:
    """Every frame is there; those in `black` show nothing at all, the others everything but the face."""
    before, after = faces.luma(source), faces.luma(target)
    assert len(after) == len(before)
    assert faces.times(target) == faces.times(source)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if index in black:
            assert new.max() <= 4, f"frame {index} shows something"  # black, as full-range gray
        else:
            assert faces.detail(new[FACE]) < 0.4 * faces.detail(old[FACE]), f"frame {index} shows the face"
            assert np.abs(old[AWAY].astype(int) - new[AWAY]).mean() < 2, f"frame {index} lost what it may show"


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("name", FORGIVABLE)
def test_a_fault_in_a_frame(
    name: str,
    at: int,
    clip: Path,
    faces: ModuleType,
    runs: dict[str, Anonymizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inject, error = FORGIVABLE[name]
    target = tmp_path / "out" / "b.mp4"
    for on_error in ("stop", "redact-frame"):
        with monkeypatch.context() as patch:
            fault = Fault(at, error)
            inject(patch, fault)
            if on_error == "stop":
                with pytest.raises(ModelError if error is None else type(error())):
                    runs[on_error].file(clip, target)
                assert left_in(tmp_path) == []
            else:
                report = runs[on_error].file(clip, target)
                assert sum(report.frames_redacted_whole.values()) == 1
                assert report.objects == {"face": FRAMES - 1}
            assert at in fault.seen
    assert left_in(tmp_path) == ["out", "out/b.mp4"]
    check_pixels(faces, clip, target, {at})


@pytest.mark.parametrize("error", [PipelineError, ValueError, MemoryError])
@pytest.mark.parametrize("at", [*PLACES, FRAMES])
def test_a_fault_of_the_tracker(
    at: int,
    error: type[Exception],
    clip: Path,
    faces: ModuleType,
    runs: dict[str, Anonymizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It concerns the frames that wait for their tracks: all of them, and no others, are black. The last is its end."""
    real_push, real_finish = LookAhead.push, LookAhead.finish
    seen: list[int] = []

    def push(self: LookAhead, sight: Any) -> Any:
        seen.append(len(seen))
        if seen[-1] == at:
            raise error("tracker")
        return real_push(self, sight)

    def finish(self: LookAhead) -> Any:
        if at == FRAMES:
            raise error("tracker")
        return real_finish(self)

    monkeypatch.setattr(LookAhead, "push", push)
    monkeypatch.setattr(LookAhead, "finish", finish)
    target = tmp_path / "out" / "b.mp4"
    with pytest.raises(error, match="tracker"):
        runs["stop"].file(clip, target)
    assert left_in(tmp_path) == []
    seen.clear()
    with Anonymizer(runs["redact-frame"].config, look_ahead_seconds=0.08) as soon:
        report = soon.file(clip, target)
    black = {index for index, luma in enumerate(faces.luma(target)) if luma.max() <= 4}
    assert report.frames_redacted_whole == {"track": len(black)}
    assert 1 <= len(black) <= 5
    assert min(at, FRAMES - 1) in black
    check_pixels(faces, clip, target, black)


def test_frames_that_get_lost_between_stages_are_an_error(
    clip: Path, runs: dict[str, Anonymizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrackStage.push
    monkeypatch.setattr(TrackStage, "push", lambda self, item: real(self, item)[:-1])
    monkeypatch.setattr(TrackStage, "finish", lambda self: [])
    with pytest.raises(PipelineError, match="9 frames went in and 0 came out"):
        runs["stop"].file(clip, tmp_path / "out" / "b.mp4")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("on_error", "at"), WAYS)
@pytest.mark.parametrize("name", FATAL)
def test_a_fault_that_no_redaction_can_mend(
    name: str,
    at: int,
    on_error: str,
    clip: Path,
    runs: dict[str, Anonymizer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inject, error = FATAL[name]
    fault = Fault(at, error)
    inject(monkeypatch, fault)
    with pytest.raises(type(error())):
        runs[on_error].file(clip, tmp_path / "out" / "b.mp4")
    assert at in fault.seen
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("on_error", "at"), WAYS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_a_signal_at_a_frame(
    at: int,
    number: signal.Signals,
    code: int | None,
    on_error: str,
    clip: Path,
    runs: dict[str, Anonymizer],
    tmp_path: Path,
) -> None:
    def interrupt(event: Event) -> None:
        if event.kind == "frames" and event.frames == at + 1:
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, main._terminated)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)) as ended:
            runs[on_error].file(clip, tmp_path / "out" / "b.mp4", on_event=interrupt)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert getattr(ended.value, "code", None) == code
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("at", PLACES)
def test_a_corrupt_packet(
    at: int, clips: ModuleType, faces: ModuleType, runs: dict[str, Anonymizer], tmp_path: Path
) -> None:
    """Every picture a group of its own: only the one that is damaged is lost."""
    import av

    source = faces.face_clip(clips, tmp_path / "a.mp4", frames=FRAMES, options={"crf": "10", "g": "1"})
    sound = faces.face_clip(clips, tmp_path / "sound.mp4", frames=FRAMES, options={"crf": "10", "g": "1"})
    with av.open(str(source)) as container:
        packet = [bytes(p) for p in container.demux(video=0) if p.size][at]
    data = bytearray(source.read_bytes())
    start = data.index(packet) + len(packet) // 2
    data[start : start + 200] = bytes(200)
    source.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        runs["stop"].file(source, tmp_path / "out" / "b.mp4")
    assert left_in(tmp_path) == ["a.mp4", "sound.mp4"]
    report = runs["redact-frame"].file(source, tmp_path / "out" / "b.mp4")
    assert report.frames_redacted_whole == {"decode": 1}
    check_pixels(faces, sound, tmp_path / "out" / "b.mp4", {at})


def test_a_file_of_which_no_frame_goes_through_is_an_error(
    clip: Path, runs: dict[str, Anonymizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Detector, frame: Frame) -> Any:
        raise ModelError("the device is gone")

    monkeypatch.setattr(Detector, "submit", refuse)
    with pytest.raises(PipelineError, match="every frame failed; the first because of: the device is gone"):
        runs["redact-frame"].file(clip, tmp_path / "out" / "b.mp4")
    assert left_in(tmp_path) == []


def test_a_still_picture_is_never_a_black_square(
    faces: ModuleType, runs: dict[str, Anonymizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.fromarray(faces.picture()).save(tmp_path / "a.png")
    in_result(monkeypatch, Fault(0, lambda: RuntimeError("CUDA error 700")))
    with pytest.raises(PipelineError, match="RuntimeError"):
        runs["redact-frame"].file(tmp_path / "a.png", tmp_path / "out" / "b.png")
    assert left_in(tmp_path) == ["a.png"]


def test_one_frame_of_an_animation(
    faces: ModuleType, runs: dict[str, Anonymizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    pictures = [Image.fromarray(faces.picture() // n) for n in (1, 2, 3)]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    in_result(monkeypatch, Fault(1, MemoryError))
    report = runs["redact-frame"].file(tmp_path / "a.webp", tmp_path / "b.webp")
    assert report.frames_redacted_whole == {"detect": 1}
    with Image.open(tmp_path / "b.webp") as made:
        for index, shown in enumerate((True, False, True)):
            made.seek(index)
            rgb = np.asarray(made.convert("RGB"))
            assert bool(rgb.any()) is shown
            assert faces.detail(rgb[FACE]) < 0.4 * faces.detail(faces.picture()[FACE] // (index + 1)) or not shown
