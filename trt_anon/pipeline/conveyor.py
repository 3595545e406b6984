"""Stages side by side: threads joined by bounded queues, where the first failure stops all."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class _Stopped(Exception):
    """The conveyor is being torn down."""


class _Channel(Generic[Item]):
    """A bounded first-in, first-out queue between two threads that can be ended or torn down."""

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque()
        self._size = size
        self._ended = False
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        with self._changed:
            while len(self._items) >= self._size and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise _Stopped
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """No more items will come; those inside are still delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Wake everybody and deliver nothing more."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                while not (self._items or self._ended or self._stopped):
                    self._changed.wait()
                if self._stopped:
                    raise _Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: its name and what it does with an item.

    finish: called after the last item. A stage that has it may hold items back: its `work` and `finish` give any number
    of results, in order.
    """

    name: str
    work: Callable[[Any], Any]
    finish: Callable[[], Iterable[Any]] | None = None


class Conveyor:
    """Runs `source -> stages -> caller`, each in a thread of its own, in order, with at most `queue` items between two.

    Iterate it for the results, in the caller's thread; use it as a context manager so that threads end with the block.
    The first exception of any thread ends all of them and is raised, as it is, to the caller. `busy_seconds` holds, per
    stage, the time spent inside it, waiting between stages left out.
    """

    def __init__(self, source: Iterable[Any], stages: Sequence[Stage], *, queue: int, source_name: str = "source"):
        self.busy_seconds: dict[str, float] = dict.fromkeys([source_name, *(s.name for s in stages)], 0.0)
        self._channels: list[_Channel[Any]] = [_Channel(queue) for _ in range(len(stages) + 1)]
        self._failure: BaseException | None = None
        self._failure_lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run_source, args=(source, source_name), name=f"trt-anon-{source_name}")
        ]
        for number, stage in enumerate(stages):
            self._threads.append(
                threading.Thread(target=self._run_stage, args=(number, stage), name=f"trt-anon-{stage.name}")
            )
        for thread in self._threads:
            thread.daemon = True  # a thread stuck in native code must not keep an interrupted process alive

    def __enter__(self) -> Conveyor:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        for thread in self._threads:
            thread.join()

    def __iter__(self) -> Iterator[Any]:
        with contextlib.suppress(_Stopped):
            yield from self._channels[-1]
        if self._failure is not None:
            raise self._failure

    def _stop(self) -> None:
        for channel in self._channels:
            channel.stop()

    def _fail(self, error: BaseException) -> None:
        with self._failure_lock:
            if self._failure is None:
                self._failure = error
        self._stop()

    def _run_source(self, source: Iterable[Any], name: str) -> None:
        out = self._channels[0]
        try:
            iterator = iter(source)
            while True:
                start = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                finally:
                    self.busy_seconds[name] += time.perf_counter() - start
                out.put(item)
            out.end()
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._fail(error)

    def _run_stage(self, number: int, stage: Stage) -> None:
        out = self._channels[number + 1]
        try:
            for item in self._channels[number]:
                start = time.perf_counter()
                result = stage.work(item)
                self.busy_seconds[stage.name] += time.perf_counter() - start
                for each in (result,) if stage.finish is None else result:
                    out.put(each)
            if stage.finish is not None:
                start = time.perf_counter()
                rest = list(stage.finish())
                self.busy_seconds[stage.name] += time.perf_counter() - start
                for each in rest:
                    out.put(each)
            out.end()
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            self._fail(error)
