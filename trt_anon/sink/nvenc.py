"""Video files encoded by NVENC from frames in device memory, through PyNvVideoCodec; all else is `PyAVSink`'s.

NVENC gives a bare stream without colour. FFmpeg's metadata filters write the input's colour and pixel aspect into its
headers, and a first picture, encoded for nothing else, tells the container what the headers will be: a stream that does
not decode to that picture is refused before the video begins. There are no B-frames, so frames come in order.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_anon._optional import require
from trt_anon.config import SinkConfig
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import DeviceFailed, DeviceMissing
from trt_anon.media import MediaInfo
from trt_anon.sink.encoders import ENCODERS
from trt_anon.sink.pyav import PyAVSink
from trt_anon.types import Frame

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FORMATS: Mapping[str, str] = {"nv12": "NV12", "p010le": "P010"}
_FAMILIES = ("h264", "hevc")
_IDR = 3  # NV_ENC_PIC_TYPE_IDR
_PRESET = "P4"
_SECONDS_PER_KEY_FRAME = 4


def why_not_nvenc(info: MediaInfo, family: str, codec_module: Any, device: int) -> str | None:
    """Why NVENC does not encode this video here, in words; None where it does. The GPU is asked, not its name."""
    if family not in _FAMILIES:
        return f"NVENC is used for {' and '.join(_FAMILIES)}, not for {family}"
    if info.pixel_format.name not in _FORMATS or (family == "h264" and info.pixel_format.bit_depth > 8):
        return f"NVENC takes frames of NVDEC's formats, and {family} not in {info.pixel_format.name}"
    if info.field_order > 1:
        return "NVENC is not used for interlaced video"
    try:
        caps = codec_module.GetEncoderCaps(gpuid=device, codec=family)
    except Exception as error:  # noqa: BLE001 - how the binding says that there is none
        return f"this GPU has no NVENC ({str(error).strip().splitlines()[0]})"
    if caps.get("num_encoder_engines", 1) < 1:
        return "this GPU has no NVENC"
    if info.pixel_format.bit_depth > 8 and not caps.get("support_10bit_encode", 0):
        return f"this GPU's NVENC does not encode {family} of 10 bits"
    widest, highest = caps.get("width_max", 0), caps.get("height_max", 0)
    if (widest and info.width_px > widest) or (highest and info.height_px > highest):
        return f"this GPU's NVENC encodes {family} up to {widest}x{highest}"
    return None


class NvencSink(PyAVSink):
    """Writes frames whose planes lie on a device; see `PyAVSink`. Raises DeviceMissing where NVENC does not do it."""

    on_device = True

    def __init__(
        self,
        path: str | Path,
        *,
        source_path: str | Path,
        info: MediaInfo,
        config: SinkConfig,
        memory: DeviceMemory,
        container: str | None = None,
    ) -> None:
        try:
            self._nvc = require("PyNvVideoCodec", "encoding on a GPU")
        except RuntimeError as error:  # what the package raises without the driver's libraries
            raise DeviceMissing(f"PyNvVideoCodec does not start: {str(error).strip().splitlines()[0]}") from error
        self._memory = memory
        self._nvenc: Any = None
        super().__init__(path, source_path=source_path, info=info, config=config, container=container)

    def abort(self) -> None:
        """See `PyAVSink.abort`."""
        self._nvenc = None
        super().abort()

    @property
    def _reorders(self) -> bool:
        return False

    def _add_video(self, output: OutputContainer, config: SinkConfig, threads: int | None) -> VideoStream:
        info, family = self._info, self._encoder.family
        reason = why_not_nvenc(info, family, self._nvc, self._memory.device)
        if reason is not None:
            raise DeviceMissing(f"{self._path}: {reason}; use --encoder cpu or auto")
        self._encoder_time_base = 1 / self._rate
        self._headers = self._new_headers()
        with self._memory.using():
            template = self._probe(config)
            self._nvenc = self._open_nvenc(config)
        stream: Any = output.add_stream_from_template(template, opaque=True)
        stream.time_base = self._time_base
        if family == "hevc" and self._kind.muxer in ("mp4", "mov"):
            stream.codec_context.codec_tag = "hvc1"
        if info.display_matrix is not None and self._kind.display_matrix:
            stream.set_display_matrix(info.display_matrix)
        return stream  # type: ignore[no-any-return]

    def _open_encoder(self, stream: VideoStream, config: SinkConfig) -> None:
        """Opened already: the stream's headers come from it."""

    def _new_headers(self) -> Any:
        """The filter that writes colour and pixel aspect into the stream's headers."""
        info, family = self._info, self._encoder.family
        aspect, unknown = info.sample_aspect_ratio, 2
        colors = {
            "colour_primaries": info.color_primaries,
            "transfer_characteristics": info.color_trc,
            "matrix_coefficients": info.color_space,
        }
        values: dict[str, object] = {name: value for name, value in colors.items() if value != unknown}
        if info.color_range:
            values["video_full_range_flag"] = int(info.color.full_range)
        values["sample_aspect_ratio"] = f"{aspect.numerator}/{aspect.denominator}"
        text = ":".join(f"{name}={value}" for name, value in values.items())
        return self._av.bitstream.BitStreamFilterContext(f"{family}_metadata={text}", family)

    def _open_nvenc(self, config: SinkConfig) -> Any:
        info, family = self._info, self._encoder.family
        rate = self._rate.limit_denominator(1001)
        quantizer = ENCODERS[family].quantizer(config.quality)
        try:
            return self._nvc.CreateEncoder(
                info.width_px,
                info.height_px,
                _FORMATS[info.pixel_format.name],
                False,
                gpu_id=self._memory.device,
                codec=family,
                preset=config.encoder_preset or _PRESET,
                tuning_info="high_quality",
                rc="constqp",
                constqp=quantizer,
                bf=0,
                gop=max(1, round(_SECONDS_PER_KEY_FRAME * rate)),
                fps=max(1, round(rate)),
                repeatspspps=1,
            )
        except Exception as error:  # the binding raises its own exceptions, of no common base
            raise DeviceMissing(f"{self._path}: NVENC does not start: {str(error).strip().splitlines()[0]}") from error

    def _probe(self, config: SinkConfig) -> VideoStream:
        """A stream that FFmpeg has read out of one black picture: its headers are those to come."""
        info = self._info
        encoder = self._open_nvenc(config)
        group = self._memory.group()
        shapes = info.pixel_format.plane_shapes(info.width_px, info.height_px)
        planes = tuple(group.empty(shape, info.pixel_format.dtype) for shape in shapes)
        try:
            made = [*encoder.Encode(_Picture(planes)), *encoder.EndEncode()]
            self._memory.wait(self._memory.record(None), "setting up")
            data = b"".join(bytes(part) for one in made for part in self._with_headers(bytes(one["data"])))
            container = self._av.open(io.BytesIO(data), format=self._encoder.family)
            (stream,) = container.streams.video
            shown = next(container.decode(video=0), None)
            container = self._av.open(io.BytesIO(data), format=self._encoder.family)
            (stream,) = container.streams.video
        except (self._av.FFmpegError, ValueError, KeyError, TypeError) as error:
            raise DeviceMissing(f"{self._path}: NVENC's stream cannot be read: {error}") from error
        finally:
            group.free()
        if shown is None or (shown.width, shown.height) != (info.width_px, info.height_px):
            raise DeviceMissing(f"{self._path}: NVENC's stream does not show a picture of its size")
        self._headers = self._new_headers()
        self._template = container  # it owns the stream
        return stream  # type: ignore[no-any-return]

    def _for_encoder(self, frame: Frame) -> VideoFrame:
        return _Picture(frame.planes)  # type: ignore[return-value]

    def _encode(self, picture: VideoFrame | None) -> list[Packet[VideoStream]]:
        memory = self._memory
        try:
            with memory.using():
                made = self._nvenc.EndEncode() if picture is None else self._nvenc.Encode(picture)
                memory.wait(memory.record(None), "the encoder's copy")  # synchronises: the frame's memory is used again
        except Exception as error:  # as above
            raise DeviceFailed(f"{self._path}: NVENC failed: {str(error).strip().splitlines()[0]}") from error
        packets = []
        for one in made:
            data = b"".join(bytes(part) for part in self._with_headers(bytes(one["data"])))
            packet: Any = self._av.Packet(data)
            packet.stream, packet.time_base = self._stream, self._time_base
            packet.is_keyframe = int(one["picture_type"]) == _IDR
            packets.append(packet)
        return packets

    def _with_headers(self, data: bytes) -> list[Packet[VideoStream]]:
        parts: list[Packet[VideoStream]] = self._headers.filter(self._av.Packet(data))
        return parts


class _Picture:
    """A frame as PyNvVideoCodec takes it: `cuda` gives its planes, each as CUDA's array interface says."""

    def __init__(self, planes: tuple[Any, ...]) -> None:
        self.planes = planes
        self.pts: int | None = None
        self.time_base: Fraction | None = None

    def cuda(self) -> list[Any]:
        """The planes: luma (h, w, 1), chroma (h / 2, w / 2, 2)."""
        return [plane[..., np.newaxis] if plane.ndim == 2 else plane for plane in self.planes]
