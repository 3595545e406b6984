"""Several videos through one device at the same time: a GPU has several decoders, and one video uses one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from trt_anon.bench.device_steady import SteadySink, TimedDeviceSource, decode_steadily, warm_batches
from trt_anon.bench.part import Clock, Pass
from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_loop import DeviceLoop
from trt_anon.pipeline.redaction import Redaction
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.source.device import DeviceSource

_BUFFERS = 3


class SeveralVideos:
    """The same clip so many times at once, each with a decoder, buffers, detectors and streams of its own."""

    def __init__(
        self,
        count: int,
        batch: int,
        config: AnonymizeConfig,
        detectors: Sequence[DeviceDetector],
        rules: Sequence[MergeRule],
        memory: DeviceMemory,
        open_source: Callable[[], DeviceSource],
    ) -> None:
        self._batch, self._config, self._memory, self._open = batch, config, memory, open_source
        self._undo = ExitStack()
        self._loops = []
        with memory.using():
            for _ in range(count):
                own = [detector.another() for detector in detectors]
                for detector in own:
                    self._undo.callback(detector.close)
                self._loops.append(DeviceLoop(own, config.detect.classes, rules, memory, batch=batch))

    def close(self) -> None:
        """Free the detectors."""
        self._undo.close()

    def decode(self) -> Pass:
        """All decoders, and nothing else."""
        return self._together(lambda _loop, clock: self._decode_one(clock))

    def pipeline(self) -> Pass:
        """All pipelines, nothing written."""
        return self._together(self._pipeline_one)

    def _together(self, work: Callable[[DeviceLoop, Clock], tuple[int, float]]) -> Pass:
        """The sum of what each does in its steady state; these overlap, as all videos are of one length."""
        clocks = [Clock() for _ in self._loops]
        whole = Clock()
        with whole, ThreadPoolExecutor(len(self._loops), thread_name_prefix="trt-anon-bench") as pool:
            done = list(pool.map(work, self._loops, clocks))
        frames = sum(count for count, _ in done)
        fps = sum(count / seconds for count, seconds in done)
        latencies = tuple(seconds for clock in clocks for seconds in clock.latencies)
        return Pass(frames, frames / fps, whole.cpu_seconds, latencies)

    def _decode_one(self, clock: Clock) -> tuple[int, float]:
        memory = self._memory
        group = memory.group()
        with memory.using(), closing(self._open()) as source:
            info = source.info
            layout = FrameLayout.of(info.pixel_format, info.width_px, info.height_px)
            twin = source.needs_twin
            buffers = [BatchBuffer(layout, self._batch, memory, group, twin=twin) for _ in range(_BUFFERS)]
            try:
                return decode_steadily(source, buffers, memory, clock)
            finally:
                group.free()

    def _pipeline_one(self, loop: DeviceLoop, clock: Clock) -> tuple[int, float]:
        memory, config = self._memory, self._config
        with memory.using(), closing(self._open()) as source:
            warm = warm_batches(self._batch, source.info, config.track)
            sink = SteadySink(None, clock, memory, self._batch, warm)
            timed, redaction = TimedDeviceSource(source, sink), Redaction(config)
            with (began := Clock()):
                report = loop.anonymize(timed, sink, redaction, config.pipeline, track=config.track)
        steady = sink.steady()
        clock.latencies[:] = sink.steady_latencies()
        return steady or (report.frames, began.wall_seconds)
