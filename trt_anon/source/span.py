"""A part of a video: the frames between two times, decoded from the key frame before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon.errors import InputError
from trt_anon.source.ledger import Ledger
from trt_anon.source.pyav import PyAVSource

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a video, in units of its stream's time base.

    seek_pts: the time of a key frame to begin at, None for the beginning of the file. stop_pts: the last frame given is
    the first one at or after it; None for all that follow. first_index: how many frames of the file come before.
    """

    seek_pts: int | None
    stop_pts: int | None
    first_index: int = 0


class SpanSource(PyAVSource):
    """The frames of a span, each exactly what `PyAVSource` gives of the whole file, its index included.

    What precedes the key frame in presentation is left out. Raises what `PyAVSource` does, for this part of the file,
    and InputError where the container cannot find the key frame again.
    """

    def __init__(self, path: str | Path, span: Span, *, threads: int | None = None) -> None:
        self._span = span
        self._first_index = span.first_index
        super().__init__(path, threads=threads)

    def _decode(
        self, container: InputContainer, stream: VideoStream, ledger: Ledger
    ) -> Iterator[tuple[VideoFrame | None, int]]:
        span = self._span
        if span.seek_pts is None and span.stop_pts is None:
            yield from super()._decode(container, stream, ledger)
            return
        at: int | None = span.seek_pts
        key_pts: int | None = None
        try:
            if span.seek_pts is not None:
                container.seek(span.seek_pts, stream=stream)
            for packet in container.demux(stream):
                ledger.packet(packet)
                if key_pts is None and packet.size:
                    key_pts = self._check_key(packet.pts, packet.is_keyframe, ledger)
                at = packet.pts if packet.pts is not None else at
                for frame in packet.decode():
                    if span.seek_pts is not None and key_pts is not None and (frame.pts or key_pts) < key_pts:
                        continue  # it may lack what it refers to
                    pts = ledger.frame(frame)
                    if span.seek_pts is not None and pts < span.seek_pts:
                        continue  # the index led to an earlier key frame
                    yield frame, pts
                    if span.stop_pts is not None and pts >= span.stop_pts:
                        return
        except (self._av.FFmpegError, ValueError) as error:
            raise self._broken(ledger, at, error) from error
        ledger.finish()

    def _check_key(self, pts: int | None, is_key: bool, ledger: Ledger) -> int | None:
        return check_key(self._path, self._span.seek_pts, pts, is_key, ledger)


def check_key(path: Path, wanted: int | None, pts: int | None, is_key: bool, ledger: Ledger) -> int | None:
    """The time of the first packet after a seek. Raises InputError unless it is a key frame at or before `wanted`."""
    if wanted is not None and (not is_key or pts is None or pts > wanted):
        raise InputError(
            f"{path}: its index does not lead to the key frame at {ledger.time(wanted)}; anonymize it whole, "
            "with --segment 0"
        )
    return pts
