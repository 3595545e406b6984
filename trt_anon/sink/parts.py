"""Videos encoded in parts: each part's packets in a file of their own, and the parts joined to one video.

A part begins with a key frame and refers to no other part. Its file holds the encoder's packets as they are, with exact
times, which no container format does for all codecs:

    16 bytes  magic            then for each packet, in decoding order:
     8 bytes  count            pts, duration: int64; flags: uint32 (1: key frame); size: uint32; that many bytes

All numbers are little-endian; times are in units of the output's time base.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trt_anon.config import SinkConfig
from trt_anon.errors import OutputError
from trt_anon.media import MediaInfo
from trt_anon.sink.pyav import PyAVSink

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_MAGIC = b"trt-anon part 1\n"
_COUNT = struct.Struct("<Q")
_HEAD = struct.Struct("<qqII")
_KEY = 1


@dataclass(frozen=True, slots=True)
class PartPacket:
    """One encoded frame: its time and duration in units of the output's time base, and where its bytes lie."""

    pts: int
    duration: int
    is_key: bool
    offset: int
    size: int


class PartSink(PyAVSink):
    """Encodes frames as `PyAVSink` does and writes the packets to a part's file; `container` is the joined video's."""

    def __init__(
        self,
        path: Path,
        *,
        source_path: Path,
        info: MediaInfo,
        config: SinkConfig,
        container: str,
        threads: int | None = None,
    ) -> None:
        self._file: BinaryIO | None = None
        self._count = 0
        try:
            self._file = path.open("wb")
            self._file.write(_MAGIC + _COUNT.pack(0))
            super().__init__(
                path, source_path=source_path, info=info, config=config, container=container, threads=threads
            )
        except OSError as error:
            raise self._failed(error) from error
        except BaseException:
            self._close()
            raise

    def finish(self) -> None:
        """Flush the encoder and complete the part. Raises OutputError."""
        super().finish()
        assert self._file is not None
        try:
            self._file.seek(len(_MAGIC))
            self._file.write(_COUNT.pack(self._count))
            self._file.close()
        except OSError as error:
            raise self._failed(error) from error

    def abort(self) -> None:
        """Release everything; safe after finish and after a failure."""
        super().abort()
        self._close()

    def _copied(self, config: SinkConfig) -> SinkConfig:
        return config.model_copy(update={"audio": "drop", "subtitles": "drop"})

    def _target(self) -> Any:
        return io.BytesIO()  # the container's own file is not wanted

    def _emit(self, output: OutputContainer, packet: Packet[VideoStream]) -> None:
        assert self._file is not None
        data = bytes(packet)
        if packet.pts is None:
            raise OutputError(f"{self._path}: the encoder made a packet without a time")
        self._file.write(_HEAD.pack(packet.pts, packet.duration or 0, _KEY * packet.is_keyframe, len(data)))
        self._file.write(data)
        self._count += 1

    def _mux_last(self, output: OutputContainer) -> None:
        pass

    def _close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # given up anyway
                return


def read_part(path: Path) -> list[PartPacket]:
    """The packets of a part. Raises OutputError for a file that is none, or not whole."""
    packets = []
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(len(_MAGIC) + _COUNT.size)
            if len(head) < len(_MAGIC) + _COUNT.size or not head.startswith(_MAGIC):
                raise OutputError(f"{path} is no part of a video")
            (count,) = _COUNT.unpack(head[len(_MAGIC) :])
            position = len(head)
            for _ in range(count):
                file.seek(position)
                raw = file.read(_HEAD.size)
                if len(raw) < _HEAD.size:
                    raise OutputError(f"{path} is cut off")
                pts, duration, flags, length = _HEAD.unpack(raw)
                packets.append(PartPacket(pts, duration, bool(flags & _KEY), position + _HEAD.size, length))
                position += _HEAD.size + length
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    if position != size or not packets or not packets[0].is_key:
        raise OutputError(f"{path} is not whole")
    return packets


def decoding_times(pts: Sequence[int]) -> list[int]:
    """Decoding times for packets in decoding order with these presentation times, as x264 and the containers want them.

    With d, by how many places a packet comes earlier than its turn at most, the n-th time is the (n-d)-th smallest
    presentation time, and before there is one, that of its own place, moved back by d places: no packet is decoded
    after it is shown, and times increase.
    """
    ordered = sorted(pts)
    rank = {time: place for place, time in enumerate(ordered)}
    depth = max((place - rank[time] for place, time in enumerate(pts)), default=0)
    if not depth:
        return list(pts)
    back = ordered[min(depth, len(ordered) - 1)] - ordered[0]
    return [ordered[n - depth] if n >= depth else ordered[n] - back for n in range(len(pts))]


class JoinSink(PyAVSink):
    """Writes parts as one video, with the copied streams that `PyAVSink` would write beside the frames."""

    def join(self, parts: Sequence[Path]) -> int:
        """Write all packets and close the file, complete; gives their number. Raises OutputError."""
        output = self._output
        if output is None:
            raise OutputError(f"{self._path} is closed already")
        packets = [read_part(path) for path in parts]
        shown = [packet.pts for part in packets for packet in part]
        if len(set(shown)) != len(shown):
            raise OutputError(f"{self._path}: two parts hold the same frame")
        self._start_pts = min(shown)
        times = iter(decoding_times(shown))
        latest = self._start_pts
        try:
            for path, part in zip(parts, packets, strict=True):
                for packet, data in _with_data(path, part):
                    latest = max(latest, packet.pts)
                    self._copies.advance(latest * self._time_base)
                    self._emit(output, self._packet(packet, data, next(times)))
            self._mux_last(output)
            self._copies.advance(None)
            output.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error) from error
        self._output = None
        self._copies.close()
        return len(shown)

    def _packet(self, packet: PartPacket, data: bytes, dts: int) -> Packet[VideoStream]:
        made: Packet[VideoStream] = self._av.Packet(data)
        made.stream = self._stream
        made.pts, made.dts, made.duration, made.time_base = packet.pts, dts, packet.duration, self._time_base
        made.is_keyframe = packet.is_key
        return made


def _with_data(path: Path, packets: Sequence[PartPacket]) -> Iterator[tuple[PartPacket, bytes]]:
    with path.open("rb") as file:
        for packet in packets:
            file.seek(packet.offset)
            yield packet, file.read(packet.size)
