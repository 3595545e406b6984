"""A TIFF writer: pages of 8 or 16 bits, losslessly compressed, one after another, and not a tag more than needed."""

from __future__ import annotations

import struct
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_STRIP_BYTES = 1 << 20
_SHORT, _LONG, _RATIONAL, _ASCII, _UNDEFINED = 3, 4, 5, 2, 7


class TiffWriter:
    """Writes a classic little-endian TIFF to a seekable file, page by page (TIFF 6.0, Deflate with predictor 2)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._link = 4
        file.write(b"II*\0\0\0\0\0")

    def add(
        self,
        picture: NDArray[Any],
        *,
        icc_profile: bytes | None = None,
        dpi: tuple[float, float] | None = None,
        captured: str | None = None,
    ) -> None:
        """Append a page: (H, W) or (H, W, 1 to 4) of uint8 or uint16; 2 and 4 channels end with unassociated alpha."""
        channels = 1 if picture.ndim == 2 else picture.shape[2]
        height, width = picture.shape[:2]
        rows = max(1, _STRIP_BYTES // (width * channels * picture.itemsize))
        offsets, lengths = [], []
        for start in range(0, height, rows):
            data = _compressed(picture[start : start + rows].reshape(-1, width, channels))
            offsets.append(self._position())
            lengths.append(len(data))
            self._file.write(data)
        tags: list[tuple[int, int, int, bytes]] = [
            (256, _LONG, 1, struct.pack("<I", width)),
            (257, _LONG, 1, struct.pack("<I", height)),
            (258, _SHORT, channels, struct.pack("<H", 8 * picture.itemsize) * channels),
            (259, _SHORT, 1, struct.pack("<H", 8)),
            (262, _SHORT, 1, struct.pack("<H", 2 if channels > 2 else 1)),
            (273, _LONG, len(offsets), struct.pack(f"<{len(offsets)}I", *offsets)),
            (277, _SHORT, 1, struct.pack("<H", channels)),
            (278, _LONG, 1, struct.pack("<I", rows)),
            (279, _LONG, len(lengths), struct.pack(f"<{len(lengths)}I", *lengths)),
            (284, _SHORT, 1, struct.pack("<H", 1)),
            (317, _SHORT, 1, struct.pack("<H", 2)),
        ]
        if channels in (2, 4):
            tags.append((338, _SHORT, 1, struct.pack("<H", 2)))
        for tag, value in zip((282, 283), dpi or (), strict=False):
            tags.append((tag, _RATIONAL, 1, struct.pack("<II", round(value * 1000), 1000)))
        if captured is not None:
            tags.append((306, _ASCII, len(captured) + 1, captured.encode("ascii") + b"\0"))
        if icc_profile is not None:
            tags.append((34675, _UNDEFINED, len(icc_profile), icc_profile))
        self._directory(sorted(tags))

    def _position(self) -> int:
        """The end of the file, even: where the next part begins."""
        position = self._file.seek(0, 2)
        if position & 1:
            self._file.write(b"\0")
            position += 1
        if position >= (1 << 32) - (1 << 26):
            raise ValueError("a TIFF cannot be larger than 4 GiB")
        return position

    def _directory(self, tags: list[tuple[int, int, int, bytes]]) -> None:
        start = self._position()
        heap = start + 2 + 12 * len(tags) + 4
        rows, outside = [], []
        for tag, kind, count, raw in tags:
            if len(raw) <= 4:
                rows.append(struct.pack("<HHI4s", tag, kind, count, raw))
                continue
            rows.append(struct.pack("<HHII", tag, kind, count, heap))
            outside.append(raw + b"\0" * (len(raw) & 1))
            heap += len(outside[-1])
        self._file.write(b"".join([struct.pack("<H", len(tags)), *rows, bytes(4), *outside]))
        self._file.seek(self._link)
        self._file.write(struct.pack("<I", start))
        self._link = start + 2 + 12 * len(tags)
        self._file.seek(0, 2)


def _compressed(rows: NDArray[Any]) -> bytes:
    """Differences between neighbours of a row, each channel by itself, deflated."""
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    differences = rows.copy()
    np.subtract(rows[:, 1:], rows[:, :-1], out=differences[:, 1:])
    return zlib.compress(differences.tobytes(), 6)
