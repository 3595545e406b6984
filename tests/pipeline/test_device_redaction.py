"""Redaction of batches on a device against that of single frames: all kinds of layers, and workspaces too small."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from trt_anon.config import RedactConfig
from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import HostMemory
from trt_anon.pipeline.device_redaction import DeviceRedaction, whole_frame
from trt_anon.pipeline.redaction import Layer, force
from trt_anon.redact.frame import Redactor
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Region

KINDS = (
    RedactConfig(strength=0.1),
    RedactConfig(strength=0.02, feather=0.2),
    RedactConfig(method="pixelate", strength=0.2),
    RedactConfig(method="solid"),
    RedactConfig(method="solid", feather=0.1),
)


def filled(name: str, memory: HostMemory, frames: int = 3, size: tuple[int, int] = (98, 66)) -> BatchBuffer:
    layout = FrameLayout.of(PIXEL_FORMATS[name], *size)
    batch = BatchBuffer(layout, frames + 1, memory, memory.group(), twin=False)
    noise = np.random.default_rng(3)
    form = layout.pixel_format
    for place in range(frames):
        for plane in batch.planes[place]:
            plane[...] = noise.integers(16, 235, plane.shape) << (form.bit_depth - 8) << form.sample_shift
        batch.frames.append(Frame(batch.planes[place], form, *size, index=place, color=Color()))
    return batch


def layers_of(batch: BatchBuffer) -> list[tuple[Layer, ...]]:
    """Of each frame a few layers, no two frames the same; the second has none."""
    noise = np.random.default_rng(5)
    made: list[tuple[Layer, ...]] = []
    for place in range(len(batch.frames)):
        chosen = [] if place == 1 else [KINDS[(place + step) % len(KINDS)] for step in range(3)]
        layers = []
        for config in sorted(chosen, key=force):
            x, y, w, h = noise.uniform(0, 60), noise.uniform(0, 40), noise.uniform(8, 50), noise.uniform(8, 40)
            layers.append(Layer(config, (Region(x, y, x + w, y + h, "ellipse", max(w, h)),)))
        made.append(tuple(layers))
    return made


def expected(batch: BatchBuffer, layers: list[tuple[Layer, ...]]) -> list[list[np.ndarray]]:
    copies = [dataclasses.replace(f, planes=tuple(np.array(p) for p in f.planes)) for f in batch.frames]
    for config in sorted({layer.config for of_frame in layers for layer in of_frame}, key=force):
        for frame, of_frame in zip(copies, layers, strict=True):
            for layer in of_frame:
                if layer.config == config:
                    Redactor(config).redact(frame, layer.regions)
    return [list(frame.planes) for frame in copies]


def assert_redacted(batch: BatchBuffer, wanted: list[list[np.ndarray]], untouched: Any) -> None:
    shift = batch.layout.pixel_format.sample_shift
    for planes, others in zip(batch.planes, wanted, strict=False):
        for plane, other in zip(planes, others, strict=True):
            assert np.abs((plane >> shift).astype(np.int64) - (other >> shift)).max() <= 3  # a code for each blur
    np.testing.assert_array_equal(batch.block[len(batch.frames) :], untouched)


@pytest.mark.parametrize("name", ["nv12", "p010le", "yuv420p", "yuv444p10le"])
@pytest.mark.parametrize("workspace_bytes", [1 << 22, 4096])
def test_batches_are_redacted_as_single_frames_are(name, workspace_bytes):
    """A workspace that is too small divides the batch, or is exchanged for a larger one."""
    memory = HostMemory()
    batch = filled(name, memory)
    layers, untouched = layers_of(batch), batch.block[len(batch.frames) :].copy()
    wanted = expected(batch, layers)
    redaction = DeviceRedaction(memory, workspace_bytes)
    redaction.apply(batch, layers, None)
    assert_redacted(batch, wanted, untouched)
    assert memory.traffic.totals.to_device.keys() == {"regions"}
    assert ("a larger workspace" in memory.traffic.totals.waits) == (workspace_bytes == 4096)
    before = memory.used_bytes
    redaction.apply(batch, layers, None)  # its staging memory is used again
    assert memory.used_bytes == before
    redaction.close()
    assert memory.used_bytes == before - max(workspace_bytes, before - batch.block.nbytes)


def test_a_frame_that_is_wholly_black():
    memory = HostMemory()
    batch = filled("nv12", memory)
    DeviceRedaction(memory).apply(batch, [whole_frame(frame) for frame in batch.frames], None)
    for planes, frame in zip(batch.planes, batch.frames, strict=False):
        black = dataclasses.replace(frame, planes=tuple(np.array(plane) for plane in frame.planes))
        Redactor(RedactConfig()).redact_whole(black)
        for plane, other in zip(planes, black.planes, strict=True):
            np.testing.assert_array_equal(plane, other)


def test_many_regions_take_more_than_the_first_staging_memory(monkeypatch):
    monkeypatch.setattr("trt_anon.pipeline.device_redaction.STAGING_BYTES", 1024)
    memory = HostMemory()
    batch = filled("nv12", memory)
    layers, untouched = layers_of(batch), batch.block[len(batch.frames) :].copy()
    wanted = expected(batch, layers)
    DeviceRedaction(memory).apply(batch, layers, None)
    assert_redacted(batch, wanted, untouched)
