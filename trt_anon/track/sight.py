"""What the tracker is told about a frame: wherever the frame itself lies, these few bytes are on the host."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import Detections


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """One frame, in presentation order.

    seconds: presentation time. size_px: (width, height) of the upright picture. picture: the upright picture in grey,
    small, (h, w) uint8; None follows nothing and knows neither cuts nor the camera's motion. found: the detections that
    may begin a track, None where the frame was not looked at; weak: those that may only continue one.
    """

    seconds: float
    size_px: tuple[int, int]
    picture: NDArray[np.uint8] | None
    found: Detections | None
    weak: Detections | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.seconds):
            raise ValueError(f"a frame's time must be finite, got {self.seconds}")
        if self.picture is not None and (self.picture.ndim != 2 or self.picture.dtype != np.uint8):
            raise ValueError(f"picture: expected uint8 (h, w), got {self.picture.dtype} {self.picture.shape}")

    def __repr__(self) -> str:  # pixels and boxes do not belong in a traceback
        return f"Sight({self.seconds:.3f} s)"
