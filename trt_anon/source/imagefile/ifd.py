"""Image file directories: the lists of tags that TIFF files and EXIF blocks are made of (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from trt_anon.errors import InputError

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
MAX_VALUE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag's value: type code, number of elements and bytes in the file's order."""

    kind: int
    count: int
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Directory:
    """The tags of one directory. order: `<` or `>`. following: where the next one lies, 0 if none does."""

    entries: dict[int, Entry]
    order: str
    following: int

    def integers(self, tag: int) -> tuple[int, ...]:
        """A tag's unsigned integers, none if it is not there."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        if entry.kind not in _INTEGERS:
            raise InputError(f"the TIFF is corrupt: tag {tag} is no integer")
        return struct.unpack(f"{self.order}{entry.count}{_INTEGERS[entry.kind]}", entry.raw)

    def integer(self, tag: int, default: int) -> int:
        """The first of a tag's integers."""
        return next(iter(self.integers(tag)), default)


def read_header(data: bytes) -> tuple[str, bool, int]:
    """(byte order, whether it is BigTIFF, where the first directory lies)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise InputError("the TIFF is truncated or corrupt: its header is wrong")
    (magic,) = struct.unpack(order + "H", data[2:4])
    if magic == 43 and len(data) >= 16:
        return order, True, struct.unpack(order + "Q", data[8:16])[0]
    if magic != 42:
        raise InputError("the TIFF is corrupt: its header is wrong")
    return order, False, struct.unpack(order + "I", data[4:8])[0]


def read_directory(data: bytes, offset: int, order: str, big: bool) -> Directory:
    """The directory at `offset`. Raises InputError where it or a value reaches beyond the data."""
    count_code, entry_code, next_code, inline = ("Q", "HHQ8s", "Q", 8) if big else ("H", "HHI4s", "I", 4)
    entries: dict[int, Entry] = {}
    try:
        (count,) = struct.unpack_from(order + count_code, data, offset)
        position = offset + struct.calcsize(count_code)
        step = struct.calcsize("=" + entry_code)
        if count > 4096:
            raise InputError("the TIFF is corrupt: a directory has too many tags")
        for _ in range(count):
            tag, kind, number, raw = struct.unpack_from(order + entry_code, data, position)
            position += step
            length = number * _SIZES.get(kind, 0)
            if length > MAX_VALUE_BYTES:
                raise InputError("the TIFF is corrupt: a tag's value is too large")
            if length > inline:
                (where,) = struct.unpack(order + next_code, raw)
                raw = data[where : where + length]
            if len(raw[:length]) != length:
                raise InputError("the TIFF is truncated or corrupt: a tag's value reaches beyond the file")
            entries.setdefault(tag, Entry(kind, number, raw[:length]))
        (following,) = struct.unpack_from(order + next_code, data, position)
    except (struct.error, OverflowError):
        raise InputError("the TIFF is truncated or corrupt: a directory reaches beyond the file") from None
    return Directory(entries, order, following)
