"""Small synthetic clips, made with PyAV when a test wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(index: int, width: int, height: int, pix_fmt: str = "yuv420p") -> av.VideoFrame:
    """Frame `index` of a moving pattern in the given format, every sample of every plane set."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for number, plane in enumerate(frame.planes):
        wide = frame.format.components[0].bits > 8
        rows = np.ndarray((plane.height, plane.line_size), np.uint8, buffer=memoryview(plane))
        samples = rows.view(np.uint16) if wide else rows
        y, x = np.mgrid[: samples.shape[0], : samples.shape[1]]
        value = 40 + 60 * number + 60 * np.sin((x + 3 * index) / 9) + 30 * np.cos((y - 2 * index) / 7)
        if wide:
            value = value * (1 << (frame.format.components[0].bits - 8))
        samples[...] = np.clip(value, 0, (1 << frame.format.components[0].bits) - 1).astype(samples.dtype)
    return frame


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (96, 64),
    pix_fmt: str = "yuv420p",
    frames: int = 12,
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    last_duration: int | None = None,
    options: dict[str, str] | None = None,
    muxer_options: dict[str, str] | None = None,
    muxer: str | None = None,
    display_matrix: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    color: tuple[int, int, int, int] | None = None,
    audio: Sequence[str] = (),
    subtitles: str | None = None,
    cover: bool = False,
    metadata: bool = False,
    chapters: bool = False,
    draw: Callable[[int], av.VideoFrame] | None = None,
) -> Path:
    """Write a clip. `times`: presentation times in `time_base`; `color`: range, primaries, transfer, matrix.

    `audio`: names of encoders, one stream each, the first marked English, the others German.
    `draw`: makes frame `index`, of the size and pixel format given, instead of the pattern.
    """
    base = time_base or 1 / rate
    shown = list(times) if times is not None else [round(i / (rate * base)) for i in range(frames)]
    with av.open(str(path), "w", format=muxer, container_options=muxer_options or {}) as out:
        video = out.add_stream(
            codec, rate=rate, options=options or {}, width=size[0], height=size[1], pix_fmt=pix_fmt, time_base=base
        )
        video.thread_count = 1
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if color is not None:
            context = video.codec_context
            context.color_range, context.color_primaries, context.color_trc, context.colorspace = color
        if display_matrix is not None:
            video.set_display_matrix(display_matrix)
        sounds = [out.add_stream(name, rate=48000, layout="stereo") for name in audio]
        for stream, language in zip(sounds, ("eng", "deu", "fra"), strict=False):
            stream.metadata["language"] = language
            if metadata:
                stream.metadata["title"] = "Interview with a secret name"
        text = out.add_mux_stream(subtitles, time_base=Fraction(1, 1000)) if subtitles else None
        art = None
        if cover:
            art = out.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p", time_base=Fraction(1, 90000))
            art.codec_context.color_range = 2
            art.disposition = av.stream.Disposition.attached_pic
        if metadata:
            out.metadata.update(
                {"title": "secret name", "artist": "secret name", "location": "+48.1+11.5/", "comment": "secret name"}
                | {"creation_time": "2024-05-06T07:08:09.000000Z"}
            )
            video.metadata["title"] = "secret name"
        if chapters:
            out.set_chapters(
                [
                    {
                        "id": 1,
                        "start": 0,
                        "end": 200,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": "secret name"},
                    }
                ]
            )
        packets = []
        for index, pts in enumerate(shown):
            frame = picture(index, *size, pix_fmt) if draw is None else draw(index)
            frame.pts, frame.time_base = pts, base
            packets += video.encode(frame)
        packets += video.encode(None)
        if last_duration is not None:
            max(packets, key=lambda p: p.pts).duration = last_duration
        for stream in sounds:
            packets += _sound(stream, float((shown[-1] - shown[0] + 1) * base))
        if art is not None:
            still = picture(0, 32, 32, "yuvj420p")
            still.pts = 0
            packets += art.encode(still) + art.encode(None)
        if text is not None:
            packets += _texts(text, subtitles or "")
        for packet in sorted(packets, key=lambda p: float(p.dts * p.time_base)):
            out.mux(packet)
    return path


def _sound(stream: av.AudioStream, seconds: float) -> list[av.Packet]:
    stream.codec_context.open()
    size = stream.codec_context.frame_size or 1024
    packets = []
    for start in range(0, int(seconds * 48000) + size, size):
        tone = np.sin(np.arange(start, start + size) * 0.05).astype(np.float32) * 0.3
        name = stream.codec_context.format.name
        stereo = np.stack([tone, tone])
        if "s16" in name:
            stereo = (stereo * 32767).astype(np.int16)
        elif "s32" in name:
            stereo = (stereo * 2147483647.0).astype(np.int32)
        array = stereo if name.endswith("p") else np.ascontiguousarray(stereo.T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(array, format=name, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _texts(stream: av.stream.Stream, codec: str) -> list[av.Packet]:
    packets = []
    for number, words in enumerate((b"first words", b"second words")):
        data = len(words).to_bytes(2, "big") + words if codec == "mov_text" else words
        packet = av.Packet(data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 40 + 200 * number
        packet.duration = 100
        packets.append(packet)
    return packets


def stream_packets(path: Path, kind: str) -> list[list[tuple[Fraction, Fraction, bytes]]]:
    """(time, duration, bytes) of every packet of each stream of that kind."""
    with av.open(str(path), metadata_errors="replace") as container:
        found: dict[int, list[tuple[Fraction, Fraction, bytes]]] = {
            s.index: [] for s in container.streams if s.type == kind
        }
        for packet in container.demux():
            if packet.size and packet.stream_index in found:
                base = packet.time_base
                found[packet.stream_index].append((packet.pts * base, (packet.duration or 0) * base, bytes(packet)))
        return list(found.values())
