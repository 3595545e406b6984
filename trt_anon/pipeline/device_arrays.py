"""Arrays of a caller that lie on a device: detected in and redacted where they are, on the caller's stream."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from trt_anon._optional import require
from trt_anon.cuda.foreign import as_device_array, callers_context, stream_at
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import OutOfDeviceMemory, TrtAnonError, UsageError
from trt_anon.media import MediaInfo
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_model import DeviceModel
from trt_anon.pipeline.device_redaction import DeviceRedaction
from trt_anon.pipeline.redaction import Redaction
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.types import PIXEL_FORMATS, Detections, Frame

_MODELS_KEPT = 4
_RGB = PIXEL_FORMATS["rgb24"]


class BorrowedBatch:
    """Frames of a caller in the place of a batch of the pipeline's own."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.planes: list[tuple[Any, ...]] = []
        self.frames: list[Frame] = []
        self.filled: Any = None


class DeviceArrays:
    """Detects and redacts in arrays on one device; thread safe, one call at a time.

    detectors: for this alone. batch: frames that are detected in together.
    """

    def __init__(
        self,
        detectors: Sequence[DeviceDetector],
        class_names: Sequence[str],
        rules: Sequence[MergeRule],
        memory: DeviceMemory,
        batch: int,
    ) -> None:
        self._detectors, self._class_names, self._rules = tuple(detectors), tuple(class_names), tuple(rules)
        self._memory, self._batch = memory, batch
        self._lock = threading.Lock()
        self._models: dict[tuple[int, int], tuple[DeviceModel, BorrowedBatch]] = {}
        self._redaction: DeviceRedaction | None = None
        self._regions = BorrowedBatch(1)
        self._last: Any = None  # the event after which workspaces are free again

    def detect(self, frames: Any, stream: Any = None) -> list[Detections]:
        """Find objects in RGB pictures (N, H, W, 3) uint8; waits for what is found.

        stream: the caller's, see `stream_of`. Raises UsageError for other arrays, and what detection raises.
        """
        with self._lock, callers_context(self._memory), self._memory.using():
            on = stream_of(stream, self._memory)
            pictures = self._pictures(frames, on)
            found: list[Detections] = []
            if pictures:
                model, batch = self._model(pictures[0])
                for start in range(0, len(pictures), batch.capacity):
                    found += self._detect(model, batch, pictures[start : start + batch.capacity], on)
        return found

    def redact(self, frames: Any, detections: Sequence[Detections], redaction: Redaction, stream: Any = None) -> None:
        """Destroy detected objects in the arrays themselves, in the order of the caller's stream, without waiting."""
        with self._lock, callers_context(self._memory), self._memory.using():
            on = stream_of(stream, self._memory)
            pictures = self._pictures(frames, on)
            if len(pictures) != len(detections):
                raise UsageError(f"{len(pictures)} frames but detections for {len(detections)}")
            if self._redaction is None:
                self._redaction = DeviceRedaction(self._memory)
            layers = [redaction.layers(frame, found) for frame, found in zip(pictures, detections, strict=True)]
            if self._last is not None:
                self._memory.after(on, self._last)
                self._memory.wait(self._last, "the call before")  # synchronises: its table of regions is in use
            self._regions.frames = pictures
            self._redaction.apply(self._regions, layers, on)
            self._last = self._memory.record(on)

    def close(self) -> None:
        """Free all memory, after the last call's work is done."""
        with self._lock, self._memory.using():
            if self._last is not None:
                self._memory.wait(self._last, "the end")
            for model, _ in self._models.values():
                model.close()
            self._models.clear()
            if self._redaction is not None:
                self._redaction.close()
                self._redaction = None

    def _detect(self, model: DeviceModel, batch: BorrowedBatch, pictures: list[Frame], stream: Any) -> list[Detections]:
        batch.frames = pictures
        last = pictures[-1].planes
        batch.planes = [frame.planes for frame in pictures] + [last] * (batch.capacity - len(pictures))
        model.rebind(batch)
        model.enqueue(batch, stream)
        found = []
        for one in model.collect(batch):
            if isinstance(one, TrtAnonError):
                raise one
            found.append(one.found)
        return found

    def _model(self, frame: Frame) -> tuple[DeviceModel, BorrowedBatch]:
        """The detectors for frames of this size; those of the last few sizes are kept."""
        key = (frame.width_px, frame.height_px)
        known = self._models.pop(key, None)
        while known is None:
            if len(self._models) >= _MODELS_KEPT:
                self._drop_oldest()
            batch = BorrowedBatch(self._batch)
            batch.planes = [frame.planes] * self._batch
            info = MediaInfo("video", *key, pixel_format=_RGB, codec="", container="")
            try:
                model = DeviceModel(
                    self._detectors,
                    self._class_names,
                    self._rules,
                    info,
                    [batch],
                    self._memory,
                    landmarks=True,
                    graphs=False,
                )
            except OutOfDeviceMemory:
                if self._models:
                    self._drop_oldest()
                elif self._batch > 1:
                    self._batch //= 2
                else:
                    raise
                continue
            known = model, batch
        self._models[key] = known
        return known

    def _drop_oldest(self) -> None:
        model, _ = self._models.pop(next(iter(self._models)))
        model.close()

    def _pictures(self, frames: Any, stream: Any) -> list[Frame]:
        array = as_device_array(frames, self._memory, stream)
        if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
            raise UsageError(f"frames: expected uint8 (N, H, W, 3) RGB, got {array.dtype} {tuple(array.shape)}")
        if 0 in array.shape[1:]:
            raise UsageError(f"frames are empty: {tuple(array.shape)}")
        if array.strides[3] != 1 or array.strides[2] != 3 or array.strides[1] < 0:
            raise UsageError("frames: pixels of a row must be contiguous, channels last")
        height, width = int(array.shape[1]), int(array.shape[2])
        return [Frame((array[n],), _RGB, width, height, n) for n in range(array.shape[0])]


def stream_of(stream: Any, memory: DeviceMemory) -> Any:
    """A caller's stream as CuPy's: CuPy's own, PyTorch's, PyCUDA's, or its handle; None is CuPy's current one."""
    if memory.side == "numpy":
        return None
    cupy = require("cupy", "working on arrays of a GPU")
    if stream is None:
        return cupy.cuda.get_current_stream()
    if isinstance(stream, cupy.cuda.Stream):
        return stream
    for name in ("cuda_stream", "ptr", "handle"):
        handle = getattr(stream, name, None)
        if handle is not None:
            return stream_at(int(handle))
    if isinstance(stream, int):
        return stream_at(stream)
    raise UsageError(f"stream: expected one of CuPy, PyTorch or PyCUDA, or its handle, got {type(stream).__name__}")
