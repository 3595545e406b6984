"""The CPU pipeline of one clip: its stages, each alone over frames in memory, and all of them side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType

from trt_anon.bench.part import Clock, Pass
from trt_anon.bench.result import Traffic
from trt_anon.bench.tap import Mode, RunnerTap
from trt_anon.config import AnonymizeConfig, RuntimeConfig
from trt_anon.machine import usable_cores
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Spread
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector
from trt_anon.pipeline.loop import anonymize_frames
from trt_anon.pipeline.redaction import Redaction
from trt_anon.pipeline.tracking import TrackStage
from trt_anon.runtime.base import Tensor
from trt_anon.runtime.select import open_runner
from trt_anon.sink.base import Sink
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import Detections, Frame

STAGES = ("preprocess", "postprocess", "redact", "encode")
"""Parts that are measured only if every stage is asked for."""

_IN_FLIGHT = 8


class HostSubject:
    """See `bench.part.Subject`."""

    def __init__(
        self,
        clip: Path,
        frames: int,
        config: AnonymizeConfig,
        recipes: list[Recipe],
        registry: Registry,
        scratch: Path,
        *,
        stages: bool,
        encode: bool,
    ) -> None:
        self._clip, self._count, self._scratch = clip, frames, scratch
        self._config = config
        self._taps: list[RunnerTap] = []
        self.traffic: Traffic | None = None
        self.cores: int | None = usable_cores()
        self.extra_shares: dict[str, Spread] = {}
        self.missing: dict[str, str] = {
            "bytes across PCIe, launches, synchronisations": "the CPU pipeline has none",
            "watts": "NVML measures GPUs only",
        }
        self._detector = FrameDetector.load(config, registry, recipes, opener=self._tapped)
        self._redaction = Redaction(config)
        self.parts: dict[str, Callable[[], Pass]] = {"decode": self._decode}
        if stages:
            self.parts |= {"preprocess": self._preprocess}
        self.parts |= {"engine": self._engine}
        if stages:
            self.parts |= {"postprocess": self._postprocess}
        self.parts |= {"detect": self._detect}
        if stages:
            if config.track.track == "on":
                self.parts |= {"track": self._track}
            self.parts |= {"redact": self._redact}
            if encode:
                self.parts |= {"encode": self._encode}
        self.parts |= {"pipeline": lambda: self._whole(encode=False)}
        if encode:
            self.parts |= {"pipeline + encode": lambda: self._whole(encode=True)}
        self._redacted_objects = 0.0
        self._looked: list[_Looked] = []
        self._frames: list[Frame] = []
        self._feeds: list[list[tuple[RunnerTap, dict[str, Tensor]]]] = []

    def _tapped(self, path: Path, config: RuntimeConfig) -> RunnerTap:
        self._taps.append(RunnerTap(open_runner(path, config)))
        return self._taps[-1]

    def __enter__(self) -> HostSubject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frames.clear()
        self._detector.close()

    @property
    def frames(self) -> int:
        """Frames of the clip that are measured."""
        return self._count

    def warm_up(self) -> None:
        """One pass of the whole, before any frame is held in memory: what memory it takes can be watched meanwhile."""
        self._whole(encode="pipeline + encode" in self.parts)

    def hold(self) -> MediaInfo:
        """Decode the frames and record what the engine sees and says, for the parts that run alone."""
        source = PyAVSource(self._clip, threads=self._config.runtime.threads)
        self._info = source.info
        self._frames = list(islice(source, self._count))
        source.close()
        self._count = len(self._frames)
        self._detector.prepare(self._info)
        self._mode("record")
        self._looked = []
        for frame in self._frames:
            before = [len(tap.feeds) for tap in self._taps]
            self._looked.append(_Looked(*self._detector.submit(frame).result_with_weak()))
            self._feeds.append(
                [(tap, feeds) for tap, start in zip(self._taps, before, strict=True) for feeds in tap.feeds[start:]]
            )
        self._mode("pass")
        return self._info

    @property
    def found_per_frame(self) -> float:
        """Objects redacted, on average."""
        return self._redacted_objects

    def _mode(self, mode: Mode) -> None:
        for tap in self._taps:
            tap.mode = mode
            tap.rewind()

    def _decode(self) -> Pass:
        clock = Clock()
        with clock:
            source = PyAVSource(self._clip, threads=self._config.runtime.threads)
            frames = sum(1 for _ in islice(source, self._count))
            source.close()
        return clock.done(frames)

    def _preprocess(self) -> Pass:
        self._mode("echo")
        clock = Clock()
        with clock:
            clock.each(self._frames, self._detector.submit)
        self._mode("pass")
        return clock.done(self._count)

    def _engine(self) -> Pass:
        def submit(feeds: list[tuple[RunnerTap, dict[str, Tensor]]]) -> list[object]:
            return [tap.submit_bare(one) for tap, one in feeds]

        clock = Clock()
        with clock:
            clock.windowed(self._feeds, submit, lambda pending: [p.result() for p in pending], _IN_FLIGHT)
        return clock.done(self._count)

    def _postprocess(self) -> Pass:
        self._mode("echo")
        pending = [self._detector.submit(frame) for frame in self._frames]
        clock = Clock()
        with clock:
            clock.each(pending, lambda one: one.result_with_weak())
        self._mode("pass")
        return clock.done(self._count)

    def _detect(self) -> Pass:
        clock = Clock()
        with clock:
            clock.windowed(self._frames, self._detector.submit, lambda p: p.result_with_weak(), _IN_FLIGHT)
        return clock.done(self._count)

    def _track(self) -> Pass:
        def failed(_stage: str, _frame: Frame, error: Exception) -> None:
            raise error

        stage = TrackStage(self._info, self._detector, self._config.track, failed)
        clock = Clock()
        with clock:
            clock.each(zip(self._frames, self._looked, strict=True), stage.push)
            stage.finish()
        return clock.done(self._count)

    def _redact(self) -> Pass:
        pairs = zip(self._frames, [looked.found for looked in self._looked], strict=True)
        clock = Clock()
        with clock:
            clock.each(pairs, lambda pair: self._redaction.apply(*pair))
        return clock.done(self._count)

    def _sink(self) -> PyAVSink:
        # What is beside the pictures in an input is no part of what is measured.
        config = self._config.sink.model_copy(update={"audio": "drop", "subtitles": "drop"})
        path = self._scratch / f"out{self._clip.suffix}"
        return PyAVSink(
            path, source_path=self._clip, info=self._info_now(), config=config, threads=self._config.runtime.threads
        )

    def _info_now(self) -> MediaInfo:
        if not hasattr(self, "_info"):
            source = PyAVSource(self._clip)
            self._info = source.info
            source.close()
        return self._info

    def _encode(self) -> Pass:
        sink = self._sink()
        clock = Clock()
        with clock:
            clock.each(self._frames, sink.write)
            sink.finish()
        return clock.done(self._count)

    def _whole(self, *, encode: bool) -> Pass:
        clock = Clock()
        sink = TimedSink(self._sink() if encode else NoSink(), clock)
        with clock:
            source = TimedSource(PyAVSource(self._clip, threads=self._config.runtime.threads), self._count, sink)
            report = anonymize_frames(
                source, sink, self._detector, self._redaction, self._config.pipeline, track=self._config.track
            )
            source.close()
        self._redacted_objects = sum(report.objects.values()) / max(report.frames, 1)
        return clock.done(report.frames)


@dataclass(frozen=True, slots=True)
class _Looked:
    """Detections that are there already, as the tracker takes them."""

    found: Detections
    weak: Detections

    def result(self) -> Detections:
        return self.found

    def result_with_weak(self) -> tuple[Detections, Detections]:
        return self.found, self.weak


class NoSink:
    """Takes frames and forgets them: the pipeline without writing."""

    def write(self, frame: Frame) -> None:
        """Drop a frame."""

    def finish(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to release."""


@dataclass(slots=True)
class TimedSink:
    """Notes for each frame the time from its decoding to the end of its writing."""

    inner: Sink
    clock: Clock
    started: dict[int, float]

    def __init__(self, inner: Sink, clock: Clock) -> None:
        self.inner, self.clock, self.started = inner, clock, {}

    def write(self, frame: Frame) -> None:
        """Write a frame."""
        self.inner.write(frame)
        self.clock.latencies.append(time.perf_counter() - self.started.pop(frame.index))

    def finish(self) -> None:
        """Finish the file."""
        self.inner.finish()

    def abort(self) -> None:
        """Give up the file."""
        self.inner.abort()


class TimedSource:
    """The first frames of a video, each noted when it is decoded."""

    def __init__(self, inner: PyAVSource, count: int, sink: TimedSink) -> None:
        self._inner, self._count, self._sink = inner, count, sink

    @property
    def info(self) -> MediaInfo:
        """Of the video."""
        return self._inner.info

    def __iter__(self) -> Iterator[Frame]:
        """The frames."""
        for frame in islice(self._inner, self._count):
            self._sink.started[frame.index] = time.perf_counter()
            yield frame

    def close(self) -> None:
        """Release the file."""
        self._inner.close()
