"""The way that one file's frames take: through the CPU's stages, or through those of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from trt_anon.config import AnonymizeConfig
from trt_anon.errors import UsageError
from trt_anon.job.device_detection import DeviceDetection
from trt_anon.job.inputs import Task
from trt_anon.media import MediaInfo
from trt_anon.pipeline.detecting import Detecting, DetectsFiles
from trt_anon.pipeline.device_engine import DeviceEngine
from trt_anon.pipeline.loop import LoopReport, anonymize_frames
from trt_anon.pipeline.redaction import Redaction
from trt_anon.pipeline.two_pass import KnownTracks, look_through
from trt_anon.sink.base import Sink
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.base import Source
from trt_anon.source.device import DeviceSource
from trt_anon.source.images import ImageSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.source.span import Span, SpanSource
from trt_anon.types import Frame

OnFrame = Callable[[int], None]
Wanted = Callable[[Frame], bool]
Result = TypeVar("Result")


class Way(Protocol):
    """An opened file, and how its frames get to a sink."""

    @property
    def info(self) -> MediaInfo:
        """What is known before the first frame, in the pixel format that the sink will be given."""
        ...

    def open_sink(self, path: Path, source_path: Path) -> Sink:
        """What writes the video to `path`; of videos. Raises what `PyAVSink` does."""
        ...

    def take(
        self, sink: Sink, redaction: Redaction, on_frame: OnFrame | None, wanted: Wanted | None = None
    ) -> LoopReport:
        """Anonymize all frames; see `pipeline.loop.anonymize_frames`."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


@dataclass(frozen=True, slots=True)
class HostWay:
    """Through the stages of the CPU."""

    source: Source
    detecting: Detecting
    config: AnonymizeConfig

    @property
    def info(self) -> MediaInfo:
        """See `Way.info`."""
        return self.source.info

    def open_sink(self, path: Path, source_path: Path) -> Sink:
        """See `Way.open_sink`."""
        config = self.config
        if config.sink.encoder == "nvenc":
            raise UsageError("encoder nvenc takes frames that lie on a GPU; use --device cuda, or --encoder cpu")
        threads = config.runtime.threads
        return PyAVSink(path, source_path=source_path, info=self.info, config=config.sink, threads=threads)

    def take(
        self, sink: Sink, redaction: Redaction, on_frame: OnFrame | None, wanted: Wanted | None = None
    ) -> LoopReport:
        """See `Way.take`."""
        return anonymize_frames(
            self.source,
            sink,
            self.detecting,
            redaction,
            self.config.pipeline,
            on_frame,
            wanted,
            self.config.track,
        )

    def close(self) -> None:
        """See `Way.close`."""
        self.source.close()
        if isinstance(self.detecting, KnownTracks):
            self.detecting.close()


@dataclass(frozen=True, slots=True)
class DeviceWay:
    """Through a GPU."""

    source: DeviceSource
    engine: DeviceEngine

    @property
    def info(self) -> MediaInfo:
        """See `Way.info`."""
        return self.source.info

    def open_sink(self, path: Path, source_path: Path) -> Sink:
        """See `Way.open_sink`."""
        return self.engine.open_sink(path, source_path, self.info)

    def take(
        self, sink: Sink, redaction: Redaction, on_frame: OnFrame | None, wanted: Wanted | None = None
    ) -> LoopReport:
        """See `Way.take`."""
        return self.engine.anonymize(self.source, sink, redaction, on_frame, wanted)

    def close(self) -> None:
        """See `Way.close`."""
        self.source.close()


def open_source(task: Task, config: AnonymizeConfig) -> Source:
    """The source on the CPU for a task's kind of file."""
    if task.kind == "image":
        return ImageSource(task.source)
    conceal = config.pipeline.on_error == "redact-frame"
    return PyAVSource(task.source, threads=config.runtime.threads, conceal_damage=conceal)


def open_way(
    task: Task,
    config: AnonymizeConfig,
    detector: DetectsFiles,
    engine: DeviceEngine | None = None,
    span: Span | None = None,
) -> Way:
    """Open a file for its way. engine: the device it takes, None for the CPU; span: of a video, which part of it."""
    if engine is not None:
        return DeviceWay(engine.open_source(task.source, span), engine)
    source = _on_the_host(task, config, span)
    try:
        detecting = detector.for_source(task.source)
        if task.kind == "video" and config.track.track == "on" and config.track.two_pass and not detecting.complete:
            detecting = look_through(
                lambda: _on_the_host(task, config, span), detecting, config, task.destination.parent
            )
        return HostWay(source, detecting, config)
    except BaseException:
        source.close()
        raise


def _on_the_host(task: Task, config: AnonymizeConfig, span: Span | None) -> Source:
    if span is None:
        return open_source(task, config)
    return SpanSource(task.source, span, threads=config.runtime.threads)


def on_a_device(task: Task, detector: DetectsFiles, work: Callable[[DeviceEngine | None], Result]) -> Result:
    """Do a task's work on a device where it is a video and there are devices, on another where that one fails."""
    if task.kind == "video" and isinstance(detector, DeviceDetection):
        return detector.workers.run(work)
    return work(None)


def videos_at_once(detector: DetectsFiles) -> int:
    """How many videos of a job run at the same time."""
    return detector.workers.count if isinstance(detector, DeviceDetection) else 1
