"""Which parts of a video cannot be trusted because something in them is damaged: found by decoding all of it once."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trt_anon._optional import require

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from trt_anon.source.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Span:
    """Presentation times from `start` up to `end`, which is not part of it; None reaches to the end of the file."""

    start: int
    end: int | None


class DamagedSpans:
    """Spans of presentation times in which nothing may be shown."""

    def __init__(self, spans: list[Span]) -> None:
        joined: list[Span] = []
        for span in sorted(spans, key=lambda s: s.start):
            last = joined[-1] if joined else None
            if last is None or (last.end is not None and last.end < span.start):
                joined.append(span)
            elif last.end is not None and (span.end is None or span.end > last.end):
                joined[-1] = Span(last.start, span.end)
        self.spans = tuple(joined)
        self._starts = [span.start for span in joined]

    def __contains__(self, pts: object) -> bool:
        if not isinstance(pts, int):
            return False
        place = bisect_right(self._starts, pts) - 1
        if place < 0:
            return False
        end = self.spans[place].end
        return end is None or pts < end


class _Groups:
    """Groups of pictures in decoding order: each begins with a key frame, and decodes without the ones before it.

    But for its leading pictures: they are shown before its key frame and may refer to the group before. So a group's
    span ends where the next key frame is shown, and begins with its own first picture to be shown.
    """

    def __init__(self) -> None:
        self._starts: list[int | None] = [None]  # what precedes the first key frame is a group, too
        self._keys: list[int | None] = [None]
        self._of: dict[int, int] = {}
        self.damaged: set[int] = set()

    def enter(self, pts: int | None, is_key: bool) -> None:
        if is_key:
            self._starts.append(None)
            self._keys.append(pts)
        if pts is not None:
            self._of[pts] = len(self._starts) - 1
            start = self._starts[-1]
            self._starts[-1] = pts if start is None else min(start, pts)

    @property
    def current(self) -> int:
        return len(self._starts) - 1

    def damage_at(self, pts: int) -> None:
        """The group of the picture that is shown then; both of the two around it where no packet has that time."""
        if pts in self._of:
            self.damaged.add(self._of[pts])
            return
        for group, start in enumerate(self._starts):
            end = self._end(group)
            if (start is None or start <= pts) and (end is None or pts < end):
                self.damaged.add(group)

    def spans(self) -> list[Span]:
        made = []
        for group in self.damaged:
            start = self._starts[group]
            if start is not None:
                made.append(Span(start, self._end(group)))
        return made

    def _end(self, group: int) -> int | None:
        later = range(group + 1, len(self._keys))
        return next((key for n in later if (key := self._keys[n]) is not None), None)


def find_damage(container: InputContainer, stream: VideoStream, ledger: Ledger) -> DamagedSpans:
    """Decode a whole stream, and give the groups of pictures in which a packet, picture or time is damaged or missing.

    Later pictures of a group refer to earlier ones, so damage spreads to all of it, marked or not. The decoder must not
    use threads of frames: its errors would be those of packets before. `ledger` is one that forgives; what it does not
    forgive it raises (a stream without times, times that do not increase).
    """
    av = require("av", "reading video")
    groups = _Groups()
    for packet in container.demux(stream):
        if packet.size:
            groups.enter(packet.pts if packet.pts is not None else packet.dts, packet.is_keyframe)
        if packet.is_corrupt:
            groups.damaged.add(groups.current)
        ledger.packet(packet)
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            if not ledger.forgives:
                raise
            groups.damaged.add(groups.current)
            continue
        for frame in frames:
            ledger.frame(frame)
    ledger.finish()
    for pts in (*ledger.damaged, *ledger.lost):
        groups.damage_at(pts)
    return DamagedSpans(groups.spans())
