"""The pipeline on a GPU: NVDEC, CUDA graphs and kernels there give what NumPy gives on a CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trt_anon.api import make_config
from trt_anon.cuda.frames import FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.errors import MissingError
from trt_anon.pipeline.device_detector import DeviceDetector
from trt_anon.pipeline.device_loop import BATCHES_UNDER_WAY, DeviceLoop
from trt_anon.pipeline.redaction import Redaction
from trt_anon.postprocess.weighted import MergeRule
from trt_anon.runtime.base import TensorSpec
from trt_anon.source.device import UploadSource, arrange
from trt_anon.source.nvcodec import NvcodecSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import PIXEL_FORMATS, Detections, Frame

pytest.importorskip("av")
pytestmark = pytest.mark.gpu


def _parts() -> Any:
    spec = importlib.util.spec_from_file_location("device_parts", Path(__file__).with_name("device_parts.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


parts = _parts()
FRAMES = 40


class Always:
    """A detector without a network: the same four rows of (x0, y0, x1, y1, score, class) for every picture.

    All that it does is a copy inside the device, so a graph can hold it.
    """

    capturable = True

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self.inputs = (TensorSpec("pictures", np.dtype(np.uint8), (None, None, None, 3)),)
        self.outputs = (TensorSpec("rows", np.dtype(np.float32), (None, 4, 6)),)
        self._rows: dict[int, Any] = {}

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        batch, height, width, _ = shapes["pictures"]
        rows = np.zeros((batch, 4, 6), np.float32)
        for n in range(4):
            rows[:, n, :4] = np.array([0.1 + 0.2 * n, 0.2, 0.22 + 0.2 * n, 0.5]) * [width, height, width, height]
            rows[:, n, 4] = 0.9 - 0.1 * n
        self._rows[batch] = rows
        if self._memory.side == "cupy":
            import cupy

            self._rows[batch] = cupy.asarray(rows)
        return {"rows": (batch, 4, 6)}

    def enqueue(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any = None) -> None:
        rows = self._rows[feeds["pictures"].shape[0]]
        if self._memory.side == "cupy":
            import cupy

            cupy.cuda.runtime.memcpyAsync(outputs["rows"].data.ptr, rows.data.ptr, rows.nbytes, 3, stream.ptr)
        else:
            outputs["rows"][...] = rows

    def another(self) -> Always:
        return Always(self._memory)

    def close(self) -> None:
        pass


def loop_of(memory: Any, batch: int = 4) -> DeviceLoop:
    from trt_anon.config import Scale
    from trt_anon.detect.families import get_family

    family = get_family("yolo-e2e", {"classes": 1})
    detector = DeviceDetector(family, Always(memory), [Scale(max_long_side_px=320)], [0], 0.3)
    return DeviceLoop([detector], ("face",), [MergeRule(0.4)], memory, batch=batch)


def run(memory: Any, source: Any, path: Path, loop: DeviceLoop | None = None, sink: Any = None) -> Any:
    sink = sink or parts.KeepingSink()
    config = make_config()
    with memory.using():
        report = (loop or loop_of(memory)).anonymize(source, sink, Redaction(config, path), config.pipeline)
    source.close()
    assert report.objects == {"face": 4 * FRAMES}
    return sink


@pytest.fixture(scope="module")
def clip(clips: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", size=(640, 352), frames=FRAMES)


@pytest.fixture
def memory(cupy: Any) -> Any:
    from trt_anon.cuda.cuda_memory import CudaMemory

    return CudaMemory(limit_bytes=1 << 30)


@pytest.fixture(scope="module")
def wanted(clip: Path) -> Any:
    """What NumPy makes of the clip: the very boxes that `Always` gives, redacted in NV12."""
    config, sink = make_config(), parts.KeepingSink()
    redaction, source = Redaction(config, clip), PyAVSource(clip)
    rows = Always(HostMemory())
    rows.prepare({"pictures": (1, 192, 320, 3)})
    scores = rows._rows[1][0, :, 4].copy()
    boxes = rows._rows[1][0, :, :4] * 2  # the picture is half as large in the detector's input
    found = Detections(boxes, scores, np.zeros(4, np.int32), ("face",))
    layout = FrameLayout.of(PIXEL_FORMATS["nv12"], source.info.width_px, source.info.height_px)
    for frame in source:
        planes = layout.planes(np.zeros(layout.size_bytes, np.uint8))
        arrange(frame, planes, layout)
        placed = dataclasses.replace(frame, planes=planes, pixel_format=layout.pixel_format, native=None)
        redaction.apply(placed, found)
        sink.write(placed)
    source.close()
    return sink


def assert_same(found: Any, wanted: Any) -> None:
    assert len(found.planes) == len(wanted.planes) == FRAMES
    for planes, expected in zip(found.planes, wanted.planes, strict=True):
        for plane, other in zip(planes, expected, strict=True):
            assert np.abs(plane.astype(np.int64) - other).max() <= 1


def test_uploaded_frames(memory, clip, wanted):
    found = run(memory, UploadSource(PyAVSource(clip), memory, surface="nvdec"), clip)
    assert_same(found, wanted)
    totals = memory.traffic.totals
    assert totals.graphs == FRAMES // 4 - BATCHES_UNDER_WAY
    assert totals.to_host.keys() == {"detections", "redacted frames"}
    assert memory.used_bytes == 0


def test_frames_of_nvdec(memory, clip, wanted):
    try:
        source = NvcodecSource(clip, memory)
    except MissingError as error:
        pytest.skip(str(error))
    found = run(memory, source, clip)
    assert_same(found, wanted)
    assert [frame.pts for frame in found.frames] == [frame.pts for frame in wanted.frames]
    assert memory.traffic.totals.to_device.keys() == {"regions", "settings"}


def test_nothing_is_allocated_once_it_runs(memory, clip, cupy):
    loop = loop_of(memory)
    run(memory, UploadSource(PyAVSource(clip), memory), clip, loop)
    pool, seen = cupy.get_default_memory_pool(), []

    class Sink(parts.KeepingSink):
        def write(self, frame: Frame) -> None:
            seen.append((pool.total_bytes(), pool.used_bytes(), memory.traffic.totals.allocations))

    run(memory, UploadSource(PyAVSource(clip), memory), clip, loop, Sink(on_device=True))
    assert len(set(seen[4 * BATCHES_UNDER_WAY :])) == 1


def test_too_little_memory_makes_batches_smaller(cupy, clip, wanted, caplog):
    from trt_anon.cuda.cuda_memory import CudaMemory

    memory = CudaMemory(limit_bytes=70 << 20)
    with caplog.at_level("INFO", logger="trt_anon"):
        found = run(memory, UploadSource(PyAVSource(clip), memory, surface="nvdec"), clip, loop_of(memory, 64))
    assert "does not suffice" in caplog.text
    assert_same(found, wanted)
