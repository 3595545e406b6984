"""Redaction of batches on a device, in place: two or three launches for each layer, whatever the number of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import RedactConfig
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.errors import OutOfDeviceMemory
from trt_anon.pipeline.redaction import Layer, force
from trt_anon.redact.frame_cuda import RedactCuda
from trt_anon.redact.frame_plan import RedactPlan, plan_redaction
from trt_anon.types import Frame, Region

WORKSPACE_BYTES = 32 << 20
"""Scratch for the regions of a batch; batches whose regions need more are redacted in parts."""

STAGING_BYTES = 1 << 20
"""Pinned memory for the tables of a batch's regions, to begin with; a region takes about 600 bytes of it."""

_WHOLE = RedactConfig(method="solid", shape="box")
_ALIGNED = 256


def whole_frame(frame: Frame) -> tuple[Layer, ...]:
    """The layer that fills a frame with black."""
    width, height = float(frame.width_px), float(frame.height_px)
    return (Layer(_WHOLE, (Region(0.0, 0.0, width, height, "box", max(width, height)),)),)


class HasFrames(Protocol):
    """A batch: its frames lie on the device."""

    frames: list[Frame]


class DeviceRedaction:
    """Redacts batches on one stream, in workspaces of its own. workspace_bytes: to begin with.

    Raises OutOfDeviceMemory.
    """

    def __init__(self, memory: DeviceMemory, workspace_bytes: int = WORKSPACE_BYTES) -> None:
        self._memory = memory
        # A configuration decides which kernels run by one thing alone: whether edges are soft.
        self._kernels = {
            soft: RedactCuda(_WHOLE.model_copy(update={"feather": float(soft)}), accounting=memory.traffic)
            for soft in (False, True)
        }
        self._group = memory.group()
        self._workspace = self._group.empty((workspace_bytes,))
        self._staging: dict[int, _Staging] = {}

    def close(self) -> None:
        """Free the workspaces."""
        self._staging.clear()
        self._group.free()

    def apply(self, batch: HasFrames, layers: Sequence[tuple[Layer, ...]], stream: Any) -> None:
        """Put the redaction of a batch on the stream; `layers` of each of its frames, in any order.

        The layers of one configuration are redacted together, the weaker configuration first, as for single frames.
        """
        by_config: dict[RedactConfig, dict[int, tuple[Region, ...]]] = {}
        for place, of_frame in enumerate(layers):
            for layer in of_frame:
                by_config.setdefault(layer.config, {})[place] = layer.regions
        room = self._staging.setdefault(id(batch), _Staging(self._memory))
        room.restart()
        for config in sorted(by_config, key=force):
            self._redact(batch.frames, by_config[config], config, room, stream)

    def _redact(
        self,
        frames: Sequence[Frame],
        regions: Mapping[int, tuple[Region, ...]],
        config: RedactConfig,
        room: _Staging,
        stream: Any,
    ) -> None:
        places = [place for place, some in regions.items() if some]
        if not places:
            return
        plan = plan_redaction([frames[place] for place in places], [regions[place] for place in places], config)
        if plan.workspace_bytes > self._workspace.size:
            if len(places) > 1:
                half = len(places) // 2
                for part in (places[:half], places[half:]):
                    self._redact(frames, {place: regions[place] for place in part}, config, room, stream)
                return
            self._enlarge(plan, stream)
        self._kernels[bool(config.feather)].planned(plan, self._workspace, stream, staging=room.take(plan.table.nbytes))
        self._memory.traffic.copied_in(Purpose.REGIONS, plan.table.nbytes)

    def _enlarge(self, plan: RedactPlan, stream: Any) -> None:
        """A workspace that holds what one frame needs."""
        memory = self._memory
        memory.wait(memory.record(stream), "a larger workspace")  # synchronises: the old one is in use
        size = plan.workspace_bytes
        try:
            larger = memory.group()
            workspace = larger.empty((size,))
        except OutOfDeviceMemory:  # then without the old one beside it
            self._workspace = None
            self._group.free()
            larger = memory.group()
            workspace = larger.empty((size,))
        else:
            self._workspace = None
            self._group.free()
        self._group, self._workspace = larger, workspace


class _Staging:
    """Pinned memory of one batch, handed out piece by piece; it keeps its content until the batch is used again."""

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._arrays = [memory.pinned((STAGING_BYTES,))]
        self._at = 0

    def restart(self) -> None:
        """The batch is used again: of the memory the largest piece stays."""
        del self._arrays[:-1]
        self._at = 0

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """The next piece."""
        array = self._arrays[-1]
        if self._at + size_bytes > array.size:
            array = self._memory.pinned((2 * max(array.size, size_bytes),))
            self._arrays.append(array)
            self._at = 0
        begin = self._at
        self._at = begin + -(-size_bytes // _ALIGNED) * _ALIGNED
        return array[begin : begin + size_bytes]
