"""Masks of a bit per pixel, as the kernels read them: 32 pixels of a row in a word, the first in its lowest bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.redact.region import Block, Rect

WORD = 32


@dataclass(frozen=True, slots=True, eq=False)
class Bitmap:
    """A mask somewhere in a picture; it stands for the shape of a region.

    words: (rows, ceil(width_px / 32)) uint32, of NumPy or CuPy, C-contiguous; bits beyond the width mean nothing.
    x0_px, y0_px: the picture's pixel that its first bit is for. Raises ValueError for other shapes or types.
    """

    words: Any
    width_px: int
    x0_px: int
    y0_px: int

    def __post_init__(self) -> None:
        shape, dtype = self.words.shape, self.words.dtype
        if len(shape) != 2 or dtype != np.uint32 or self.width_px < 1 or shape[1] != -(-self.width_px // WORD):
            raise ValueError(f"a bitmap {self.width_px} wide needs uint32 rows of as many bits, got {dtype} {shape}")
        if shape[0] < 1 or not self.words.flags.c_contiguous:
            raise ValueError("a bitmap needs rows, one behind the other")

    def __repr__(self) -> str:
        return "Bitmap()"

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.words.shape[0])


def pack_bits(mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """(..., W) bool as (..., ceil(W / 32)) uint32; bits beyond the width are 0."""
    width = mask.shape[-1]
    padded = np.zeros((*mask.shape[:-1], -(-width // WORD) * WORD), np.bool_)
    padded[..., :width] = mask
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


def unpack_bits(words: NDArray[np.uint32], width: int) -> NDArray[np.bool_]:
    """(..., ceil(width / 32)) uint32 as (..., width) bool."""
    octets = np.ascontiguousarray(words).astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little")[..., :width].astype(np.bool_)


def bitmap_mask(bitmap: Bitmap, rect: Rect, block: Block = (1, 1)) -> NDArray[np.bool_]:
    """Which blocks of `rect` a bitmap in host memory takes: those of which it holds any pixel; as `region_mask`.

    A block cut by the picture's edge counts as if it were whole.
    """
    rows, columns = -(-rect.height // block[1]), -(-rect.width // block[0])
    canvas = np.zeros((rows * block[1], columns * block[0]), np.bool_)
    x, y = bitmap.x0_px - rect.x0, bitmap.y0_px - rect.y0  # of its first pixel on the canvas
    bits = unpack_bits(bitmap.words, bitmap.width_px)[max(-y, 0) :, max(-x, 0) :]
    there = canvas[max(y, 0) :, max(x, 0) :]
    height, width = min(len(bits), len(there)), min(bits.shape[1], there.shape[1])
    there[:height, :width] = bits[:height, :width]
    return np.asarray(canvas.reshape(rows, block[1], columns, block[0]).any(axis=(1, 3)), np.bool_)
