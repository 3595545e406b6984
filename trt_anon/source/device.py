"""Sources whose frames lie on a device: the protocol, and frames that a CPU decoded, uploaded from pinned memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from trt_anon.cuda.frames import BatchBuffer, FrameLayout
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.media import MediaInfo
from trt_anon.source.base import Source
from trt_anon.types import PIXEL_FORMATS, Frame

Surface = Literal["native", "nvdec"]

NVDEC_SURFACES: Mapping[str, str] = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
"""The format in which NVDEC gives frames of FFmpeg's format: the very same samples, otherwise arranged."""


class DeviceSource(Protocol):
    """Frames of one video, in presentation order, put into batches on a device; read once."""

    @property
    def info(self) -> MediaInfo:
        """What is known before the first frame; its pixel format is the one on the device."""
        ...

    @property
    def needs_twin(self) -> bool:
        """Whether its frames come by way of the batches' host memory."""
        ...

    def fill(self, batch: BatchBuffer) -> int:
        """Put the next frames into the batch, as many as it holds or as are left, and give their number.

        Copies are put on the source's own stream; afterwards `batch.frames` describes the frames and `batch.filled` is
        the event after which they are there. Raises InputError on anything that the file does not mean.
        """
        ...

    def close(self) -> None:
        """Release the file and the decoder; safe to call twice."""
        ...


def surface_info(info: MediaInfo) -> MediaInfo:
    """The same video as NVDEC gives it: semiplanar, of the same samples."""
    surface = NVDEC_SURFACES[info.pixel_format.name]
    return dataclasses.replace(info, pixel_format=PIXEL_FORMATS[surface])


def frame_of(info: MediaInfo, planes: tuple[Any, ...], index: int, pts: int, duration: int) -> Frame:
    """A frame of a video, in planes on a device."""
    return Frame(
        planes=planes,
        pixel_format=info.pixel_format,
        width_px=info.width_px,
        height_px=info.height_px,
        index=index,
        pts=pts,
        time_base=info.time_base,
        color=info.color,
        orientation=info.orientation,
        pixel_aspect=info.sample_aspect_ratio,
        hidden_margins_px=info.hidden_margins_px,
        duration=duration,
    )


class UploadSource:
    """Frames of a source on the CPU, copied to pinned memory and from there, without waiting, to the device.

    surface: `native` keeps the source's pixel format; `nvdec` arranges 4:2:0 as NVDEC would, NV12 or P010.
    """

    needs_twin = True

    def __init__(self, source: Source, memory: DeviceMemory, *, surface: Surface = "native") -> None:
        self._source, self._memory = source, memory
        self._stream = memory.new_stream()
        arranges = surface == "nvdec" and source.info.pixel_format.name in NVDEC_SURFACES
        self._info = surface_info(source.info) if arranges else source.info
        self._frames: Iterator[Frame] | None = None

    @property
    def info(self) -> MediaInfo:
        """That of the source, in the device's pixel format."""
        return self._info

    def fill(self, batch: BatchBuffer) -> int:
        """See `DeviceSource.fill`. The batch's host memory must be at rest; it is in use until the batch is filled."""
        if self._frames is None:
            self._frames = iter(self._source)
        if batch.host_block is None or batch.host_planes is None:
            raise ValueError("frames are uploaded from a batch's host memory, and this one has none")
        batch.frames = []
        for place in range(batch.capacity):
            frame = next(self._frames, None)
            if frame is None:
                break
            arrange(frame, batch.host_planes[place], batch.layout)
            self._memory.upload(batch.block[place], batch.host_block[place], self._stream, Purpose.DECODED)
            placed = dataclasses.replace(frame, **_described(frame, batch, place))
            batch.frames.append(placed)
        batch.filled = self._memory.record(self._stream)
        return len(batch.frames)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._source.close()


def _described(frame: Frame, batch: BatchBuffer, place: int) -> dict[str, Any]:
    native = frame.native
    duration = frame.duration if native is None else int(native.duration or 0)
    return {
        "planes": batch.planes[place],
        "pixel_format": batch.layout.pixel_format,
        "native": None,
        "duration": duration,
    }


def arrange(frame: Frame, planes: tuple[Any, ...], layout: FrameLayout) -> None:
    """Copy a frame's samples into planes of a layout: the same format, or NVDEC's arrangement of it."""
    if (frame.width_px, frame.height_px) != (layout.width_px, layout.height_px):
        raise ValueError("a frame is not of the size of its batch")
    if frame.pixel_format == layout.pixel_format:
        for target, source in zip(planes, frame.planes, strict=True):
            np.copyto(target, source)
        return
    if NVDEC_SURFACES.get(frame.pixel_format.name) != layout.pixel_format.name:
        raise ValueError(f"{frame.pixel_format.name} cannot be arranged as {layout.pixel_format.name}")
    shift = layout.pixel_format.sample_shift
    targets = (planes[0], planes[1][..., 0], planes[1][..., 1])
    for target, source in zip(targets, frame.planes, strict=True):
        if shift:
            np.left_shift(source, shift, out=target)
        else:
            np.copyto(target, source)
