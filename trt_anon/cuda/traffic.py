"""What a pipeline on a device costs: bytes that cross to it and back by purpose, launches, waits and allocations.

Counted where the work is asked for, so a test or a benchmark can hold a pipeline to its budget: no pixel of a
frame leaves the device between decoding and redaction, nothing is allocated once it runs, and every wait has a name.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trt_anon.cuda.device import Accounting


class Purpose(enum.StrEnum):
    """Why bytes cross between host and device."""

    DECODED = "decoded frames"
    """Frames that a CPU decoded, on their way in."""
    REGIONS = "regions"
    """What shall be redacted, on its way in."""
    SETTINGS = "settings"
    """Constants that a pipeline needs once."""
    DETECTIONS = "detections"
    """What was found, on its way out."""
    THUMBNAILS = "thumbnails"
    """The small grey pictures that tracks are followed in, on their way out; never written anywhere."""
    OUTPUTS = "network outputs"
    """What a network gave, on its way out, where its family is decoded on the host."""
    REDACTED = "redacted frames"
    """Finished frames, on their way to an encoder on a CPU."""


PIXELS = frozenset((Purpose.DECODED, Purpose.REDACTED))
"""The purposes whose bytes are whole frames."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums up to some moment; the difference of two is what happened in between.

    launches: of kernels, by name, also of those inside replayed graphs. graphs: replays. to_device, to_host: bytes by
    purpose; copies: how many of these copies there were. within: bytes copied inside the device. waits: how often the
    host waited for the device, by reason. allocations, allocated_bytes: of device memory.
    """

    batches: int = 0
    frames: int = 0
    launches: Mapping[str, int] = field(default_factory=dict)
    graphs: int = 0
    to_device: Mapping[str, int] = field(default_factory=dict)
    to_host: Mapping[str, int] = field(default_factory=dict)
    copies: int = 0
    within: int = 0
    waits: Mapping[str, int] = field(default_factory=dict)
    allocations: int = 0
    allocated_bytes: int = 0

    def __sub__(self, earlier: Totals) -> Totals:
        values: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            now, then = getattr(self, name), getattr(earlier, name)
            if isinstance(now, Mapping):
                values[name] = {key: n for key in now if (n := now[key] - then.get(key, 0))}
            else:
                values[name] = now - then
        return Totals(**values)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


class _Books:
    """Sums by kind, and by kind and reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.to_device: Counter[str] = Counter()
        self.to_host: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    def add(self, other: _Books) -> None:
        for name in ("counts", "launches", "to_device", "to_host", "waits"):
            getattr(self, name).update(getattr(other, name))


class TrafficAccount(Accounting):
    """The books of one pipeline; thread safe. Kernels enter their launches (`accounting=`), memory the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._books = _Books()
        self._local = threading.local()

    def count(self, kernel: str, bytes_moved: int) -> None:
        """Note one launch."""
        with self._lock:
            super().count(kernel, bytes_moved)
            self._open.launches[kernel] += 1

    def copied_in(self, purpose: Purpose, size_bytes: int) -> None:
        """Note a copy from the host to the device."""
        with self._lock:
            self._open.counts["copies"] += 1
            self._open.to_device[str(purpose)] += size_bytes

    def copied_out(self, purpose: Purpose, size_bytes: int) -> None:
        """Note a copy from the device to the host."""
        with self._lock:
            self._open.counts["copies"] += 1
            self._open.to_host[str(purpose)] += size_bytes

    def copied_within(self, size_bytes: int) -> None:
        """Note a copy inside the device."""
        self._plus("within", size_bytes)

    def waited(self, reason: str) -> None:
        """Note that the host waits for the device."""
        with self._lock:
            self._open.waits[reason] += 1

    def allocated(self, size_bytes: int) -> None:
        """Note an allocation of device memory."""
        self._plus("allocations", 1)
        self._plus("allocated_bytes", size_bytes)

    def finished(self, frames: int) -> None:
        """Note a batch of so many frames that has gone through."""
        self._plus("batches", 1)
        self._plus("frames", frames)

    @contextlib.contextmanager
    def recording(self) -> Iterator[_Books]:
        """Within it, what this thread notes goes into books of its own: it is recorded for a graph, not done."""
        self._local.books = books = _Books()
        try:
            yield books
        finally:
            del self._local.books

    def replayed(self, books: _Books) -> None:
        """Note the replay of a graph in which this was recorded."""
        with self._lock:
            self._books.add(books)
            self._books.counts["graphs"] += 1

    @property
    def totals(self) -> Totals:
        """All sums so far."""
        with self._lock:
            books, counts = self._books, self._books.counts
            return Totals(
                batches=counts["batches"],
                frames=counts["frames"],
                launches=dict(books.launches),
                graphs=counts["graphs"],
                to_device=dict(books.to_device),
                to_host=dict(books.to_host),
                copies=counts["copies"],
                within=counts["within"],
                waits=dict(books.waits),
                allocations=counts["allocations"],
                allocated_bytes=counts["allocated_bytes"],
            )

    @property
    def _open(self) -> _Books:
        books: _Books | None = getattr(self._local, "books", None)
        return self._books if books is None else books

    def _plus(self, name: str, amount: int) -> None:
        with self._lock:
            self._open.counts[name] += amount
