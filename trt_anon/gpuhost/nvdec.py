"""What the GPU decodes in hardware, asked of its driver (`cuvidGetDecoderCaps`, NVIDIA Video Codec SDK)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_CODECS = {"h264": 4, "hevc": 8, "vp8": 9, "vp9": 10, "av1": 11, "mpeg2": 1, "mpeg4": 2, "mjpeg": 5}
"""cudaVideoCodec of cuviddec.h."""

_CHROMA_420 = 1


class _Caps(ctypes.Structure):
    """CUVIDDECODECAPS of cuviddec.h, 88 bytes."""

    _fields_ = (
        ("codec", ctypes.c_int),
        ("chroma", ctypes.c_int),
        ("bit_depth_minus_8", ctypes.c_uint),
        ("reserved1", ctypes.c_uint * 3),
        ("supported", ctypes.c_ubyte),
        ("engines", ctypes.c_ubyte),
        ("output_formats", ctypes.c_ushort),
        ("max_width", ctypes.c_uint),
        ("max_height", ctypes.c_uint),
        ("max_macroblocks", ctypes.c_uint),
        ("min_width", ctypes.c_ushort),
        ("min_height", ctypes.c_ushort),
        ("histogram", ctypes.c_ubyte),
        ("counter_bits", ctypes.c_ubyte),
        ("histogram_bins", ctypes.c_ushort),
        ("reserved3", ctypes.c_uint * 10),
    )


@dataclass(frozen=True, slots=True)
class Decoder:
    """engines: of hardware decoding, side by side. codecs: the largest picture by codec and depth, as `4096x4096`.

    error: why it could not be asked, None if it could.
    """

    engines: int
    codecs: dict[str, str]
    error: str | None = None


def ask_decoder(load: Callable[[str], Any] = ctypes.CDLL, device: int = 0) -> Decoder:
    """Ask the decoder of a GPU, by the driver's number; opens its primary context for a moment."""
    try:
        cuda, video = load("libcuda.so.1"), load("libnvcuvid.so.1")
        handle, context = ctypes.c_int(), ctypes.c_void_p()
        failed = cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(handle), device)
        failed = failed or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
        if failed:
            return Decoder(0, {}, f"the driver refuses (error {failed})")
        try:
            if failed := cuda.cuCtxPushCurrent_v2(context):
                return Decoder(0, {}, f"the driver refuses (error {failed})")
            try:
                return _ask(video)
            finally:
                cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        finally:
            cuda.cuDevicePrimaryCtxRelease_v2(handle)
    except (OSError, AttributeError) as error:
        return Decoder(0, {}, str(error))


def _ask(video: Any) -> Decoder:
    engines, codecs = 0, {}
    for name, number in _CODECS.items():
        for bits in (8, 10):
            caps = _Caps(codec=number, chroma=_CHROMA_420, bit_depth_minus_8=bits - 8)
            if video.cuvidGetDecoderCaps(ctypes.byref(caps)) or not caps.supported:
                continue
            engines = max(engines, caps.engines)
            codecs[name if bits == 8 else f"{name} {bits} bit"] = f"{caps.max_width}x{caps.max_height}"
    return Decoder(engines, codecs)
