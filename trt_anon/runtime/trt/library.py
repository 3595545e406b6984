"""Which TensorRT there is, what it builds for, and what it says."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import EngineError, UsageError

if TYPE_CHECKING:
    import tensorrt as trt

Backend = Literal["tensorrt", "tensorrt-rtx"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
MODULES: dict[Backend, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_TITLES: dict[Backend, str] = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX"}

_OLDEST: dict[Backend, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt-rtx": (1, 4)}
_WARNING, _INFO = 2, 3  # ILogger.Severity: INTERNAL_ERROR 0, ERROR 1, WARNING 2, INFO 3, VERBOSE 4
_LEVELS = (logging.ERROR, logging.ERROR, logging.WARNING)

_log = logging.getLogger("trt_anon.tensorrt")


class Library:
    """One TensorRT: its module, version and logger; `open_library` gives the process's one of each kind."""

    def __init__(self, backend: Backend, module: Any) -> None:
        self.backend: Backend = backend
        self.trt = module
        self.version = str(module.__version__)
        self.title = f"{_TITLES[backend]} {self.version}"
        if _numbers(self.version) < _OLDEST[backend]:
            oldest = ".".join(map(str, _OLDEST[backend]))
            raise UsageError(f"{self.title} is too old: {_TITLES[backend]} {oldest} or later is needed")
        self._heard: list[tuple[int, str]] | None = None
        self._complaints: deque[tuple[int, str]] = deque(maxlen=8)
        self._listening = threading.Lock()
        self.logger = self._make_logger()

    @property
    def targets(self) -> tuple[str, ...]:
        """The GPU architectures that it builds for without one of them at hand, as `sm_86`; none for full TensorRT."""
        if self.backend != "tensorrt-rtx":
            return ()
        names = self.trt.ComputeCapability.__members__
        return tuple(f"sm_{name[2:]}" for name in names if name.startswith("SM"))

    @contextmanager
    def listening(self) -> Iterator[list[tuple[int, str]]]:
        """What it says meanwhile, as (severity, message); for one thread at a time, as it does not say to whom."""
        with self._listening:
            heard: list[tuple[int, str]] = []
            self._heard = heard
            try:
                yield heard
            finally:
                self._heard = None

    @property
    def complaints(self) -> list[tuple[int, str]]:
        """The last errors that it logged while nobody listened, whoever caused them."""
        return list(self._complaints)

    def dtype(self, data_type: trt.DataType) -> np.dtype[Any]:
        """NumPy's type of a tensor. Raises EngineError for one that NumPy does not have."""
        known = {
            self.trt.DataType.FLOAT: np.float32,
            self.trt.DataType.HALF: np.float16,
            self.trt.DataType.INT8: np.int8,
            self.trt.DataType.UINT8: np.uint8,
            self.trt.DataType.INT32: np.int32,
            self.trt.DataType.INT64: np.int64,
            self.trt.DataType.BOOL: np.bool_,
        }
        found = known.get(data_type)
        if found is None:
            raise EngineError(f"{self.title}: inputs and outputs of the type {data_type} are not supported")
        return np.dtype(found)

    def _make_logger(self) -> Any:
        module = self.trt

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self, hear: Any) -> None:
                super().__init__()
                self._hear = hear

            def log(self, severity: Any, msg: str) -> None:
                self._hear(int(severity), msg)

        return Logger(self._hear)

    def _hear(self, severity: int, message: str) -> None:
        heard = self._heard
        if heard is not None:
            heard.append((severity, message))
            if severity <= _INFO:
                _log.debug("%s: %s", self.title, message)
        elif severity <= _WARNING:
            if severity < _WARNING:
                self._complaints.append((severity, message))
            _log.log(_LEVELS[severity], "%s: %s", self.title, message)


def open_library(backend: Backend) -> Library:
    """The library of that kind. Raises PackageMissing where it is not installed or does not load."""
    with _opening:
        if backend not in _libraries:
            module = require(MODULES[backend], f"an engine of {_TITLES[backend]}")
            _libraries[backend] = Library(backend, module)
        return _libraries[backend]


# A library keeps the first logger that it was given until the process ends, so there is one Library for each.
_libraries: dict[Backend, Library] = {}
_opening = threading.Lock()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
