"""The walk through a TIFF file, classic or BigTIFF: every page becomes a small TIFF of its own for the decoder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails
from trt_anon.source.imagefile.exif import orientation_of, time_of
from trt_anon.source.imagefile.ifd import Directory, read_directory, read_header
from trt_anon.source.imagefile.parts import Parts, plausible_dpi

MAX_PAGES = 10_000

# The tags that say how pixels are stored; all others (EXIF, GPS, XMP, IPTC, text, private) stay behind.
_PIXEL_TAGS = {
    256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 332, 338, 339, 347, 529, 530, 531, 532,
}  # fmt: skip
_STRIPS, _TILES = (273, 279), (324, 325)


@dataclass(frozen=True, slots=True)
class _Page:
    directory: Directory
    spans: tuple[tuple[int, int], ...]
    tiled: bool


class TiffFile:
    """The pages of a TIFF file. Thumbnails and masks (NewSubfileType 1 and 4) and sub-directories are left out."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        order, big, offset = read_header(data)
        self._pages: list[_Page] = []
        seen: set[int] = set()
        while offset:
            if offset in seen or len(seen) >= MAX_PAGES:
                raise InputError(f"the TIFF is corrupt: its pages run in a circle, or are more than {MAX_PAGES}")
            seen.add(offset)
            directory = read_directory(data, offset, order, big)
            if not directory.integer(254, 0) & 5:
                self._pages.append(self._page(directory))
            offset = directory.following
        if not self._pages:
            raise InputError("the TIFF is corrupt: it has no picture")

    def _page(self, directory: Directory) -> _Page:
        tiled = 324 in directory.entries
        offsets, lengths = (directory.integers(tag) for tag in (_TILES if tiled else _STRIPS))
        if not offsets or len(offsets) != len(lengths):
            raise InputError("the TIFF is corrupt: it does not say where its pixels are")
        for offset, length in zip(offsets, lengths, strict=True):
            if not length or offset + length > len(self._data):
                raise InputError("the TIFF is truncated: pixels are missing")
        return _Page(directory, tuple(zip(offsets, lengths, strict=True)), tiled)

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[Parts]:
        """Each page, as a single-page TIFF without metadata."""
        for number in range(len(self)):
            yield self.page(number)

    def page(self, number: int) -> Parts:
        """One page, as a single-page TIFF without metadata; `details` are those of the whole file."""
        page = self._pages[number]
        tags = page.directory
        bits = max(tags.integers(258), default=1)
        if tags.integer(259, 1) == 6:
            raise InputError("the TIFF is compressed with the obsolete JPEG scheme, which is not supported")
        if bits == 16 and 1 in tags.integers(338):
            raise InputError("the TIFF has 16 bits and premultiplied alpha, which is not supported")
        profile = tags.entries.get(34675)
        details = ImageDetails(
            frames=len(self),
            icc_profile=profile.raw if profile else None,
            captured=time_of(tags, 0x0132),
            dpi=_dpi(tags),
        )
        size = tags.integer(256, 0), tags.integer(257, 0)
        return Parts(self._standalone(page), size, details, orientation_of(tags), bits)

    def _standalone(self, page: _Page) -> bytes:
        order = page.directory.order
        values = {
            tag: (entry.kind, entry.count, entry.raw)
            for tag, entry in page.directory.entries.items()
            if tag in _PIXEL_TAGS
        }
        for tag, (kind, count, _) in values.items():
            if kind == 16:  # 64-bit integers are BigTIFF's alone
                numbers = [min(n, 0xFFFFFFFF) for n in page.directory.integers(tag)]
                values[tag] = (4, count, struct.pack(f"{order}{count}I", *numbers))
        where, how_long = _TILES if page.tiled else _STRIPS
        start = 8
        offsets, lengths = [], []
        for _, length in page.spans:
            offsets.append(start)
            lengths.append(length)
            start += length + (length & 1)
        for tag, numbers in ((where, offsets), (how_long, lengths)):
            values[tag] = (4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers))
        if start >= 1 << 32:
            raise InputError("a page of the TIFF is larger than 4 GiB")
        parts = [(b"II*\0" if order == "<" else b"MM\0*"), struct.pack(order + "I", start)]
        for offset, length in page.spans:
            parts.append(self._data[offset : offset + length] + b"\0" * (length & 1))
        heap = start + 2 + 12 * len(values) + 4
        rows, outside = [], []
        for tag, (kind, count, raw) in sorted(values.items()):
            if len(raw) > 4:
                rows.append(struct.pack(order + "HHII", tag, kind, count, heap))
                raw += b"\0" * (len(raw) & 1)
                outside.append(raw)
                heap += len(raw)
            else:
                rows.append(struct.pack(order + "HHI4s", tag, kind, count, raw))
        parts += [struct.pack(order + "H", len(values)), *rows, b"\0\0\0\0", *outside]
        return b"".join(parts)


def _dpi(tags: Directory) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(tags.integer(296, 2))
    found = []
    for tag in (282, 283):
        entry = tags.entries.get(tag)
        if entry is None or entry.kind != 5 or entry.count != 1:
            return None
        above, below = struct.unpack(tags.order + "II", entry.raw)
        if not below or unit is None:
            return None
        found.append(above / below * unit)
    return plausible_dpi(*found)
