"""A stand-in for PyNvVideoCodec: the calls that the library makes of it, over FFmpeg and NumPy's memory.

It parses Annex B as NVDEC's parser does, gives pictures in display order with the times of their packets, as NV12 or
P010 with rows that are padded, and uses the memory of a picture again for the next one.
"""

from __future__ import annotations

import ctypes
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np

NAMES = {"H264": "h264", "HEVC": "hevc", "AV1": "av1", "VP9": "vp9", "VP8": "vp8", "MPEG2": "mpeg2video"}
PITCH = 512


class PacketData:
    def __init__(self) -> None:
        self.bsl_data = self.bsl = self.pts = self.dts = 0


class DecodedFrame:
    def __init__(self, planes: list[np.ndarray], pts: int) -> None:
        self._planes, self._pts = planes, pts

    def cuda(self) -> list[np.ndarray]:
        return self._planes

    def getPTS(self) -> int:  # noqa: N802 - the binding's name
        return self._pts


class Decoder:
    def __init__(self, codec: str, fail_at: int | None = None) -> None:
        self.waited = 0
        self._context = av.CodecContext.create(codec, "r")
        self._room: np.ndarray | None = None
        self._fail_at, self._pictures = fail_at, 0

    def Decode(self, data: PacketData) -> list[DecodedFrame]:  # noqa: N802
        if data.bsl:
            packet = av.Packet(ctypes.string_at(data.bsl_data, data.bsl))
            packet.pts, packet.dts = data.pts, data.dts
            frames = self._context.decode(packet)
        else:
            frames = self._context.decode(None)
        return [self._picture(frame) for frame in frames]

    def WaitOnCUStream(self, stream: int) -> None:  # noqa: N802
        self.waited += 1

    def _picture(self, frame: av.VideoFrame) -> DecodedFrame:
        self._pictures += 1
        if self._pictures == self._fail_at:
            raise RuntimeError("NVDEC_STATUS_ERROR")
        wide = "10" in frame.format.name
        planar = frame.reformat(format="yuv420p10le" if wide else "yuv420p") if "j" not in frame.format.name else frame
        planes = [
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(np.uint16 if wide else np.uint8)
            for plane in planar.planes
        ]
        height, width = frame.height, frame.width
        y, u, v = planes[0][:, :width], planes[1][:, : width // 2], planes[2][:, : width // 2]
        if wide:
            y, u, v = y << 6, u << 6, v << 6
        room = np.full((height * 3 // 2, PITCH), 0xEE, y.dtype)
        luma = room[:height, :width, None]
        chroma = room[height:, :width].reshape(height // 2, -1)[:, :width].reshape(height // 2, width // 2, 2)
        luma[..., 0] = y
        room[height:, 0:width:2], room[height:, 1:width:2] = u, v
        chroma = np.lib.stride_tricks.as_strided(
            room[height:], (height // 2, width // 2, 2), (room.strides[0], 2 * room.itemsize, room.itemsize)
        )
        return DecodedFrame([luma, chroma], frame.pts)


class Encoder:
    """Bare H.264 or HEVC without colour, a packet for each picture, a moment late."""

    def __init__(self, width: int, height: int, form: str, codec: str, fail_at: int | None, **options: Any) -> None:
        self._form = {"NV12": "nv12", "P010": "p010le"}[form]
        self._context = av.CodecContext.create({"h264": "libx264", "hevc": "libx265"}[codec], "w")
        wanted = "yuv420p10le" if form == "P010" else "yuv420p"
        self._context.width, self._context.height, self._context.pix_fmt = width, height, wanted
        self._context.time_base = Fraction(1, 25)
        crf = {"crf": str(options["constqp"]), "preset": "ultrafast"}
        assert options["bf"] == 0
        assert options["rc"] == "constqp"
        none = {"bf": "0"} if codec == "h264" else {"x265-params": "log-level=none:bframes=0"}
        self._context.options = crf | none
        self._context.gop_size = options["gop"]
        self._pictures, self._fail_at = 0, fail_at

    def Encode(self, frame: Any) -> list[dict[str, Any]]:  # noqa: N802
        self._pictures += 1
        if self._pictures == self._fail_at:
            raise RuntimeError("NV_ENC_ERR_GENERIC")
        luma, chroma = frame.cuda()
        assert luma.shape[2:] == (1,)
        assert chroma.shape[2:] == (2,)
        planar = av.VideoFrame(self._context.width, self._context.height, self._context.pix_fmt)
        shift = 6 if self._form == "p010le" else 0
        for plane, samples in zip(planar.planes, (luma[..., 0], chroma[..., 0], chroma[..., 1]), strict=True):
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size).view(samples.dtype)
            rows[:, : samples.shape[1]] = samples >> shift
        planar.pts = self._pictures
        return [self._given(packet) for packet in self._context.encode(planar)]

    def EndEncode(self) -> list[dict[str, Any]]:  # noqa: N802
        return [self._given(packet) for packet in self._context.encode(None)]

    def _given(self, packet: av.Packet) -> dict[str, Any]:
        return {"data": bytes(packet), "timestamp": packet.pts, "picture_type": 3 if packet.is_keyframe else 0}


def module(engines: int = 1, fail_at: int | None = None, own_stream: bool = False, nvenc: bool = True) -> ModuleType:
    """The module, with so many decoder engines, failing at a picture, refusing others' streams."""
    fake: Any = ModuleType("PyNvVideoCodec")
    fake.cudaVideoCodec = SimpleNamespace(**NAMES)
    fake.PacketData = PacketData

    def caps(gpuid: int = 0, codec: str = "h264", chromaformat: int = 1, bitdepth: int = 8) -> dict[str, int]:
        return {"num_decoder_engines": engines, "width_max": 4096, "height_max": 4096}

    def create(
        gpuid: int = 0,
        codec: str = "h264",
        cudacontext: int | None = None,
        cudastream: int | None = None,
        usedevicememory: bool = False,
    ) -> Decoder:
        assert usedevicememory
        if own_stream and cudastream is not None:
            raise RuntimeError("cudastream input argument does not correspond to cudacontext argument")
        return Decoder(codec, fail_at)

    def encoder_caps(gpuid: int = 0, codec: str = "h264") -> dict[str, int]:
        if not nvenc:
            raise RuntimeError("nvEncOpenEncodeSessionEx returned error 2")
        return {
            "num_encoder_engines": 1,
            "width_max": 4096,
            "height_max": 4096,
            "support_10bit_encode": codec == "hevc",
        }

    def create_encoder(width: int, height: int, form: str, host: bool, **options: Any) -> Encoder:
        assert not host
        return Encoder(width, height, form, options.pop("codec"), fail_at, **options)

    fake.GetDecoderCaps, fake.CreateDecoder = caps, create
    fake.GetEncoderCaps, fake.CreateEncoder = encoder_caps, create_encoder
    return fake
