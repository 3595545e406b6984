"""Where a long video is cut: at key frames, into segments that are worked on apart and joined again."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from trt_anon._optional import require
from trt_anon.container import open_input, pick_video
from trt_anon.errors import InputError
from trt_anon.sink.containers import container_kind
from trt_anon.source.ledger import Ledger
from trt_anon.source.span import Span

DEFAULT_SEGMENT_SECONDS = 120.0
"""How long a segment is at least, where the user says nothing."""

_SEEKABLE = {"mov", "matroska", "webm"}  # containers with an index and times of their own
_PROGRESSIVE = (0, 1)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a video: its own frames are those from `start_pts` up to `stop_pts`, None for the end of the file.

    span: what is decoded for it: from the key frame before, with what the tracker looks back and ahead at. frames: how
    many are its own.
    """

    number: int
    start_pts: int
    stop_pts: int | None
    span: Span
    frames: int

    def holds(self, pts: int | None) -> bool:
        """Whether a frame of that time is one of its own."""
        return pts is not None and pts >= self.start_pts and (self.stop_pts is None or pts < self.stop_pts)


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How a video is cut, and with how many threads each segment is encoded: it is all that shapes the encoded frames.

    cuts: the first time of each segment, in units of the stream's time base; all are times of key frames.
    """

    segments: tuple[Segment, ...]
    threads: int

    @property
    def frames(self) -> int:
        """Frames of the whole video."""
        return sum(segment.frames for segment in self.segments)

    def describe(self) -> str:
        """The plan in words of its own, for the journal: equal for equal plans."""
        cuts = [[s.start_pts, s.span.seek_pts, s.span.stop_pts, s.frames] for s in self.segments]
        return json.dumps({"threads": self.threads, "segments": cuts})


def threads_of(described: str | None) -> int | None:
    """The number of encoder threads of a plan in the journal; None if there is none."""
    if described is None:
        return None
    threads = json.loads(described)["threads"]
    return int(threads)


def plan_segments(
    source: Path, destination: Path, *, length_seconds: float, overlap_seconds: float, threads: int
) -> SegmentPlan | None:
    """Cut a video into segments of at least `length_seconds`; None where it is worked on whole.

    That is: it is shorter than two segments, its container has no reliable index (AVI, TS, bare streams), it is
    interlaced, times are missing, or its key frames lie too far apart. All its packets are read, none is decoded.
    overlap_seconds: how much is decoded before and after a segment for its own sake. Raises InputError.
    """
    if length_seconds <= 0 or container_kind(destination, None).timing == "none":
        return None
    scanned = scan(source)
    if scanned is None:
        return None
    shown, keys, time_base = scanned
    length, overlap = (Fraction(seconds) / time_base for seconds in (length_seconds, overlap_seconds))
    cuts = _cuts(shown, keys, length)
    if len(cuts) < 2:
        return None
    segments = []
    for number, start in enumerate(cuts):
        stop = cuts[number + 1] if number + 1 < len(cuts) else None
        before = bisect_right(keys, start - overlap) - 1
        # One key frame further back: a stream may need one to come to itself after a key frame that is not the first.
        seek = keys[before - 1] if number and before > 1 else None
        last = None if stop is None else int(stop + overlap)
        if last is not None and last > shown[-1]:
            last = None
        first_index = 0 if seek is None else bisect_left(shown, seek)
        own = bisect_left(shown, stop) if stop is not None else len(shown)
        segments.append(Segment(number, start, stop, Span(seek, last, first_index), own - bisect_left(shown, start)))
    return SegmentPlan(tuple(segments), threads)


def scan(source: Path) -> tuple[list[int], list[int], Fraction] | None:
    """Times of all frames and of key frames, sorted, and their unit; None where they are not reliable."""
    av = require("av", "reading video")
    with open_input(source) as container:
        stream = pick_video(container)
        context = None if stream is None else stream.codec_context
        if stream is None or context is None or not set(container.format.name.split(",")) & _SEEKABLE:
            return None
        time_base = stream.time_base
        if context.field_order not in _PROGRESSIVE or time_base is None:
            return None
        codec = context.codec.canonical_name
        ledger = Ledger(str(source), codec, time_base, None, counted=False)
        shown: list[int] = []
        keys: list[int] = []
        try:
            for packet in container.demux(stream):
                before = ledger.displayable
                ledger.packet(packet)
                if ledger.displayable == before:
                    continue
                if packet.pts is None:
                    return None
                if packet.is_keyframe:
                    keys.append(packet.pts)
                if keys and packet.pts >= keys[0]:  # earlier ones refer to what is not there
                    shown.append(packet.pts)
        except av.FFmpegError as error:
            raise InputError(f"{source} is damaged or cut off: {error.strerror}") from error
        if "mov" in container.format.name and ledger.packets_read < len(stream.index_entries):
            raise InputError(
                f"{source} is cut off: {ledger.packets_read} of {len(stream.index_entries)} frames are there"
            )
        return sorted(shown), sorted(keys), time_base


def _cuts(shown: Sequence[int], keys: Sequence[int], length: Fraction) -> list[int]:
    """First times of the segments: the first key frame at least `length` after the cut before; none near the end."""
    if not shown:
        return []
    cuts = [shown[0]]
    for key in keys:
        if key - cuts[-1] >= length and shown[-1] - key >= length / 2:
            cuts.append(key)
    return cuts
