"""A frame's way through all stages on a device, for one file: a ring of batches, and what passes between the threads.

Three threads: one decodes into free batches, one puts their detection on a stream, one takes up what was found, a batch
or more behind, decides what to redact, and puts the redaction on another stream. The caller's thread writes. Frames
stay where they were decoded; only what was found leaves the device, and finished frames where the encoder is a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trt_anon.config import PipelineConfig
from trt_anon.cuda.frames import BatchBuffer, BatchRing, FrameLayout
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.errors import OutOfDeviceMemory, TrtAnonError
from trt_anon.pipeline.conveyor import Conveyor, Stage
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_model import DeviceModel, Found
from trt_anon.pipeline.device_redaction import DeviceRedaction, whole_frame
from trt_anon.pipeline.faults import FrameFaults
from trt_anon.pipeline.loop import LoopReport
from trt_anon.pipeline.redaction import Layer, Redaction
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.sink.base import Sink
from trt_anon.source.device import DeviceSource
from trt_anon.types import Detections, Frame

_log = logging.getLogger("trt_anon")

DEFAULT_BATCH = 16
"""Frames per batch where nobody says and the memory suffices."""

BATCHES_UNDER_WAY = 5
"""Being decoded, waiting for or in detection (two), in redaction, in the encoder's hands."""

_END = object()


class Settles(Protocol):
    """What looks at detections over time: it gives each frame's final ones, in order, as soon as it knows them."""

    @property
    def look_ahead_frames(self) -> int:
        """How many frames may wait for those after them; so many stay on the device longer."""
        ...

    def push(self, frame: Frame, found: Detections) -> Sequence[Detections]:
        """Take in the next frame (its planes lie on a device); the final detections of frames that need not wait."""
        ...

    def finish(self) -> Sequence[Detections]:
        """Those of all frames that still wait."""
        ...


class EachByItself:
    """Every frame is settled by what was found in it."""

    look_ahead_frames = 0

    def push(self, frame: Frame, found: Detections) -> Sequence[Detections]:
        """The frame's own detections."""
        return (found,)

    def finish(self) -> Sequence[Detections]:
        """None wait."""
        return ()


@dataclass(eq=False)
class _Waiting:
    """A batch whose frames are being settled: their layers, as far as they are known."""

    batch: BatchBuffer
    layers: list[tuple[Layer, ...] | None]
    whole: list[bool] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return all(layers is not None for layers in self.layers)


class DeviceLoop:
    """Anonymizes videos on one device, one at a time.

    detectors: for this loop alone. batch: frames per batch; None takes DEFAULT_BATCH; either becomes smaller where the
    memory does not suffice. graphs: whether recorded work is replayed, where the device can.
    """

    def __init__(
        self,
        detectors: Sequence[DeviceDetector],
        class_names: Sequence[str],
        rules: Sequence[MergeRule],
        memory: DeviceMemory,
        *,
        batch: int | None = None,
        graphs: bool = True,
    ) -> None:
        self._detectors, self.class_names, self._rules = tuple(detectors), tuple(class_names), tuple(rules)
        self.memory = memory
        self._batch, self._graphs = batch or DEFAULT_BATCH, graphs

    def anonymize(
        self,
        source: DeviceSource,
        sink: Sink,
        redaction: Redaction,
        config: PipelineConfig,
        on_frame: Callable[[int], None] | None = None,
        settles: Settles | None = None,
    ) -> LoopReport:
        """Anonymize a whole video; see `loop.anonymize_frames`.

        A sink with an attribute `on_device` that is true is given frames whose planes lie on the device, all others
        such in host memory. Both must be done with a frame's planes when `write` returns.
        """
        start = time.perf_counter()
        try:
            with contextlib.closing(self._stations(source, sink, settles or EachByItself())) as stations:
                run = _Run(self.memory, stations, source, sink, redaction, config, settles or EachByItself())
                frames = run.through(on_frame)
                began = time.perf_counter()
                with self.memory.using():
                    sink.finish()
                run.encode_seconds += time.perf_counter() - began
        except BaseException:
            sink.abort()
            raise
        return LoopReport(frames, dict(run.objects), time.perf_counter() - start, run.busy_seconds, run.faults.counts)

    def _stations(self, source: DeviceSource, sink: Sink, settles: Settles) -> _Stations:
        """Everything that needs memory, for the largest batch that it suffices for."""
        batch = self._batch
        while True:
            try:
                with self.memory.using():
                    made = _Stations(self, source, sink, settles, batch)
            except OutOfDeviceMemory:
                if batch == 1:
                    raise
                batch //= 2
                _log.info("the device's memory does not suffice: batches of %d frames", batch)
            else:
                self._batch = batch  # what did not fit will not fit next time
                return made

    def model(self, source: DeviceSource, ring: BatchRing) -> DeviceModel:
        """The detectors for the frames of a source."""
        return DeviceModel(
            self._detectors,
            self.class_names,
            self._rules,
            source.info,
            ring.buffers,
            self.memory,
            graphs=self._graphs,
        )


class _Stations:
    """The ring, the model and the redaction of one video, and their streams."""

    def __init__(self, loop: DeviceLoop, source: DeviceSource, sink: Sink, settles: Settles, batch: int) -> None:
        memory, info = loop.memory, source.info
        self._memory = memory
        self.group = memory.group()
        self.to_host = not getattr(sink, "on_device", False)
        batches = BATCHES_UNDER_WAY + -(-settles.look_ahead_frames // batch)
        layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
        with contextlib.ExitStack() as undo:
            undo.callback(self.group.free)
            twin = source.needs_twin or self.to_host
            self.ring = BatchRing(layout, batch, batches, memory, self.group, twin=twin)
            self.redaction = DeviceRedaction(memory)
            undo.callback(self.redaction.close)
            self.model = loop.model(source, self.ring)
            undo.pop_all()
        self.detecting, self.redacting = memory.new_stream(), memory.new_stream()

    def close(self) -> None:
        memory = self._memory
        with memory.using():
            for stream in (self.detecting, self.redacting):
                memory.wait(memory.record(stream), "the end")  # synchronises: the memory is freed
            self.model.close()
            self.redaction.close()
            self.group.free()


class _Run:
    """One video under way."""

    def __init__(
        self,
        memory: DeviceMemory,
        stations: _Stations,
        source: DeviceSource,
        sink: Sink,
        redaction: Redaction,
        config: PipelineConfig,
        settles: Settles,
    ) -> None:
        self._memory, self._stations, self._source, self._sink = memory, stations, source, sink
        self._redaction, self._config, self._settles = redaction, config, settles
        self.faults = FrameFaults(config.on_error)
        self.objects: Counter[str] = Counter()
        self.encode_seconds = 0.0
        self.busy_seconds: dict[str, float] = {}
        self._waiting: deque[_Waiting] = deque()
        self._places: deque[tuple[_Waiting, int]] = deque()  # frames that are not settled yet
        self._failed: dict[int, TrtAnonError] = {}

    def through(self, on_frame: Callable[[int], None] | None) -> int:
        """Take all frames from the source to the sink; gives their number."""
        frames = 0
        stages = [Stage("detect", self._detect), Stage("redact", self._redact)]
        conveyor = Conveyor(self._batches(), stages, queue=2, source_name="decode")
        ring = self._stations.ring
        with conveyor, contextlib.ExitStack() as stop:
            stop.callback(ring.stop)  # else a thread that waits for a free batch would never end
            for ready in conveyor:
                for batch in ready:
                    frames = self._write(batch, frames, on_frame)
        self.faults.check(frames)
        busy = dict(conveyor.busy_seconds)
        busy["decode"] = max(0.0, busy["decode"] - ring.waited_seconds)
        self.busy_seconds = {**busy, "encode": self.encode_seconds}
        return frames

    def _batches(self) -> Iterator[Any]:
        while True:
            batch = self._stations.ring.take()
            if batch is None:
                return
            with self._memory.using():
                count = self._source.fill(batch)
            if count:
                yield batch
            if count < batch.capacity:
                yield _END
                return

    def _detect(self, batch: Any) -> Any:
        if batch is _END:
            return batch
        try:
            with self._memory.using():
                self._stations.model.enqueue(batch, self._stations.detecting)
        except TrtAnonError as error:
            self._failed[id(batch)] = error
        return batch

    def _redact(self, batch: Any) -> list[BatchBuffer]:
        """Settle frames; the batches that are redacted by this, in order."""
        with self._memory.using():
            if batch is _END:
                self._settle(self._settles.finish())
            else:
                self._take_up(batch)
            ready = []
            while self._waiting and self._waiting[0].settled:
                done = self._waiting.popleft()
                self._finish(done)
                ready.append(done.batch)
        return ready

    def _take_up(self, batch: BatchBuffer) -> None:
        """What was found in a batch goes to what looks over time."""
        failed = self._failed.pop(id(batch), None)
        found: Sequence[Found] = (
            [failed] * len(batch.frames) if failed is not None else self._stations.model.collect(batch)
        )
        waiting = _Waiting(batch, [None] * len(batch.frames))
        self._waiting.append(waiting)
        nothing = Detections.empty(self._redaction_classes)
        for place, (frame, seen) in enumerate(zip(batch.frames, found, strict=True)):
            whole = True
            if frame.concealed:
                self.faults.note_concealed(frame)
            elif isinstance(seen, Detections):
                whole = False
            else:
                self.faults.note("detect", frame, seen)
            waiting.whole.append(whole)
            self._places.append((waiting, place))
            self._settle(self._settles.push(frame, seen if isinstance(seen, Detections) and not whole else nothing))

    @property
    def _redaction_classes(self) -> tuple[str, ...]:
        return self._stations.model.class_names

    def _settle(self, settled: Sequence[Detections]) -> None:
        """The oldest frames that wait are known now."""
        for detections in settled:
            waiting, place = self._places.popleft()
            frame = waiting.batch.frames[place]
            layers: tuple[Layer, ...] | None = None
            if not waiting.whole[place]:
                try:
                    layers = self._redaction.layers(frame, detections)
                    for class_id in detections.class_ids.tolist():
                        self.objects[detections.class_names[class_id]] += 1
                except Exception as error:  # noqa: BLE001 - raised again unless the frame is to be redacted whole
                    self.faults.note("redact", frame, error)
            waiting.layers[place] = whole_frame(frame) if layers is None else layers

    def _finish(self, done: _Waiting) -> None:
        """Put the redaction of a batch on its stream, and the way of its frames to the host."""
        stations, memory, batch = self._stations, self._memory, done.batch
        layers = [of_frame for of_frame in done.layers if of_frame is not None]
        try:
            stations.redaction.apply(batch, layers, stations.redacting)
        except (TrtAnonError, ValueError) as error:
            for frame, whole in zip(batch.frames, done.whole, strict=True):
                if not whole:
                    self.faults.note("redact", frame, error)
            stations.redaction.apply(batch, [whole_frame(frame) for frame in batch.frames], stations.redacting)
        if stations.to_host and batch.host_block is not None:
            count = len(batch.frames)
            memory.download(batch.host_block[:count], batch.block[:count], stations.redacting, Purpose.REDACTED)
        batch.redacted = memory.record(stations.redacting)

    def _write(self, batch: BatchBuffer, frames: int, on_frame: Callable[[int], None] | None) -> int:
        """Hand the frames of a finished batch to the sink, in the caller's thread."""
        began = time.perf_counter()
        with self._memory.using():
            self._memory.wait(batch.redacted, "finished frames")
            for place, frame in enumerate(batch.frames):
                on_host = self._stations.to_host and batch.host_planes is not None
                planes = batch.host_planes[place] if on_host and batch.host_planes is not None else batch.planes[place]
                self._sink.write(dataclasses.replace(frame, planes=planes))
                frames += 1
                if on_frame is not None:
                    on_frame(frames)
        self.encode_seconds += time.perf_counter() - began
        self._memory.traffic.finished(len(batch.frames))
        self._stations.ring.give_back(batch)
        return frames
