"""Audio and subtitle streams carried over from the input, packet by packet, as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon._optional import require
from trt_anon.config import SinkConfig
from trt_anon.container import open_input, pick_video
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.sink.containers import ContainerKind
from trt_anon.sink.vorbis import without_comments

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream

_FRAMED = ("ac3", "mp2")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z?")

_NAMED_LAYOUTS = {
    "1 channels": "mono",
    "2 channels": "stereo",
    "3 channels": "3.0",
    "4 channels": "quad",
    "5 channels": "5.0(side)",
    "6 channels": "5.1(side)",
}


def time_of_creation(metadata: Mapping[str, str]) -> dict[str, str]:
    """The time of creation alone, and only if it is one: some containers hold any words there."""
    found = metadata.get("creation_time", "")
    return {"creation_time": found} if _TIME.fullmatch(found) else {}


class StreamCopies:
    """The input's streams that go into the output unchanged.

    Kept with a stream: its packets with their times and durations, its codec parameters, disposition and language.
    Never taken: other video streams (they would be in clear), cover pictures, attachments and data.
    """

    def __init__(self, source_path: Path, kind: ContainerKind, config: SinkConfig) -> None:
        self._path, self._kind, self._config = source_path, kind, config
        self._av = require("av", "writing video")
        self._input: InputContainer | None = open_input(source_path)
        self._pairs: dict[int, Stream] = {}
        self._output: OutputContainer | None = None
        self._packets: Iterator[Packet[Stream]] = iter(())
        self._next: Packet[Stream] | None = None

    @property
    def metadata(self) -> tuple[dict[str, str], dict[str, str]]:
        """Metadata of the input's container and of its video stream."""
        assert self._input is not None
        video = pick_video(self._input)
        return dict(self._input.metadata), dict(video.metadata) if video is not None else {}

    def wanted(self) -> tuple[list[Stream], list[Stream]]:
        """The streams to copy that precede the video stream in the input, and those that follow it."""
        assert self._input is not None
        video = pick_video(self._input)
        position = video.index if video is not None else 0
        kinds = {"audio": self._config.audio, "subtitle": self._config.subtitles}
        streams = [s for s in self._input.streams if kinds.get(s.type) == "copy"]
        return [s for s in streams if s.index < position], [s for s in streams if s.index > position]

    def ticks_per_second(self) -> list[int]:
        """The finest unit of time of each stream to copy."""
        before, after = self.wanted()
        return [s.time_base.denominator for s in (*before, *after) if s.time_base is not None]

    def add(self, stream: Stream, output: OutputContainer) -> None:
        """Give the output a stream like `stream`. Raises UsageError where its container cannot hold it."""
        option = "audio" if stream.type == "audio" else "subtitles"
        advice = f"choose another container (.mkv holds most) or leave it out: --{option} drop"
        if stream.codec_context is None:
            raise UsageError(f"{self._path}: {stream.type} stream {stream.index} is of an unknown codec; {advice}")
        codec = stream.codec_context.codec.canonical_name
        allowed = self._kind.other_streams
        try:
            if allowed is not None and codec not in allowed:
                raise ValueError(codec)
            copy = self._like(stream, codec, output)
        except ValueError as error:
            raise UsageError(
                f"{self._path}: {self._kind.name} does not hold {stream.type} stream {stream.index} ({codec}); {advice}"
            ) from error
        if codec == "vorbis":
            headers = without_comments(stream.codec_context.extradata or b"")
            if headers is None:
                raise UsageError(f"{self._path}: the headers of audio stream {stream.index} cannot be read; {advice}")
            copy.codec_context.extradata = headers
        copy.metadata.clear()
        language = stream.metadata.get("language", "")
        if re.fullmatch("[a-zA-Z]{2,3}", language):
            copy.metadata["language"] = language
        if self._config.metadata == "keep":
            copy.metadata.update(time_of_creation(stream.metadata))
        copy.disposition = stream.disposition
        self._pairs[stream.index] = copy

    def _like(self, stream: Stream, codec: str, output: OutputContainer) -> Stream:
        if self._kind.muxer == "avi" and codec in _FRAMED:
            # AVI input gives these codecs a block size of one byte, with which the muxer would count bytes as time. A
            # fresh context of the codec (it encodes nothing) has none.
            context: AudioCodecContext = stream.codec_context  # type: ignore[assignment]
            # A header may give the number of channels alone; an encoder wants them named.
            layout = _NAMED_LAYOUTS.get(context.layout.name, context.layout.name)
            made: Stream = output.add_stream(
                codec, rate=context.sample_rate, layout=layout, bit_rate=context.bit_rate or 0
            )
            return made
        return output.add_stream_from_template(stream, opaque=True)

    def start(self, output: OutputContainer) -> None:
        """Begin to read; all wanted streams have been added."""
        assert self._input is not None
        self._output = output
        chosen = [s for s in self._input.streams if s.index in self._pairs]
        for stream in self._input.streams:
            if stream.index not in self._pairs:
                stream.discard = self._av.stream.Discard.all
        if chosen:
            self._packets = iter(self._input.demux(*chosen))
            self._next = self._read()

    def advance(self, seconds: Fraction | None) -> None:
        """Write all packets up to that time; None for the rest. FFmpeg's errors pass through."""
        while self._next is not None:
            packet = self._next
            at = packet.dts if packet.dts is not None else packet.pts
            if seconds is not None and at is not None and at * packet.time_base > seconds:
                return
            packet.stream = self._pairs[packet.stream_index]
            assert self._output is not None
            try:
                self._output.mux_one(packet)
            except self._av.ArgumentError as error:
                kind = packet.stream.type
                option = "audio" if kind == "audio" else "subtitles"
                raise OutputError(
                    f"{self._path}: the packets of its {kind} stream cannot be written, as where times repeat in a "
                    f"damaged stream; repair the file or leave it out: --{option} drop"
                ) from error
            self._next = self._read()

    def close(self) -> None:
        """Release the input; safe to call twice."""
        source, self._input = self._input, None
        self._next, self._packets = None, iter(())
        if source is not None:
            source.close()

    def _read(self) -> Packet[Stream] | None:
        try:
            for packet in self._packets:
                if packet.is_corrupt:
                    raise InputError(f"{self._path} is damaged or cut off in its {packet.stream.type} stream")
                # Packets without a time only flush decoders; the muxer writes MP4's pauses between subtitles itself.
                pause = self._kind.muxer in ("mp4", "mov") and packet.stream.type == "subtitle" and packet.size == 2
                if (packet.size or packet.dts is not None) and not (pause and bytes(packet) == b"\0\0"):
                    return packet
        except (self._av.FFmpegError, ValueError) as error:
            raise InputError(f"{self._path} cannot be read on: {getattr(error, 'strerror', None) or error}") from error
        return None
