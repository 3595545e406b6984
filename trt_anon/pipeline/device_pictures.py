"""The small grey pictures that tracks are followed in, of frames on a device: made there, and brought to the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.memory import DeviceMemory, Group
from trt_anon.cuda.traffic import Purpose
from trt_anon.geometry import turn_upright
from trt_anon.media import MediaInfo
from trt_anon.preprocess.thumbnail_cuda import ThumbnailCuda, stored_hw_px
from trt_anon.types import Frame


class DevicePictures:
    """For batches of frames of one size and format; its array lies in `group`. Raises OutOfDeviceMemory."""

    def __init__(self, info: MediaInfo, batch: int, memory: DeviceMemory, group: Group) -> None:
        self._memory, self._orientation = memory, info.orientation
        self._kernel = ThumbnailCuda(accounting=memory.traffic)
        self._pictures = group.empty((batch, *stored_hw_px(info.height_px, info.width_px)))

    def room(self) -> NDArray[np.uint8]:
        """Pinned memory for the pictures of a batch."""
        return self._memory.pinned(self._pictures.shape)

    def enqueue(self, frames: Sequence[Frame], room: NDArray[np.uint8], stream: Any) -> None:
        """Put a full batch's pictures on the stream, one launch for up to 32 frames, and their copy to the host."""
        self._kernel.batch(frames, list(self._pictures), stream=stream)
        self._memory.download(room, self._pictures, stream, Purpose.THUMBNAILS)

    def upright(self, room: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """One of them, as `grey_thumbnail` would give it; a copy, for the batch's memory is used again."""
        return np.array(turn_upright(room[place], self._orientation), np.uint8, order="C")
