"""The pipeline on a device, of one clip and one batch size: its parts alone, and all of them side by side.

Runs on a GPU, and in tests on the host in its place. The bare engine is replayed as a CUDA graph just as the pipeline
replays it, so that their ratio is of what the pipeline adds, not of how it launches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from types import TracebackType

from trt_anon.bench.device_alone import DeviceSetting, PartsAlone
from trt_anon.bench.device_several import SeveralVideos
from trt_anon.bench.device_steady import SteadySink, TimedDeviceSource, warm_batches
from trt_anon.bench.device_tap import DeviceTap
from trt_anon.bench.part import Clock, Pass
from trt_anon.bench.result import Traffic
from trt_anon.media import MediaInfo
from trt_anon.metrics.speed import Spread
from trt_anon.pipeline.device_loop import DeviceLoop
from trt_anon.pipeline.redaction import Redaction

__all__ = ["DeviceSetting", "DeviceSubject"]


class DeviceSubject:
    """See `bench.part.Subject`. Raises what the device and the detectors' runtimes raise."""

    def __init__(self, setting: DeviceSetting, missing: dict[str, str] | None = None) -> None:
        self._s = setting
        self.missing = dict(missing or {})
        memory = self._memory = setting.memory
        self._undo = ExitStack()
        self._taps = []
        for detector in setting.detectors:
            self._taps.append(DeviceTap(detector.device_runner, memory))
            detector.device_runner = self._taps[-1]
            self._undo.callback(detector.close)
        classes, rules = setting.config.detect.classes, setting.rules
        self._redaction = Redaction(setting.config)
        self._loop = DeviceLoop(setting.detectors, classes, rules, memory, batch=setting.batch)
        self._alone: PartsAlone | None = None
        self.parts: dict[str, Callable[[], Pass]] = {}
        if setting.videos > 1:
            self._several = SeveralVideos(
                setting.videos, setting.batch, setting.config, setting.detectors, rules, memory, setting.open_source
            )
            self._undo.callback(self._several.close)
        self.frames = 0
        self.found_per_frame = 0.0
        self.traffic: Traffic | None = None
        self.cores: int | None = None

    def __enter__(self) -> DeviceSubject:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def warm_up(self) -> None:
        """One pass of the whole; engines are built, kernels compiled."""
        self._whole(encode=self._s.encode)

    def hold(self) -> MediaInfo:
        """Fill batches that stay, and set up what runs alone."""
        setting = self._s
        alone = self._alone = PartsAlone(setting, self._taps, self._redaction, self.frames)
        self._undo.callback(alone.close)
        wanted: dict[str, Callable[[], Pass] | None] = {
            "decode": alone.decode,
            "preprocess": alone.preprocess if setting.stages else None,
            "engine": alone.engine,
            "around the engine": alone.around if setting.stages else None,
            "detect": alone.detect,
            "redact": alone.redact if setting.stages else None,
            "encode": alone.encode if setting.stages and setting.encode else None,
            "pipeline": lambda: self._whole(encode=False),
            "pipeline + encode": (lambda: self._whole(encode=True)) if setting.encode else None,
        }
        if setting.videos > 1:
            wanted |= {f"decode x{setting.videos}": self._several.decode}
            wanted |= {f"pipeline x{setting.videos}": self._several.pipeline}
        self.parts = {name: work for name, work in wanted.items() if work is not None}
        return alone.info

    @property
    def extra_shares(self) -> dict[str, Spread]:
        """Kernels against the device's copy bandwidth, for those that ran alone."""
        return {} if self._alone is None else self._alone.copy_shares

    def _whole(self, *, encode: bool) -> Pass:
        setting, memory = self._s, self._memory
        clock = Clock()
        with memory.using(), closing(setting.open_source()) as source:
            warm = warm_batches(setting.batch, source.info, setting.config.track)
            sink = SteadySink(
                setting.pipeline_encoder(source.info, self.missing) if encode else None,
                clock,
                memory,
                setting.batch,
                warm,
            )
            with clock:
                report = self._loop.anonymize(
                    TimedDeviceSource(source, sink),
                    sink,
                    self._redaction,
                    setting.config.pipeline,
                    track=setting.config.track,
                )
        self.frames = report.frames
        self.found_per_frame = sum(report.objects.values()) / max(report.frames, 1)
        steady = sink.steady()
        if not encode:
            self.traffic = sink.traffic() or self.traffic
        if steady is None:  # too short a clip to have one
            return clock.done(report.frames)
        frames, seconds = steady
        return Pass(frames, seconds, clock.cpu_seconds * frames / report.frames, sink.steady_latencies())
