"""Writing a replacement into a plane where a mask says so: the reference, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import Plane


def paste(target: Plane, samples: Plane, mask: NDArray[np.bool_]) -> None:
    """Put `samples` into `target` where `mask` is set; every other sample of `target` keeps its bits.

    target, samples: (h, w) or (h, w, c) of one type; `target` a writable view. mask: (h, w). Raises ValueError where
    `target` cannot be written.
    """
    np.copyto(target, samples, where=mask if target.ndim == 2 else mask[..., np.newaxis])
