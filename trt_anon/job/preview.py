"""A picture of a frame before and after, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import InputError
from trt_anon.geometry import turn_upright
from trt_anon.job.publish import as_output_error, atomic_output
from trt_anon.source.pyav import PyAVSource


def before_and_after(original: Path, redacted: Path, picture: Path, *, index: int = 0, overwrite: bool = False) -> None:
    """Write frame `index` of two videos, upright, side by side as a PNG; the left half is the original, unredacted."""
    image = require("PIL.Image", "writing a picture")
    halves = [_rgb(path, index) for path in (original, redacted)]
    gap = np.full((halves[0].shape[0], 8, 3), 255, np.uint8)
    joined = np.concatenate((halves[0], gap, halves[1]), axis=1)
    with as_output_error(picture), atomic_output(picture, overwrite=overwrite) as path:
        image.fromarray(joined).save(path, format="PNG")


def _rgb(path: Path, index: int) -> NDArray[np.uint8]:
    source = PyAVSource(path)
    try:
        for frame in source:
            if frame.index == index:
                stored: NDArray[np.uint8] = frame.native.to_ndarray(format="rgb24")
                return turn_upright(stored, frame.orientation).astype(np.uint8, copy=False)
    finally:
        source.close()
    raise InputError(f"{path.name} has no frame {index}")
