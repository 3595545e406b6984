"""Videos over several GPUs: as many at once on each as it takes, from one queue; a GPU that fails gets no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from trt_anon.errors import DeviceFailed, KernelError, OutOfDeviceMemory
from trt_anon.pipeline.device_engine import DeviceEngine

_log = logging.getLogger("trt_anon")

VIDEOS_AT_ONCE = 4
"""On each GPU where nobody says: decoding has several engines there, and encoding on a CPU fills its cores."""

DEVICE_FAULTS = (DeviceFailed, KernelError, OutOfDeviceMemory)
"""Errors that say nothing about the video: another GPU may well do it."""

Result = TypeVar("Result")


class DeviceWorkers:
    """Hands out engines; thread safe. at_once: videos on each engine."""

    def __init__(self, engines: Sequence[DeviceEngine], at_once: int | None = None) -> None:
        self._at_once = at_once or VIDEOS_AT_ONCE
        self._busy = dict.fromkeys(range(len(engines)), 0)
        self._engines = tuple(engines)
        self._failed: set[int] = set()
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        """How many videos go at once."""
        return self._at_once * len(self._engines)

    def run(self, work: Callable[[DeviceEngine], Result]) -> Result:
        """Do a video's work on the least busy engine; where that one fails, on another, from the beginning.

        An engine that failed gets no more work. Raises its error where no other is left.
        """
        last: Exception | None = None
        while True:
            number = self._take(last)
            try:
                return work(self._engines[number])
            except DEVICE_FAULTS as error:
                if len(self._engines) == 1:  # the next video may try it again: it may be this one's fault after all
                    raise
                last = error
                self._retire(number, error)
            finally:
                self._give_back(number)

    def _take(self, last: Exception | None) -> int:
        with self._changed:
            while True:
                sound = [number for number in self._busy if number not in self._failed]
                if not sound:
                    raise last or DeviceFailed("every GPU of this job has failed")
                number = min(sound, key=lambda n: self._busy[n])
                if self._busy[number] < self._at_once:
                    self._busy[number] += 1
                    return number
                self._changed.wait()

    def _give_back(self, number: int) -> None:
        with self._changed:
            self._busy[number] -= 1
            self._changed.notify_all()

    def _retire(self, number: int, error: Exception) -> None:
        with self._changed:
            first = number not in self._failed
            self._failed.add(number)
        if first:
            device = self._engines[number].memory.device
            _log.warning("GPU %d gets no more work (%s)", device, type(error).__name__)
