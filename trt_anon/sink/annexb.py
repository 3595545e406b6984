"""H.264 byte streams: taking out what an encoder says about itself; ITU-T H.264, annexes B and D."""

from __future__ import annotations

import re

_START = re.compile(rb"\x00{2,3}\x01")
_SEI = 6
_USER_DATA_UNREGISTERED = 5


def without_encoder_note(access_unit: bytes) -> bytes:
    """The access unit without x264's note (a supplementary message of its own) about its version and all its settings.

    Only messages of unregistered user data go; closed captions and timing stay. What is no byte stream with start codes
    is returned as it is.
    """
    starts = list(_START.finditer(access_unit))
    if not starts or starts[0].start() != 0:
        return access_unit
    ends = [match.start() for match in starts[1:]] + [len(access_unit)]
    kept = []
    for match, end in zip(starts, ends, strict=True):
        unit = access_unit[match.end() : end]
        note = len(unit) > 1 and unit[0] & 31 == _SEI and unit[1] == _USER_DATA_UNREGISTERED
        if not note:
            kept.append(access_unit[match.start() : end])
    return b"".join(kept)
