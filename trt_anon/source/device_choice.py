"""Choosing what decodes a video for a device: an explicit choice raises with the reason, `auto` may fall back."""

from __future__ import annotations

import logging
from pathlib import Path

from trt_anon.config import Decoder
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import MissingError, UsageError
from trt_anon.source.dali import DaliSource
from trt_anon.source.device import DeviceSource, UploadSource
from trt_anon.source.nvcodec import NvcodecSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.source.span import Span, SpanSource

_log = logging.getLogger("trt_anon")
_said: set[str] = set()


def open_device_source(
    path: Path,
    memory: DeviceMemory,
    decoder: Decoder = "auto",
    *,
    threads: int | None = None,
    conceal_damage: bool = False,
    span: Span | None = None,
) -> DeviceSource:
    """The frames of a video, or of a span of it, on a device.

    `auto` is NVDEC where it decodes the file, else FFmpeg on the CPU; DALI, whose chroma is not quite the file's, is
    taken only where it is named. threads: of FFmpeg. conceal_damage: frames that damage reaches are marked, which
    FFmpeg alone does. Raises InputError, DeviceMissing or PackageMissing where an
    explicit choice does not decode the file, with the reason, and UsageError for what does not go together.
    """
    if decoder in ("nvcodec", "dali") and conceal_damage:
        raise UsageError(f"decoder {decoder} repairs damage without a mark; with redact-frame use decoder pyav")
    if decoder == "dali":
        if span is not None:
            raise UsageError("decoder dali reads videos from their beginning; use --segment 0, or another decoder")
        return DaliSource(path, memory)
    if decoder == "nvcodec":
        return NvcodecSource(path, memory, span)
    if decoder == "auto" and memory.side == "cupy" and not conceal_damage:
        try:
            return NvcodecSource(path, memory, span)
        except MissingError as error:
            _say_once(str(error))
    if span is not None:
        return UploadSource(SpanSource(path, span, threads=threads), memory)
    return UploadSource(PyAVSource(path, threads=threads, conceal_damage=conceal_damage), memory)


def _say_once(reason: str) -> None:
    kind = reason.split(": ", 1)[-1]  # without the file's name
    if kind not in _said:
        _said.add(kind)
        _log.info("decoding on the CPU: %s", kind)
