"""Memory and streams of a runner: what is asked of CuPy, and the host in its place."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trt_anon.runtime.runner_memory import ALIGNMENT_BYTES, CudaRunnerMemory, HostRunnerMemory


class Stream:
    def __init__(self, notes: list[Any], name: str, ptr: int) -> None:
        self.notes, self.name, self.ptr = notes, name, ptr

    def synchronize(self) -> None:
        self.notes.append(f"{self.name} waited for")

    def wait_event(self, event: Any) -> None:
        self.notes.append(f"{self.name} waits")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    noted: list[Any] = []
    current = Stream(noted, "current", 1)

    class Device:
        def __init__(self, number: int | None) -> None:
            self.id = 3 if number is None else number

        def __enter__(self) -> None:
            noted.append(f"device {self.id}")

        def __exit__(self, *exc: object) -> None:
            pass

    class Event:
        def __init__(self, *, disable_timing: bool) -> None:
            noted.append(f"event, timing {not disable_timing}")

        def record(self, stream: Stream) -> None:
            noted.append(f"{stream.name} recorded")

    cuda = SimpleNamespace(
        Device=Device,
        Event=Event,
        Stream=lambda non_blocking: Stream(noted, f"own {non_blocking}", 2),
        get_current_stream=lambda: current,
    )

    def zeros(size: int, dtype: Any) -> Any:
        noted.append(f"{size} bytes")
        return SimpleNamespace(data=SimpleNamespace(ptr=4096))

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, zeros=zeros))
    return noted


def test_a_gpus(notes: list[Any]) -> None:
    memory = CudaRunnerMemory()
    assert (memory.kind, memory.device) == ("cuda", 3)
    assert CudaRunnerMemory(1).device == 1
    assert memory.allocate(100)[1] == 4096
    assert notes == ["device 3", "100 bytes", "current waited for"]
    with memory.using():
        stream = memory.new_stream()
    assert (stream.name, memory.handle(stream), memory.handle(None)) == ("own True", 2, 1)
    notes.clear()
    for _ in range(2):
        memory.order(None, stream)
    memory.order(stream, None)
    # One event for all of them, and nothing waits on the host.
    assert notes == [
        "event, timing False",
        *["current recorded", "own True waits"] * 2,
        "own True recorded",
        "current waits",
    ]
    notes.clear()
    memory.wait(stream)
    assert notes == ["own True waited for"]


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_the_hosts(size: int) -> None:
    memory = HostRunnerMemory()
    buffer, address = memory.allocate(size)
    assert address % ALIGNMENT_BYTES == 0
    start = buffer.ctypes.data
    assert start <= address <= address + size <= start + buffer.nbytes
    assert not np.any(buffer)
    with memory.using():
        assert memory.handle(memory.new_stream()) == 0
    memory.order(None, None)
    memory.wait(None)
    assert (memory.kind, memory.device) == ("host", 0)
