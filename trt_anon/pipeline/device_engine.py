"""Loaded detectors on one device, and videos through them: several at once, each with buffers of its own."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trt_anon.config import AnonymizeConfig
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import MissingError
from trt_anon.media import MediaInfo
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import merge_rule
from trt_anon.pipeline.device_arrays import DeviceArrays
from trt_anon.pipeline.device_detector import DeviceDetector, load_device_detectors
from trt_anon.pipeline.device_loop import DeviceLoop
from trt_anon.pipeline.loop import LoopReport
from trt_anon.pipeline.redaction import Redaction
from trt_anon.runtime.runner_memory import CudaRunnerMemory
from trt_anon.sink.base import Sink
from trt_anon.sink.nvenc import NvencSink
from trt_anon.sink.pyav import PyAVSink
from trt_anon.source.device import DeviceSource
from trt_anon.source.device_choice import open_device_source
from trt_anon.source.span import Span
from trt_anon.types import Frame

ARRAYS_BATCH = 8
"""Frames of a caller that are detected in together, where nobody says."""


_log = logging.getLogger("trt_anon")


@functools.cache  # says it once per process
def _say_once(reason: str) -> None:
    _log.info("encoding on the CPU: %s", reason)


class DeviceEngine:
    """The detectors of a configuration on one device; thread safe.

    Raises what `load_device_detectors` does.
    """

    def __init__(
        self, config: AnonymizeConfig, recipes: Sequence[Recipe], registry: Registry, memory: DeviceMemory
    ) -> None:
        self.memory = memory
        self._config, self._recipes = config, tuple(recipes)
        with memory.using():
            runners = CudaRunnerMemory(memory.device) if memory.side == "cupy" else None
            self._first: list[DeviceDetector] | None = load_device_detectors(recipes, config, registry, runners)
        self._made: list[list[DeviceDetector]] = [self._first]
        self._idle: list[DeviceLoop] = [self._loop(self._first)]
        self._lock = threading.Lock()
        self._arrays: DeviceArrays | None = None
        self._arrays_lock = threading.Lock()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are looked for."""
        return self._config.detect.classes

    def open_source(self, path: Path, span: Span | None = None) -> DeviceSource:
        """The frames of a video, or of a part of it, on this device; see `open_device_source`."""
        with self.memory.using():
            return open_device_source(
                path,
                self.memory,
                self._config.pipeline.decoder,
                threads=self._config.runtime.threads,
                conceal_damage=self._config.pipeline.on_error == "redact-frame",
                span=span,
            )

    def open_sink(self, path: Path, source_path: Path, info: MediaInfo) -> Sink:
        """What writes a video that goes through this device: NVENC where it is wanted and does, else a CPU's encoder.

        Raises DeviceMissing where NVENC was named and does not, with the reason, and what `PyAVSink` does.
        """
        config = self._config.sink
        if config.encoder == "nvenc" or (config.encoder == "auto" and self.memory.side == "cupy"):
            try:
                return NvencSink(path, source_path=source_path, info=info, config=config, memory=self.memory)
            except MissingError as error:
                if config.encoder == "nvenc":
                    raise
                _say_once(str(error).removeprefix(f"{path}: "))
        threads = self._config.runtime.threads
        return PyAVSink(path, source_path=source_path, info=info, config=config, threads=threads)

    def anonymize(
        self,
        source: DeviceSource,
        sink: Sink,
        redaction: Redaction,
        on_frame: Callable[[int], None] | None = None,
        wanted: Callable[[Frame], bool] | None = None,
    ) -> LoopReport:
        """Anonymize a video; see `DeviceLoop.anonymize`."""
        with self._borrowed() as loop:
            return loop.anonymize(source, sink, redaction, self._config.pipeline, on_frame, wanted, self._config.track)

    @property
    def arrays(self) -> DeviceArrays:
        """What works on arrays of a caller, with models of its own; made when it is asked for."""
        with self._arrays_lock:
            if self._arrays is None:
                detectors = self._another_set()
                rules = [merge_rule(name, self._recipes) for name in self.class_names]
                batch = self._config.pipeline.batch or ARRAYS_BATCH
                self._arrays = DeviceArrays(detectors, self.class_names, rules, self.memory, batch)
            return self._arrays

    def close(self) -> None:
        """Free all models."""
        with self._arrays_lock:
            if self._arrays is not None:
                self._arrays.close()
                self._arrays = None
        with self._lock:
            made, self._made, self._first = self._made, [], None
            self._idle.clear()
        for detectors in made:
            for detector in detectors:
                detector.close()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[DeviceLoop]:
        """A loop that nobody else uses: detectors serve one stream at a time."""
        with self._lock:
            loop = self._idle.pop() if self._idle else None
        if loop is None:
            loop = self._another()
        try:
            yield loop
        finally:
            with self._lock:
                self._idle.append(loop)

    def _another(self) -> DeviceLoop:
        return self._loop(self._another_set())

    def _another_set(self) -> list[DeviceDetector]:
        with self._lock, self.memory.using():
            detectors = [detector.another() for detector in self._made[0]]
            self._made.append(detectors)
        return detectors

    def _loop(self, detectors: Sequence[DeviceDetector]) -> DeviceLoop:
        rules = [merge_rule(name, self._recipes) for name in self.class_names]
        batch = self._config.pipeline.batch
        return DeviceLoop(detectors, self.class_names, rules, self.memory, batch=batch)
