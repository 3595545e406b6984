"""Video files decoded by NVIDIA DALI, into device memory, or on a CPU where a test has no GPU.

DALI gives luma as it was decoded, and chroma scaled up to it; here chroma is scaled down again, so it differs from the
decoder's own by a little where it changes. On a CPU DALI gives RGB by BT.601 only, of VP8, VP9 and MJPEG alone. FFmpeg
takes the file apart beforehand: times, edit lists and damaged packets are held to the same books as for the others, and
every picture that is owed must come.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.container import check_readable, open_input, pick_video
from trt_anon.cuda.frames import BatchBuffer
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.cuda.traffic import Purpose
from trt_anon.errors import DeviceFailed, DeviceMissing, InputError
from trt_anon.media import MediaInfo
from trt_anon.source.device import frame_of, surface_info
from trt_anon.source.ledger import Ledger
from trt_anon.source.pyav import BARE, PyAVSource

_ON_A_CPU = ("vp8", "vp9", "mjpeg")
_ON_A_GPU = (*_ON_A_CPU, "h264", "hevc", "av1", "mpeg4")
_SEQUENCE = 8


def why_not_dali(info: MediaInfo, side: str) -> str | None:
    """Why DALI does not decode this video here, in words; None where it does."""
    known = _ON_A_GPU if side == "cupy" else _ON_A_CPU
    if info.codec not in known:
        return f"DALI decodes {', '.join(known)} here, not {info.codec}"
    if info.pixel_format.name not in ("yuv420p", "yuvj420p"):
        return f"DALI decodes 4:2:0 of 8 bits, not {info.pixel_format.name}"
    if info.width_px % 2 or info.height_px % 2:
        return f"chroma of the odd size {info.width_px}x{info.height_px} cannot be scaled back"
    if info.field_order not in (0, 1):
        return "DALI would blend the fields of interlaced video"
    return None


class DaliSource:
    """Frames of the video stream of a file, decoded by DALI, as NV12; see `source.device.DeviceSource`.

    Raises what `PyAVSource` does, PackageMissing, and DeviceMissing where DALI does not decode this file here.
    """

    def __init__(self, path: str | Path, memory: DeviceMemory) -> None:
        self._dali = require("nvidia.dali", "decoding with DALI")
        self._path, self._memory = Path(path), memory
        first = PyAVSource(self._path, threads=1)
        try:
            plain = first.info
        finally:
            first.close()
        reason = why_not_dali(plain, memory.side)
        if reason is not None:
            raise DeviceMissing(f"{self._path}: {reason}; use --decoder pyav or auto")
        self._info = surface_info(plain)
        self._times = times_and_durations(self._path, plain)
        self._stream = memory.new_stream()
        self.needs_twin = memory.side == "numpy"
        self._pictures = self._decoded()
        self._index = 0

    @property
    def info(self) -> MediaInfo:
        """That of the file, as NV12."""
        return self._info

    def fill(self, batch: BatchBuffer) -> int:
        """See `DeviceSource.fill`."""
        info = self._info
        batch.frames = []
        while len(batch.frames) < batch.capacity and self._index < len(self._times):
            picture = next(self._pictures, None)
            if picture is None:
                raise InputError(f"{self._path} is damaged: DALI gave {self._index} of {len(self._times)} frames")
            place = len(batch.frames)
            if self.needs_twin and batch.host_planes is not None and batch.host_block is not None:
                _to_nv12(picture, info.color.full_range, batch.host_planes[place])
                self._memory.upload(batch.block[place], batch.host_block[place], self._stream, Purpose.DECODED)
            else:
                for target, view in zip(batch.planes[place], picture, strict=True):
                    self._memory.copy(target, view, self._stream)
            pts, duration = self._times[self._index]
            batch.frames.append(frame_of(info, batch.planes[place], self._index, pts, duration))
            self._index += 1
        batch.filled = self._memory.record(self._stream)
        return len(batch.frames)

    def close(self) -> None:
        """Release the file and the decoder; safe to call twice."""
        self._pictures.close()

    def _decoded(self) -> Generator[Any, None, None]:
        """Each picture: on a GPU its luma and chroma, on a CPU RGB."""
        on_gpu = self._memory.side == "cupy"
        try:
            pipeline = self._pipeline(on_gpu)
            while True:
                outputs = pipeline.run(self._memory.handle(self._stream)) if on_gpu else pipeline.run()
                numbers = np.array(outputs[-1][0] if not on_gpu else outputs[-1].as_cpu()[0]).ravel()
                pictures = [_array(output[0], on_gpu) for output in outputs[:-1]]
                for place in np.flatnonzero(numbers >= 0).tolist():
                    if on_gpu:
                        yield pictures[0][place], pictures[1][place]
                    else:
                        yield pictures[0][place]
                if (numbers < 0).any() or int(numbers[-1]) + 1 >= len(self._times):
                    return
        except RuntimeError as error:
            raise DeviceFailed(f"{self._path}: DALI failed: {str(error).strip().splitlines()[0]}") from error

    def _pipeline(self, on_gpu: bool) -> Any:
        fn, types = self._dali.fn, self._dali.types
        info = self._info
        pipeline = self._dali.Pipeline(
            batch_size=1,
            num_threads=2,
            device_id=self._memory.device if on_gpu else None,
            exec_dynamic=True,
            prefetch_queue_depth=2,
        )
        with pipeline:
            video, numbers = fn.experimental.readers.video(
                device="gpu" if on_gpu else "cpu",
                filenames=[str(self._path.absolute())],
                sequence_length=_SEQUENCE,
                pad_mode="constant",
                enable_frame_num="sequence",
                image_type=types.YCbCr if on_gpu else types.RGB,
                name="video",
            )
            if on_gpu:
                half = fn.resize(
                    video[:, :, :, 1:3],
                    size=[info.height_px // 2, info.width_px // 2],
                    interp_type=types.INTERP_TRIANGULAR,
                    antialias=True,
                    dtype=types.UINT8,
                )
                pipeline.set_outputs(video[:, :, :, 0], half, numbers)
            else:
                pipeline.set_outputs(video, numbers)
        pipeline.build()
        return pipeline


def _array(tensor: Any, on_gpu: bool) -> Any:
    """A tensor's memory as an array, without a copy."""
    return require("cupy", "decoding with DALI on a GPU").asarray(tensor) if on_gpu else np.asarray(tensor)


def times_and_durations(path: Path, info: MediaInfo) -> list[tuple[int, int]]:
    """Presentation time and duration of every frame that a video shows, in order, without decoding any.

    Raises InputError for packets that are damaged, and for times that are not stated.
    """
    check_readable(path)
    container = open_input(path)
    try:
        stream = pick_video(container)
        if stream is None:
            raise InputError(f"{path} holds no video stream")
        if set(container.format.name.split(",")) & BARE or container.format.name == "avi":
            raise DeviceMissing(f"{path}: {container.format.name} states no times; use --decoder pyav or auto")
        ledger = Ledger(str(path), info.codec, info.time_base, None, counted=False)
        durations: dict[int, int] = {}
        key_pts: int | None = None
        for packet in container.demux(stream):
            ledger.packet(packet)
            if not packet.size:
                continue
            if packet.pts is None:
                raise DeviceMissing(f"{path}: a packet states no time; use --decoder pyav or auto")
            if key_pts is None and packet.is_keyframe:
                key_pts = packet.pts
            if key_pts is not None and packet.pts >= key_pts and not ledger.hides(packet):
                durations[packet.pts] = packet.duration or 0
        return sorted(durations.items())
    finally:
        container.close()


def _to_nv12(rgb: NDArray[np.uint8], full_range: bool, planes: tuple[Any, ...]) -> None:
    """RGB that was made by BT.601, back as luma and chroma; chroma is the mean over its block."""
    height, width = rgb.shape[:2]
    colors = rgb.astype(np.float32)
    kr, kb = 0.299, 0.114
    luma = kr * colors[..., 0] + (1 - kr - kb) * colors[..., 1] + kb * colors[..., 2]
    u, v = (colors[..., 2] - luma) / (2 * (1 - kb)), (colors[..., 0] - luma) / (2 * (1 - kr))
    scale_y, scale_c, black = (1.0, 1.0, 0.0) if full_range else (219 / 255, 224 / 255, 16.0)
    planes[0][...] = np.clip(np.rint(luma * scale_y + black), 0, 255)
    for channel, chroma in enumerate((u, v)):
        mean = chroma.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        planes[1][..., channel] = np.clip(np.rint(mean * scale_c + 128.0), 0, 255)
