"""Which packet became which frame: every time is accounted for, and nothing that can be shown gets lost."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Container
from fractions import Fraction
from typing import TYPE_CHECKING

from trt_anon.errors import InputError
from trt_anon.source.mpeg4 import VopReader

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


class Ledger:
    """Books of one video stream: packets go in as they are read, frames as they are decoded.

    Two kinds of streams. *Stated*: packets carry presentation times, and each displayable one must come out as a frame
    of that time. *Counted*: AVI and bare streams carry none (FFmpeg's guesses for B-frames come out of order), so the
    n-th frame takes the time slot of the n-th packet, which is what such a file means; a bare stream's slots are the
    running sum of the frame durations, so nothing drifts.

    Not displayable, hence owed nothing: empty packets, packets that an edit list discards, hidden reference frames of
    VP8 and VP9, MPEG-4 packets that code no picture, and, where times are stated, what precedes the first key frame in
    decoding order or presentation (a recording that starts in the middle of a group of pictures: nobody can show it).

    With `forgiving`, damage to a stream of stated times is written down instead of raised: `damaged` holds the times of
    packets and frames that are marked as such, `lost` those of frames that never came, in order. Counted streams are
    never forgiven: once a frame is lost, nobody knows which of the others is which.
    """

    def __init__(
        self,
        name: str,
        codec: str,
        time_base: Fraction,
        bare_step: Fraction | None,
        counted: bool,
        *,
        forgiving: bool = False,
        known_damage: Container[int] = (),
    ) -> None:
        """`known_damage`: times at which pictures are owed although no key frame was seen, since it may be what broke.

        `bare_step`: for streams without a container, the duration of a frame that does not say its own, in units of
        the time base. `counted`: the container has time slots only; None of both leaves it to the first packet.
        """
        self._name, self._codec, self._time_base = name, codec, time_base
        self._bare_step = bare_step
        self._counted: bool | None = True if counted or bare_step is not None else None
        self._vops = VopReader()
        self._owed: list[int] = []  # heap of presentation times
        self._slots: deque[int | None] = deque()
        self._clock = Fraction(0)
        self._key_pts: int | None = None
        self._key_seen = False
        self.packets_read = 0
        self.displayable = 0
        self.frames = 0
        self._last_pts: int | None = None
        self._last_interlaced = False
        self._forgiving = forgiving
        self._known_damage = known_damage
        self.damaged: list[int] = []
        self.lost: list[int] = []

    @property
    def forgives(self) -> bool:
        """Whether damage is written down rather than raised."""
        return self._forgiving and not self._counted

    def time(self, pts: int | None) -> str:
        """A presentation time for people."""
        return "an unknown time" if pts is None else f"{float(pts * self._time_base):.3f} s"

    def hides(self, packet: Packet[VideoStream]) -> bool:
        """Whether a packet holds no picture to show."""
        return packet.is_discard or self._hidden(packet)

    def packet(self, packet: Packet[VideoStream]) -> None:
        """Enter a packet, before it is decoded. Raises InputError if the container says that it is damaged."""
        if not packet.size:
            return
        self.packets_read += 1
        when = packet.pts if packet.pts is not None else packet.dts
        if self._counted is None:
            self._counted = packet.pts is None
        if packet.is_corrupt:
            self._damage(when, f"is damaged or cut off at {self.time(when)}: a packet is incomplete")
        if packet.is_discard or self._hidden(packet):
            return
        self.displayable += 1
        if self._counted:
            self._slots.append(packet.dts)
            return
        if not self._key_seen and packet.is_keyframe:
            self._key_seen, self._key_pts = True, packet.pts
        shown = self._key_seen and packet.pts is not None and (self._key_pts is None or packet.pts >= self._key_pts)
        if packet.pts is not None and (shown or packet.pts in self._known_damage):
            heapq.heappush(self._owed, packet.pts)

    def frame(self, frame: VideoFrame) -> int:
        """The presentation time of a decoded frame. Raises InputError if one before it never came out."""
        pts = self._slot(frame) if self._counted else frame.pts if frame.pts is not None else frame.dts
        if frame.is_corrupt:
            self._damage(pts, f"is damaged at {self.time(pts)}: a frame cannot be decoded cleanly")
        if pts is None:
            raise InputError(f"{self._name}: the frame after {self.time(self._last_pts)} has no presentation time")
        if self._last_pts is not None and pts <= self._last_pts:
            raise InputError(
                f"{self._name}: presentation times do not increase at {self.time(self._last_pts)}; "
                "remux the file with a tool that repairs timestamps"
            )
        if not self._counted:
            self._settle(pts)
        self.frames += 1
        self._last_pts, self._last_interlaced = pts, frame.interlaced_frame
        return pts

    def finish(self) -> None:
        """Check at the end of the file that all packets came out; InputError names the first time that did not."""
        if not self.frames:
            raise InputError(f"{self._name} holds no frame that can be decoded")
        if not self._counted:
            self._settle(None)
            return
        missing = self.displayable - self.frames
        fields = self._last_interlaced and 2 * self.frames >= self.displayable - 1
        if missing > 0 and not fields:
            raise InputError(f"{self._name} is damaged: {missing} of {self.displayable} frames cannot be decoded")

    def _settle(self, pts: int | None) -> None:
        """Strike out what is owed up to `pts`; each field pair may hold one packet more than frames."""
        spare = 1 if self._last_interlaced else 0
        while self._owed and (pts is None or self._owed[0] < pts):
            lost = heapq.heappop(self._owed)
            if spare:
                spare -= 1
                continue
            if not self.forgives:
                raise InputError(f"{self._name} is damaged or cut off at {self.time(lost)}: a frame cannot be decoded")
            if self._last_pts is None or lost > self._last_pts:
                self.lost.append(lost)
        if self._owed and self._owed[0] == pts:
            heapq.heappop(self._owed)

    def _damage(self, pts: int | None, what: str) -> None:
        if pts is None or not self.forgives:
            raise InputError(f"{self._name} {what}")
        self.damaged.append(pts)

    def _slot(self, frame: VideoFrame) -> int | None:
        if self._bare_step is None:
            return self._slots.popleft() if self._slots else None
        now = self._clock
        self._clock += frame.duration or self._bare_step
        return round(now)

    def _hidden(self, packet: Packet[VideoStream]) -> bool:
        """Whether the packet holds no picture to show (VP8: RFC 6386, 9.1; VP9: bitstream specification, 6.2)."""
        if self._codec == "mpeg4":
            return self._vops.codes_nothing(bytes(packet))
        if self._codec == "vp8":
            return not memoryview(packet)[0] >> 4 & 1
        if self._codec != "vp9":
            return False
        data = memoryview(packet)
        if data[-1] & 0xE0 == 0xC0:  # a superframe: hidden frames and a shown one together
            return False
        header = int.from_bytes(bytes(data[:2]).ljust(2, b"\0"), "big")
        if header >> 14 != 2:  # the frame marker: this is no VP9 frame, and its time stays owed
            return False
        position = 11 if header >> 12 & 3 != 3 else 10  # profile 3 has a reserved bit
        show_existing, show = header >> position & 1, header >> (position - 2) & 1
        return not show_existing and not show
