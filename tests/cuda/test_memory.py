"""Device memory and its books: caps, groups, purposes, and what a recorded graph costs when it is replayed."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from trt_anon.cuda.memory import ALIGNMENT_BYTES, HostMemory
from trt_anon.cuda.traffic import Purpose, Totals, TrafficAccount
from trt_anon.errors import OutOfDeviceMemory


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def make(request: pytest.FixtureRequest) -> Any:
    if request.param == "host":
        return HostMemory
    request.getfixturevalue("cupy")
    from trt_anon.cuda.cuda_memory import CudaMemory

    return CudaMemory


def test_a_cap_holds_until_a_group_is_freed(make):
    memory = make(limit_bytes=1000)
    first, second = memory.group(), memory.group()
    array = first.empty((100, 2), np.float32)
    assert array.shape == (100, 2)
    assert memory.used_bytes == first.size_bytes == 800
    assert memory.free_bytes() == 200
    with pytest.raises(OutOfDeviceMemory, match="gpu-memory"):
        second.empty((201,))
    del array
    first.free()
    second.empty((1000,))
    assert memory.traffic.totals.allocations == 2


def test_there_and_back(make):
    memory = make()
    with memory.using():
        stream = memory.new_stream()
        group = memory.group()
        block, fields = group.packed({"boxes": ((3, 4), np.float32), "n": ((5,), np.int32)})
        assert fields["boxes"].shape == (3, 4)
        sent, back = memory.pinned(block.shape), memory.pinned(block.shape)
        sent[:] = np.arange(len(sent)) % 251
        memory.upload(block, sent, stream, Purpose.SETTINGS)
        other = group.empty((8, 10), np.uint8)
        memory.copy(other[2:4, :10], block[:20].reshape(2, 10), stream)
        memory.download(back, block, stream, Purpose.DETECTIONS)
        rows = memory.pinned((8, 10))
        memory.download(rows, other, stream, Purpose.OUTPUTS)
        memory.wait(memory.record(stream), "test")
    np.testing.assert_array_equal(back, sent)
    np.testing.assert_array_equal(rows[2:4].ravel(), sent[:20])
    assert not rows[:2].any()
    totals = memory.traffic.totals
    assert totals.to_device == {"settings": len(sent)}
    assert totals.to_host == {"detections": len(sent), "network outputs": 80}
    assert (totals.within, totals.copies, totals.waits) == (20, 3, {"test": 1})
    with pytest.raises(ValueError, match="one size"):
        memory.upload(block, sent[1:], stream, Purpose.SETTINGS)


def test_alignment():
    group = HostMemory().group()
    for size in (1, 7, 300):
        assert group.empty((size,)).ctypes.data % ALIGNMENT_BYTES == 0


def test_differences_of_totals():
    books = TrafficAccount()
    books.count("blur", 10)
    before = books.totals
    books.count("nms", 3)
    books.waited("detections")
    books.finished(8)
    assert books.totals - before == Totals(1, 8, {"nms": 1}, waits={"detections": 1})
    assert books.totals.to_dict()["launches"] == {"blur": 1, "nms": 1}
    assert books.by_kernel["blur"].bytes_moved == 10


def test_what_is_recorded_counts_when_it_is_replayed():
    books = TrafficAccount()
    with books.recording() as recorded:
        books.count("nms", 3)
        books.copied_out(Purpose.DETECTIONS, 64)
        other = threading.Thread(target=books.count, args=("letterbox", 1))  # beside it, and really done
        other.start()
        other.join()
    assert books.totals == Totals(launches={"letterbox": 1})
    for _ in range(2):
        books.replayed(recorded)
    assert books.totals.launches == {"letterbox": 1, "nms": 2}
    assert (books.totals.graphs, books.totals.to_host) == (2, {"detections": 128})


@pytest.mark.gpu
def test_a_graph(cupy):
    from trt_anon.cuda.cuda_memory import CudaMemory

    memory = CudaMemory()
    with memory.using():
        stream = memory.new_stream()
        block = memory.group().empty((16,))
        sent, back = memory.pinned((16,)), memory.pinned((16,))
        memory.upload(block, sent, stream, Purpose.SETTINGS)
        graph = memory.capture(lambda: memory.download(back, block, stream, Purpose.DETECTIONS), stream)
        assert graph is not None
        sent[:] = 7
        memory.upload(block, sent, stream, Purpose.SETTINGS)
        graph.replay(stream)
        memory.wait(memory.record(stream), "test")
    assert (back == 7).all()
    assert memory.traffic.totals.to_host == {"detections": 16}
