"""How frames lie on a device, and the ring of batches."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from trt_anon.cuda.frames import PITCH_BYTES, BatchRing, FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.types import PIXEL_FORMATS


@pytest.mark.parametrize("name", ["nv12", "p010le", "yuv420p", "yuv422p10le", "yuv444p", "gray", "rgb24"])
@pytest.mark.parametrize("size", [(64, 48), (97, 33), (1, 1)])
def test_planes_are_apart_and_share_the_memory(name, size):
    form = PIXEL_FORMATS[name]
    layout = FrameLayout.of(form, *size)
    room = np.zeros(layout.size_bytes, np.uint8)
    planes = layout.planes(room)
    assert tuple(plane.shape for plane in planes) == form.plane_shapes(*size)
    for number, plane in enumerate(planes):
        assert plane.dtype == form.dtype
        assert plane.shape[0] == 1 or plane.strides[0] % PITCH_BYTES == 0
        plane[...] = number + 1
    for number, plane in enumerate(planes):
        assert (plane == number + 1).all()
    assert room.any()
    assert layout.size_bytes % PITCH_BYTES == 0


def test_a_ring_waits_for_a_batch_and_can_be_stopped():
    memory = HostMemory()
    ring = BatchRing(FrameLayout.of(PIXEL_FORMATS["gray"], 8, 8), 2, 2, memory, memory.group(), twin=False)
    first, second = ring.take(), ring.take()
    assert first is not None
    assert second is not None
    assert first is not second
    assert first.host_planes is None
    found = []
    waiting = threading.Thread(target=lambda: found.extend([ring.take(), ring.take()]))
    waiting.start()
    ring.give_back(first)
    ring.stop()
    waiting.join(10)
    assert found[-1] is None
    assert memory.used_bytes == 2 * 2 * first.layout.size_bytes
