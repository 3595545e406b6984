"""Long videos in segments: frames, times and sound as in one go, however often it ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer, Event, JobReport, Resume
from trt_anon.errors import OutputError, PipelineError
from trt_anon.job import pool as pool_module
from trt_anon.job import worker as worker_module
from trt_anon.job.long import anonymize_segment
from trt_anon.job.segments import plan_segments
from trt_anon.sink.parts import decoding_times, read_part
from trt_anon.source.pyav import PyAVSource
from trt_anon.source.span import SpanSource

RATE = 25
GOP = {"g": "10", "preset": "ultrafast", "bf": "2", "sc_threshold": "0"}


def pictures(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def packets(path: Path) -> list[tuple[Any, ...]]:
    import av

    with av.open(str(path)) as container:
        return [(p.pts, p.dts, p.duration, bytes(p)) for p in container.demux(video=0) if p.size]


def left_behind(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture(scope="module")
def null() -> Any:
    with Anonymizer(runtime="null") as made:
        yield made


@pytest.fixture
def clip(clips: ModuleType, faces: ModuleType, tmp_path: Path) -> Path:
    """Four seconds with sound, a key frame every 0.4 s."""
    return clips.make_clip(tmp_path / "in" / _made(tmp_path), frames=100, audio=["aac"], options=GOP, size=(96, 64))


def _made(tmp_path: Path) -> str:
    (tmp_path / "in").mkdir()
    return "a.mp4"


def run(
    anonymizer: Anonymizer, source: Path, out: Path, on_event: Callable[[Event], None] | None = None, **options: Any
) -> JobReport:
    return anonymizer.files([source], out, on_event=on_event, resume=Resume(**{"segment_seconds": 1.0, **options}))


def test_segments_joined_are_the_video(null: Anonymizer, clip: Path, clips: ModuleType, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    null.file(clip, whole)
    out = tmp_path / "out" / "a.mp4"
    events: list[Event] = []
    report = run(null, clip, out, events.append)
    assert (report.done, report.frames) == (1, 100)
    assert left_behind(tmp_path / "out") == ["a.mp4"]
    assert [e.frames for e in events if e.kind == "frames"] == list(range(1, 101))
    assert {e.frames_total for e in events if e.kind == "frames"} == {100}
    import av

    def times(path: Path) -> list[Fraction]:
        with av.open(str(path)) as container:
            return [f.pts * f.time_base for f in container.decode(video=0)]

    assert times(out) == times(whole) == times(clip)
    assert clips.stream_packets(out, "audio") == clips.stream_packets(clip, "audio")
    with av.open(str(out)) as one, av.open(str(whole)) as other:
        assert one.streams.video[0].duration == other.streams.video[0].duration
        assert one.streams.video[0].codec_context.extradata == other.streams.video[0].codec_context.extradata
        assert [s.type for s in one.streams] == [s.type for s in other.streams]
    difference = [np.abs(a.astype(int) - b).mean() for a, b in zip(pictures(out), pictures(whole), strict=True)]
    assert max(difference) < 1.5, "encoded apart, near each other"


def test_what_was_done_is_not_done_again_and_nothing_differs(null: Anonymizer, clip: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight" / "a.mp4"
    run(null, clip, straight)
    out = tmp_path / "out" / "a.mp4"

    def interrupt_at(frames: int) -> Callable[[Event], None]:
        def interrupt(event: Event) -> None:
            if event.kind == "frames" and event.frames == frames:
                raise KeyboardInterrupt

        return interrupt

    for frames in (70, 90):
        with pytest.raises(KeyboardInterrupt):
            run(null, clip, out, interrupt_at(frames))
        assert not out.exists()
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert len(list(folder.iterdir())) >= 2
    counted: list[int] = []
    report = run(null, clip, out, lambda e: counted.append(e.frames) if e.kind == "frames" else None)
    assert report.done == 1
    assert counted[0] > 50, "two segments were done"
    assert packets(out) == packets(straight)
    assert out.read_bytes() == straight.read_bytes()
    assert left_behind(tmp_path / "out") == ["a.mp4"]


def test_a_segment_that_was_altered_is_made_anew(null: Anonymizer, clip: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight" / "a.mp4"
    run(null, clip, straight)
    out = tmp_path / "out" / "a.mp4"

    def interrupt(event: Event) -> None:
        if event.kind == "frames" and event.frames == 90:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(null, clip, out, interrupt)
    for part in (tmp_path / "out").glob("*/*.part"):
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    counted: list[int] = []
    run(null, clip, out, lambda e: counted.append(e.frames) if e.kind == "frames" else None)
    assert counted[0] == 1
    assert out.read_bytes() == straight.read_bytes()


def test_two_processes_make_the_same(null: Anonymizer, clip: Path, tmp_path: Path, faces: ModuleType) -> None:
    from PIL import Image

    Image.fromarray(faces.picture()).save(clip.parent / "b.png")
    (clip.parent / "bad.png").write_bytes((clip.parent / "b.png").read_bytes()[:999])
    with Anonymizer(threads=2, runtime="null") as anonymizer:
        run(anonymizer, clip.parent, tmp_path / "one")
        events: list[Event] = []
        report = run(anonymizer, clip.parent, tmp_path / "two", events.append, workers=2)
    assert {f.source.name: f.status for f in report.files} == {"a.mp4": "done", "b.png": "done", "bad.png": "failed"}
    assert {f.source.name: f.frames for f in report.files} == {"a.mp4": 100, "b.png": 1, "bad.png": 0}
    assert [f.error_type for f in report.files if f.status == "failed"] == ["InputError"]
    assert left_behind(tmp_path / "two") == ["a.mp4", "b.png"]
    for name in ("a.mp4", "b.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(e.task.source.name for e in events if e.kind == "end") == ["a.mp4", "b.png", "bad.png"]
    again = run(null, clip.parent, tmp_path / "two", workers=2)
    assert (again.unchanged, again.failed) == (2, 1), "threads shape nothing that counts"


def test_a_worker_that_dies_is_replaced_and_one_that_always_dies_fails_its_file(
    null: Anonymizer, clip: Path, tmp_path: Path, faces: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    for name in ("b.png", "die.png", "once.png"):
        Image.fromarray(faces.picture()).save(clip.parent / name)
    flag = tmp_path / "flag"
    deadly = (
        "import sys, os, pathlib; from trt_anon.job import worker; real = worker.anonymize_file\n"
        "def deadly(task, *rest, **more):\n"
        f"    flag = pathlib.Path({str(flag)!r})\n"
        "    if task.source.name == 'die.png' or (task.source.name == 'once.png' and not flag.exists()):\n"
        "        flag.touch() if task.source.name == 'once.png' else None\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return real(task, *rest, **more)\n"
        "worker.anonymize_file = deadly\n"
        "worker.main(int(sys.argv[1]), int(sys.argv[2]))\n"
    )
    monkeypatch.setattr(pool_module, "_COMMAND", deadly)
    report = run(null, clip.parent, tmp_path / "out", workers=2)
    states = {f.source.name: f.status for f in report.files}
    assert states == {"a.mp4": "done", "b.png": "done", "die.png": "failed", "once.png": "done"}
    (failed,) = (f for f in report.files if f.status == "failed")
    assert failed.error_type == "PipelineError"
    assert "signal 9" in str(failed.error)
    assert left_behind(tmp_path / "out") == ["a.mp4", "b.png", "once.png"]


def test_an_interrupt_ends_the_workers(null: Anonymizer, clip: Path, tmp_path: Path) -> None:
    made: list[int] = []
    real = pool_module._Worker.give

    def give(self: Any, piece: Any) -> None:
        made.append(self._process.pid)
        real(self, piece)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module._Worker, "give", give)
        with pytest.raises(KeyboardInterrupt):
            run(null, clip, tmp_path / "out" / "a.mp4", workers=2, segment_seconds=0.5)
    for process in made:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert run(null, clip, tmp_path / "out" / "a.mp4", workers=2, segment_seconds=0.5).exit_code == 0


def test_a_worker_ends_with_its_coordinator(tmp_path: Path) -> None:
    worker = pool_module._Worker(worker_module.Setup(config=Anonymizer.__init__.__globals__["AnonymizeConfig"]()), 0)
    worker.connection.close()
    assert worker._process.wait(60) == 0


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "mpeg4"])
def test_codecs_and_containers(
    null: Anonymizer, codec: str, clips: ModuleType, tmp_path: Path, faces: ModuleType
) -> None:
    name = {"libvpx-vp9": "a.webm", "libx265": "a.mkv"}.get(codec, "a.mp4")
    options = {"g": "10", **({"x265-params": "log-level=none:keyint=10"} if codec == "libx265" else {})}
    source = clips.make_clip(tmp_path / name, codec=codec, frames=60, options=options, time_base=Fraction(1, 1000))
    null.file(source, tmp_path / f"whole-{name}")
    assert run(null, source, tmp_path / "out" / name, segment_seconds=0.8).done == 1
    assert faces.times(tmp_path / "out" / name) == faces.times(tmp_path / f"whole-{name}") == faces.times(source)
    assert len(pictures(tmp_path / "out" / name)) == 60


def test_variable_rate_and_a_late_start(null: Anonymizer, clips: ModuleType, tmp_path: Path, faces: ModuleType) -> None:
    times = [700 + 40 * i + 13 * (i % 3) + (i // 25) * 500 for i in range(80)]
    source = clips.make_clip(
        tmp_path / "a.mp4", times=times, time_base=Fraction(1, 1000), options=GOP, last_duration=77
    )
    null.file(source, tmp_path / "whole.mp4")
    assert run(null, source, tmp_path / "out" / "a.mp4").done == 1
    assert faces.times(tmp_path / "out" / "a.mp4") == faces.times(tmp_path / "whole.mp4") == faces.times(source)
    import av

    with av.open(str(tmp_path / "out" / "a.mp4")) as one, av.open(str(tmp_path / "whole.mp4")) as other:
        assert one.streams.video[0].duration == other.streams.video[0].duration


def test_every_face_of_every_segment_is_redacted(
    anonymizer: Anonymizer, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    source = faces.face_clip(clips, tmp_path / "a.mp4", frames=24, options={**GOP, "g": "6"})
    report = run(anonymizer, source, tmp_path / "out" / "a.mp4", segment_seconds=0.24)
    assert dict(report.objects) == {"face": 24}
    for old, new in zip(faces.luma(source), faces.luma(tmp_path / "out" / "a.mp4"), strict=True):
        assert faces.detail(faces.crop(new, faces.FACE)) < 0.5 * faces.detail(faces.crop(old, faces.FACE))


def test_damage_in_one_segment_fails_the_file_and_leaves_nothing(
    null: Anonymizer, clips: ModuleType, tmp_path: Path
) -> None:
    source = clips.make_clip(tmp_path / "a.mp4", frames=100, options=GOP)
    import av

    with av.open(str(source)) as container:
        packet = [p for p in container.demux(video=0) if p.size][81]
        place, size = packet.pos, packet.size
    data = bytearray(source.read_bytes())
    data[place + 6 : place + size] = bytes(255 for _ in range(size - 6))
    source.write_bytes(data)
    out = tmp_path / "out"
    report = run(null, source, out / "a.mp4")
    assert [f.error_type for f in report.files] == ["InputError"]
    assert not out.exists()
    assert "failed before" in str(run(null, source, out / "a.mp4").files[0].error)


def test_what_is_not_cut(clips: ModuleType, tmp_path: Path) -> None:
    def plan(path: Path, seconds: float = 1.0, out: str = "b.mp4") -> Any:
        return plan_segments(path, tmp_path / out, length_seconds=seconds, overlap_seconds=0.5, threads=1)

    long = clips.make_clip(tmp_path / "a.mp4", frames=100, options=GOP)
    assert [s.frames for s in plan(long).segments] == [30, 30, 40]
    assert plan(long).frames == 100
    assert plan(long, 0) is None
    assert plan(long, 3.0) is None
    assert plan(long, 1.0, "b.h264") is None, "it has no times by which parts could be told apart"
    assert plan(clips.make_clip(tmp_path / "a.avi", codec="mpeg4", frames=100, options={"g": "10"})) is None
    one_key = clips.make_clip(tmp_path / "b.mp4", frames=100, options={**GOP, "g": "1000"})
    assert plan(one_key) is None


@pytest.mark.parametrize("overlap", [0.0, 0.5, 5.0])
def test_spans_give_the_very_frames_of_the_whole(clips: ModuleType, tmp_path: Path, overlap: float) -> None:
    path = clips.make_clip(tmp_path / "a.mp4", frames=100, options={**GOP, "x264-params": "open-gop=1"})
    plan = plan_segments(path, tmp_path / "b.mp4", length_seconds=1.0, overlap_seconds=overlap, threads=1)
    assert plan is not None
    source = PyAVSource(path)
    wanted = {f.index: (f.pts, [p.copy() for p in f.planes]) for f in source}
    source.close()
    seen: list[int] = []
    for segment in plan.segments:
        span = SpanSource(path, segment.span)
        own = 0
        for frame in span:
            pts, planes = wanted[frame.index]
            assert frame.pts == pts
            if segment.holds(frame.pts):
                own += 1
                seen.append(frame.index)
            assert all(np.array_equal(a, b) for a, b in zip(frame.planes, planes, strict=True))
        assert own == segment.frames
        span.close()
        if overlap >= 5:
            assert segment.span.seek_pts is None
            assert segment.span.stop_pts is None
    assert seen == list(range(100))


def test_times_of_decoding() -> None:
    assert decoding_times([]) == []
    assert decoding_times([5, 6, 7]) == [5, 6, 7]
    shown = [0, 4, 2, 1, 3, 8, 6, 5, 7]
    times = decoding_times(shown)
    assert times == sorted(set(times))
    assert all(dts <= pts for dts, pts in zip(times, shown, strict=True))
    uneven = [0, 40, 10, 13, 900, 50, 60]
    times = decoding_times(uneven)
    assert all(dts <= pts for dts, pts in zip(times, uneven, strict=True))
    assert times == sorted(set(times))


def test_files_that_are_no_parts(tmp_path: Path, null: Anonymizer, clip: Path) -> None:
    task = null.plan([clip], tmp_path / "b.mp4").tasks[0]
    plan = plan_segments(clip, task.destination, length_seconds=1.0, overlap_seconds=0, threads=1)
    assert plan is not None
    part = tmp_path / "x.part"
    anonymize_segment(task, null.config, null._detector, plan, 1, part)
    good = part.read_bytes()
    assert len(read_part(part)) == plan.segments[1].frames
    for bad in (b"", good[:20], good[:-1], good + b"x", b"x" + good[1:], good[:16] + bytes(8) + good[24:]):
        part.write_bytes(bad)
        with pytest.raises(OutputError):
            read_part(part)
    part.unlink()
    with pytest.raises(OutputError):
        read_part(part)
    shutil.rmtree(clip.parent)
    assert issubclass(PipelineError, Exception)


def test_what_looks_at_the_whole_file_is_not_cut(clip: Path, null: Anonymizer, tmp_path: Path) -> None:
    from trt_anon.api import make_config
    from trt_anon.job.cutting import Cutting, overlap_seconds
    from trt_anon.job.journal import Journal
    from trt_anon.job.resume import Recorder

    task = null.plan([clip], tmp_path / "b.mp4").tasks[0]
    with Journal(tmp_path / "books") as journal:
        recorder = Recorder(journal, "a" * 64)

        def cut(**options: Any) -> bool:
            return Cutting(1.0, 1).plan(task, make_config(**options), recorder) is not None

        assert cut()
        assert not cut(two_pass=True)
        assert not cut(on_error="redact-frame")
        assert cut(two_pass=True, track="off")
    assert overlap_seconds(make_config(track="off")) == 0
    assert overlap_seconds(make_config(look_ahead_seconds=2.0)) >= 4
