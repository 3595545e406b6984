"""Solid fill: nothing of the object is left. There is only the reference; a fill cannot be made faster."""

from __future__ import annotations

import numpy as np

from trt_anon.types import Color, PixelFormat, Plane


def black_codes(pixel_format: PixelFormat, color: Color) -> tuple[tuple[int, ...], ...]:
    """The codes of opaque black: for each plane one code per channel, not yet shifted by `sample_shift`.

    RGB and gray: 0. Luma: 0 in full range, 16 << (bit depth - 8) in limited range (ITU-T H.273); chroma: the middle
    code. Alpha: the highest code.
    """
    depth = pixel_format.bit_depth
    if pixel_format.kind == "packed":
        return (tuple((1 << depth) - 1 if name == "a" else 0 for name in pixel_format.channels),)
    if pixel_format.kind == "gray":
        return ((0,),)
    full_range = color.full_range or pixel_format.name.startswith("yuvj")
    luma, middle = (0 if full_range else 16 << (depth - 8)), 1 << (depth - 1)
    return ((luma,), (middle, middle)) if pixel_format.kind == "semiplanar_yuv" else ((luma,), (middle,), (middle,))


def solid(crop: Plane, codes: tuple[int, ...]) -> Plane:
    """A crop of the same shape and type that holds only `codes`, one per channel, new."""
    out = np.empty_like(crop)
    out[...] = codes if crop.ndim == 3 else codes[0]
    return out
