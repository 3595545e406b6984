"""A frame's way through all stages on a device, for one file: a ring of batches, and what passes between the threads.

Three threads: one decodes into free batches, one puts their detection on a stream, one takes up what was found, a batch
or more behind, decides what to redact, and puts the redaction on another stream. The caller's thread writes. Frames
stay where they were decoded; only what was found leaves the device, small grey pictures for tracks, and finished frames
where the encoder is a CPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import PipelineConfig, TrackConfig
from trt_anon.cuda.frames import BatchBuffer, BatchRing, FrameLayout
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.errors import OutOfDeviceMemory, PipelineError, TrtAnonError
from trt_anon.media import MediaInfo
from trt_anon.pipeline.conveyor import Conveyor, Stage
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_found import Found, Seen
from trt_anon.pipeline.device_model import DeviceModel
from trt_anon.pipeline.device_redaction import DeviceRedaction, whole_frame
from trt_anon.pipeline.faults import FrameFaults
from trt_anon.pipeline.loop import LoopReport
from trt_anon.pipeline.redaction import Layer, Redaction
from trt_anon.pipeline.tracking import TrackedFrames, most_waiting, seconds_of, to_hide
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.sink.base import Sink
from trt_anon.source.device import DeviceSource
from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Frame, Tracks

_log = logging.getLogger("trt_anon")

DEFAULT_BATCH = 16
"""Frames per batch where nobody says and the memory suffices."""

BATCHES_UNDER_WAY = 5
"""Being decoded, waiting for or in detection (two), in redaction, in the encoder's hands."""

_END = object()


@dataclass(eq=False)
class _Waiting:
    """A batch whose frames are being settled: their layers, as far as they are known."""

    batch: BatchBuffer
    layers: list[tuple[Layer, ...] | None]
    whole: list[bool] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return all(layers is not None for layers in self.layers)


_Place = tuple[_Waiting, int]
"""A frame: its batch, and its place in it."""


def _most_waiting(info: MediaInfo, track: TrackConfig) -> int:
    """How many frames the look-ahead may keep, on the device as everywhere."""
    wanted = math.ceil(track.look_ahead_seconds * float(info.average_rate or 25)) + 1
    return max(2, min(most_waiting(info, track), wanted))


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
        wanted: Callable[[Frame], bool] | None = None,
        track: TrackConfig | None = None,
    ) -> LoopReport:
        """Anonymize a whole video; see `loop.anonymize_frames`. For tracks, small grey pictures reach the host.

        A sink with an attribute `on_device` that is true is given frames whose planes lie on the device, all others
        such in host memory. Both must be done with a frame's planes when `write` returns.
        """
        start = time.perf_counter()
        try:
            tracking = None if track is None or track.track == "off" else track
            with contextlib.closing(self._stations(source, sink, tracking)) as stations:
                run = _Run(self.memory, stations, source, sink, redaction, config, wanted)
                frames = run.through(on_frame)
                began = time.perf_counter()
                with self.memory.using():
                    sink.finish()
                run.encode_seconds += time.perf_counter() - began
        except BaseException:
            sink.abort()
            raise
        return LoopReport(frames, dict(run.objects), time.perf_counter() - start, run.busy_seconds, run.faults.counts)

    def _stations(self, source: DeviceSource, sink: Sink, track: TrackConfig | None) -> _Stations:
        """Everything that needs memory, for the largest batch that it suffices for."""
        batch = self._batch
        while True:
            try:
                with self.memory.using():
                    made = _Stations(self, source, sink, track, batch)
            except OutOfDeviceMemory:
                if batch == 1:
                    raise
                batch //= 2
                _log.info("the device's memory does not suffice: batches of %d frames", batch)
            else:
                self._batch = batch  # what did not fit will not fit next time
                return made

    def model(self, source: DeviceSource, ring: BatchRing, *, weak: bool) -> DeviceModel:
        """The detectors for the frames of a source; weak: detections that only continue a track are given, too."""
        return DeviceModel(
            self._detectors,
            self.class_names,
            self._rules,
            source.info,
            ring.buffers,
            self.memory,
            weak=weak,
            graphs=self._graphs,
        )


class _Stations:
    """The ring, the model and the redaction of one video, and their streams."""

    def __init__(
        self, loop: DeviceLoop, source: DeviceSource, sink: Sink, track: TrackConfig | None, batch: int
    ) -> None:
        memory, info = loop.memory, source.info
        self._memory = memory
        self.group = memory.group()
        self.to_host = not getattr(sink, "on_device", False)
        self.track, self.most_waiting = track, 0 if track is None else _most_waiting(info, track)
        batches = BATCHES_UNDER_WAY + (0 if track is None else 1 + -(-self.most_waiting // batch))
        layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
        with contextlib.ExitStack() as undo:
            undo.callback(self.group.free)
            twin = source.needs_twin or self.to_host
            self.ring = BatchRing(layout, batch, batches, memory, self.group, twin=twin)
            self.redaction = DeviceRedaction(memory)
            undo.callback(self.redaction.close)
            self.model = loop.model(source, self.ring, weak=track is not None)
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
        wanted: Callable[[Frame], bool] | None,
    ) -> None:
        self._is_wanted = wanted or (lambda _frame: True)
        self._memory, self._stations, self._source, self._sink = memory, stations, source, sink
        self._redaction, self._config = redaction, config
        self._tracked = self._new_tracks()
        self.faults = FrameFaults(config.on_error)
        self.objects: Counter[str] = Counter()
        self.encode_seconds = 0.0
        self.busy_seconds: dict[str, float] = {}
        self._waiting: deque[_Waiting] = deque()
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
                self._settle_all(lambda tracked: tracked.finish())
            else:
                self._take_up(batch)
            ready = []
            while self._waiting and self._waiting[0].settled:
                done = self._waiting.popleft()
                self._finish(done)
                ready.append(done.batch)
            if batch is _END and self._waiting:
                raise PipelineError("the tracker has kept frames back")
        return ready

    def _take_up(self, batch: BatchBuffer) -> None:
        """What was found in a batch goes to what looks over time."""
        failed = self._failed.pop(id(batch), None)
        found: Sequence[Found] = (
            [failed] * len(batch.frames) if failed is not None else self._stations.model.collect(batch)
        )
        waiting = _Waiting(batch, [None] * len(batch.frames))
        self._waiting.append(waiting)
        for place, (frame, seen) in enumerate(zip(batch.frames, found, strict=True)):
            known: Seen | None = None
            if frame.concealed:
                if self._is_wanted(frame):
                    self.faults.note_concealed(frame)
            elif isinstance(seen, Seen):
                known = seen
            else:
                self._fault("detect", frame, seen)
            waiting.whole.append(known is None)
            if self._tracked is None:
                self._settle((waiting, place), None if known is None else known.found)
            else:
                look = failed is None and not frame.concealed
                picture = self._stations.model.picture(batch, place) if look else None
                self._track((waiting, place), frame, known, picture)

    def _track(self, item: _Place, frame: Frame, seen: Seen | None, picture: NDArray[np.uint8] | None) -> None:
        """Let the tracker know of a frame, and settle those that it knows enough about."""
        sight = Sight(
            seconds_of(frame, self._source.info),
            frame.upright_size_px,
            picture,
            None if seen is None else seen.found,
            None if seen is None else seen.weak,
        )
        self._settle_all(lambda tracked: tracked.push(item, sight))

    def _settle_all(self, ask: Callable[[TrackedFrames[_Place]], Sequence[tuple[_Place, Tracks]]]) -> None:
        if self._tracked is None:
            return
        try:
            settled = [(item, to_hide(tracks)) for item, tracks in ask(self._tracked)]
        except Exception as error:  # noqa: BLE001 - raised again unless frames are to be redacted whole
            # It concerns all frames that wait, as in `tracking.TrackStage`.
            for waiting, place in self._tracked.waiting():
                self.faults.note("track", waiting.batch.frames[place], error)
                waiting.whole[place] = True
                self._settle((waiting, place), None)
            self._tracked = self._new_tracks()
        else:
            for item, detections in settled:
                self._settle(item, detections)

    def _new_tracks(self) -> TrackedFrames[_Place] | None:
        stations = self._stations
        if stations.track is None:
            return None
        model = stations.model
        return TrackedFrames(stations.track, model.class_names, model.thresholds, stations.most_waiting)

    def _fault(self, stage: str, frame: Frame, error: Exception) -> None:
        if self._is_wanted(frame):
            self.faults.note(stage, frame, error)

    def _settle(self, item: _Place, detections: Detections | None) -> None:
        """What has to be hidden in a frame is known now; None where it is not, and so all of it."""
        waiting, place = item
        frame = waiting.batch.frames[place]
        layers: tuple[Layer, ...] | None = None
        if detections is not None and not waiting.whole[place]:
            try:
                layers = self._redaction.layers(frame, detections)
                for class_id in detections.class_ids.tolist() if self._is_wanted(frame) else ():
                    self.objects[detections.class_names[class_id]] += 1
            except Exception as error:  # noqa: BLE001 - raised again unless the frame is to be redacted whole
                self._fault("redact", frame, error)
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
                    self._fault("redact", frame, error)
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
                if not self._is_wanted(frame):
                    continue
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
