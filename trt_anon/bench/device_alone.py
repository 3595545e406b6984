"""The parts of the device pipeline alone, on batches that stay on the device."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_anon.bench.device_steady import decode_steadily
from trt_anon.bench.device_tap import DeviceTap, Mode
from trt_anon.bench.part import Clock, Pass
from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.errors import MissingError
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Spread
from trt_anon.models.recipe import Recipe
from trt_anon.pipeline.detection import merge_rule
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_found import Seen
from trt_anon.pipeline.device_model import DeviceModel
from trt_anon.pipeline.device_redaction import DeviceRedaction
from trt_anon.pipeline.redaction import Layer, Redaction
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.preprocess.letterbox_cuda import LetterboxCuda
from trt_anon.sink.nvenc import NvencSink
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.device import DeviceSource
from trt_anon.types import Detections, Frame

BUFFERS = 4
"""Batches of frames that are held on the device; two of them are under way at a time."""

_IN_FLIGHT = 1  # beside the one being submitted, as in the pipeline


@dataclass(frozen=True, slots=True)
class DeviceSetting:
    """What a subject measures with.

    open_source: opens the clip anew. detectors: for this subject alone. videos: how many at once are measured besides.
    copy_bytes: of the array whose copy measures the device's bandwidth.
    """

    clip: Path
    batch: int
    config: AnonymizeConfig
    recipes: Sequence[Recipe]
    detectors: Sequence[DeviceDetector]
    memory: DeviceMemory
    open_source: Callable[[], DeviceSource]
    scratch: Path
    stages: bool
    encode: bool
    videos: int = 1
    copy_bytes: int = 1 << 30

    @property
    def rules(self) -> list[MergeRule]:
        """How boxes of one object become one, for each class."""
        return [merge_rule(name, self.recipes) for name in self.config.detect.classes]

    def pipeline_encoder(self, info: MediaInfo, missing: dict[str, str]) -> PyAVSink:
        """The sink that a job would take: NVENC where the GPU has it, else the CPU, with the reason in `missing`."""
        chosen = self.config.sink.encoder
        if chosen == "nvenc" or (chosen == "auto" and self.memory.side == "cupy"):
            config = self.config.sink.model_copy(update={"audio": "drop", "subtitles": "drop"})
            path = self.scratch / f"out{self.clip.suffix}"
            try:
                return NvencSink(path, source_path=self.clip, info=info, config=config, memory=self.memory)
            except MissingError as error:
                if chosen == "nvenc":
                    raise
                missing["encoding on the GPU"] = str(error).removeprefix(f"{self.clip}: ").replace(str(path), "it")
        return self.encoder(info)

    def encoder(self, info: MediaInfo) -> PyAVSink:
        """A sink on the CPU; what is beside the pictures in the clip is no part of what is measured."""
        config = self.config.sink.model_copy(update={"audio": "drop", "subtitles": "drop"})
        path = self.scratch / f"out{self.clip.suffix}"
        return PyAVSink(path, source_path=self.clip, info=info, config=config)


class PartsAlone:
    """Batches of a clip on the device, and each part of the pipeline on them; frees what it holds when it is closed.

    frames: how many a pass shall be of, about. Raises ValueError for a clip that does not fill the batches.
    """

    def __init__(self, setting: DeviceSetting, taps: Sequence[DeviceTap], redaction: Redaction, frames: int) -> None:
        self._s, self._taps, self._redaction, self._frames = setting, tuple(taps), redaction, frames
        memory = self._memory = setting.memory
        self._undo = ExitStack()
        self._without_engine: DeviceModel | None = None
        self._on_host: list[Frame] = []
        self._moved: dict[str, list[tuple[float, float]]] = {}
        with memory.using():
            source = setting.open_source()
            info = source.info
            group = memory.group()
            self._undo.callback(group.free)
            layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
            twin = source.needs_twin
            self._buffers = [BatchBuffer(layout, setting.batch, memory, group, twin=twin) for _ in range(BUFFERS)]
            full = 0
            with closing(source):
                for buffer in self._buffers:
                    full += source.fill(buffer) == setting.batch
                    memory.wait(buffer.filled, "setting up")
            if full < BUFFERS:
                raise ValueError(f"a clip has to fill {BUFFERS} batches of {setting.batch} frames")
            self.info = info
            self._stream = memory.new_stream()
            self._model = self._new_model()
            self._found: list[Detections] = []
            with self._mode("record"):
                self._model.enqueue(self._buffers[0], self._stream)
                self._found = [seen.found for seen in self._model.collect(self._buffers[0]) if isinstance(seen, Seen)]
            for tap in self._taps:
                tap.keep()
            self._waited(memory.record(None))  # the copies are on the current stream
            self._pictures = self._inputs()
            self._device_redaction = DeviceRedaction(memory)
            self._undo.callback(self._device_redaction.close)
            self._bandwidth = self._copy_bandwidth()

    def close(self) -> None:
        """Free everything."""
        self._undo.close()

    @property
    def copy_shares(self) -> dict[str, Spread]:
        """Kernels against the device's copy bandwidth: bytes they must move over time, for those that ran alone."""
        return {
            f"{name} of copy bandwidth": Spread.of(
                [bytes_moved / seconds / self._bandwidth for bytes_moved, seconds in runs]
            )
            for name, runs in self._moved.items()
            if runs
        }

    def _new_model(self) -> DeviceModel:
        model = DeviceModel(
            self._s.detectors, self._s.config.detect.classes, self._s.rules, self.info, self._buffers, self._memory
        )
        self._undo.callback(model.close)
        return model

    @contextmanager
    def _mode(self, mode: Mode) -> Iterator[None]:
        for tap in self._taps:
            tap.mode = mode
            tap.rewind()
        try:
            yield
        finally:
            for tap in self._taps:
                tap.mode = "pass"

    def _batches(self) -> list[BatchBuffer]:
        """As many batches as the clip has, of those that are held, over and over."""
        count = max(self._frames // self._s.batch, 2 * BUFFERS)
        return [self._buffers[number % BUFFERS] for number in range(count)]

    def _alone(self, submit: Callable[[BatchBuffer], Any], wait: Callable[[Any], object]) -> Pass:
        batches = self._batches()
        clock = Clock()
        with self._memory.using(), clock:
            clock.windowed(batches, submit, wait, _IN_FLIGHT)
        return clock.done(len(batches) * self._s.batch)

    def _waited(self, event: Any) -> None:
        self._memory.wait(event, "measuring")  # synchronises: the end is within what is timed

    def decode(self) -> Pass:
        """Decoding alone, in its steady state."""
        memory = self._memory
        clock = Clock()
        with memory.using(), clock, closing(self._s.open_source()) as source:
            frames, seconds = decode_steadily(source, self._buffers, memory, clock)
        self._refill()
        return Pass(frames, seconds, clock.cpu_seconds, tuple(clock.latencies))

    def _refill(self) -> None:
        """Decoding left the end of the clip in the buffers: put its beginning back."""
        with self._memory.using(), closing(self._s.open_source()) as source:
            for buffer in self._buffers:
                source.fill(buffer)
                self._waited(buffer.filled)

    def _inputs(self) -> list[tuple[DeviceDetector, list[Any], Any, list[dict[str, Any]]]]:
        """For each detector: its views, the pictures of a batch, and outputs, all of this part's own."""
        info, batch, memory = self.info, self._s.batch, self._memory
        group = memory.group()
        self._undo.callback(group.free)
        made = []
        for detector in self._s.detectors:
            views = detector.views_for(info.width_px, info.height_px, info.orientation, info.sample_aspect_ratio)
            at_once = detector.pictures_at_once(batch)
            dtypes = {spec.name: spec.dtype for spec in detector.device_runner.outputs}
            for view in views:
                shape = (at_once, *view.plan.target_hw_px, 3)
                shapes = detector.device_runner.prepare({detector.input_name: shape})
                pictures = group.empty((batch, *view.plan.target_hw_px, 3))
                parts = [
                    {name: group.empty(of, dtypes[name]) for name, of in shapes.items()}
                    for _ in range(batch // at_once)
                ]
                made.append((detector, [view], pictures, parts))
        return made

    def engine(self) -> Pass:
        """The bare engine, on pictures that are there."""
        memory, stream = self._memory, self._stream

        def work() -> None:
            for detector, _, pictures, parts in self._pictures:
                step = self._s.batch // len(parts)
                for number, outputs in enumerate(parts):
                    fed = {detector.input_name: pictures[number * step : (number + 1) * step]}
                    detector.device_runner.enqueue(fed, outputs, stream)

        return self._repeated("engine", work, all(tap.capturable for tap in self._taps), memory, stream)

    def preprocess(self) -> Pass:
        """From planes to the engine's input."""
        letterbox = LetterboxCuda(accounting=self._memory.traffic)
        frames = list(self._buffers[0].frames)

        def work() -> None:
            for detector, views, pictures, _ in self._pictures:
                letterbox.batch(
                    [view.of(frame) for view in views for frame in frames],
                    [view.plan for view in views for _ in frames],
                    detector.family.input_spec,
                    list(pictures),
                    layout="nhwc",
                    stream=self._stream,
                )

        return self._repeated("preprocess", work, True, self._memory, self._stream)

    def _repeated(
        self, name: str, work: Callable[[], None], capturable: bool, memory: DeviceMemory, stream: Any
    ) -> Pass:
        """The same work for every batch, replayed as a graph where the device can."""
        with memory.using():
            before = memory.traffic.total.bytes_moved
            work()  # loads kernels
            moved = memory.traffic.total.bytes_moved - before
            graph = memory.capture(work, stream) if capturable else None

        def submit(_batch: BatchBuffer) -> Any:
            if graph is None:
                work()
            else:
                graph.replay(stream)
            return memory.record(stream)

        made = self._alone(submit, self._waited)
        if moved:
            self._moved.setdefault(name, []).append((moved * made.frames / self._s.batch, made.wall_seconds))
        return made

    def detect(self) -> Pass:
        """All of detection, as the pipeline does it."""

        def submit(batch: BatchBuffer) -> BatchBuffer:
            self._model.enqueue(batch, self._stream)
            return batch

        return self._alone(submit, self._model.collect)

    def around(self) -> Pass:
        """Detection without the engine, whose recorded outputs are copied in its place."""
        with self._mode("echo"), self._memory.using():
            model = self._without_engine
            if model is None:
                model = self._without_engine = self._new_model()
                for buffer in [*self._buffers, *self._buffers]:  # loads kernels, then records graphs
                    model.enqueue(buffer, self._stream)
                    model.collect(buffer)

            def submit(batch: BatchBuffer) -> BatchBuffer:
                model.enqueue(batch, self._stream)
                return batch

            return self._alone(submit, model.collect)

    def redact(self) -> Pass:
        """Redaction in place, of what was found in the first batch."""
        memory = self._memory
        layers: list[tuple[Layer, ...]] = [
            self._redaction.layers(frame, found)
            for frame, found in zip(self._buffers[0].frames, self._found, strict=True)
        ]
        before = memory.traffic.total.bytes_moved

        def submit(batch: BatchBuffer) -> Any:
            self._device_redaction.apply(batch, layers, self._stream)
            return memory.record(self._stream)

        made = self._alone(submit, self._waited)
        self._moved.setdefault("redact", []).append((memory.traffic.total.bytes_moved - before, made.wall_seconds))
        return made

    def encode(self) -> Pass:
        """The encoder on the CPU, on frames that lie in host memory."""
        frames = self._on_host or self._downloaded()
        step = frames[1].pts - frames[0].pts if frames[0].pts is not None and frames[1].pts is not None else 1
        count = max(self._frames, len(frames))
        sink = self._s.encoder(self.info)
        clock = Clock()
        with clock:
            for number in range(count):
                frame = frames[number % len(frames)]
                start = time.perf_counter()
                sink.write(dataclasses.replace(frame, index=number, pts=number * step))
                clock.latencies.append(time.perf_counter() - start)
            sink.finish()
        return clock.done(count)

    def _downloaded(self) -> list[Frame]:
        memory = self._memory
        with memory.using():
            for buffer in self._buffers:
                host = memory.pinned((buffer.capacity, buffer.layout.size_bytes))
                memory.download(host, buffer.block, self._stream, Purpose.REDACTED)
                self._waited(memory.record(self._stream))
                for place, frame in enumerate(buffer.frames):
                    self._on_host.append(dataclasses.replace(frame, planes=buffer.layout.planes(host[place])))
        return self._on_host

    def _copy_bandwidth(self) -> float:
        """Bytes per second, read and written, of copies inside the device."""
        memory = self._memory
        group = memory.group()
        with memory.using():
            rows = 1 << 10
            source, target = (group.empty((rows, self._s.copy_bytes // rows)) for _ in range(2))
            seconds = []
            for _ in range(6):
                start = time.perf_counter()
                for _ in range(4):
                    memory.copy(target, source, self._stream)
                self._waited(memory.record(self._stream))
                seconds.append(time.perf_counter() - start)
            group.free()
        return 8 * float(source.nbytes) / sorted(seconds[1:])[2]
