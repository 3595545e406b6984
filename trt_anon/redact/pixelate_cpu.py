"""Pixelation of a crop with OpenCV's integral image: equal to the reference, at any bit depth."""

from __future__ import annotations

from typing import cast

import numpy as np

from trt_anon._optional import require
from trt_anon.redact.pixelate import Edges
from trt_anon.types import Plane


def pixelate_cpu(crop: Plane, edges_x: Edges, edges_y: Edges) -> Plane:
    """The crop with each cell replaced by its mean, as `trt_anon.redact.pixelate.pixelate` defines it.

    crop: (h, w) or (h, w, c <= 4) codes of one plane, uint8 or uint16. edges_x, edges_y: increasing, in samples of that
    plane, from 0 to w and from 0 to h.
    """
    cv2 = require("cv2", "fast pixelation on a CPU")
    # int32 where no sum can pass it, else float64, whose integers are exact up to 2^53
    narrow = crop.dtype == np.uint8 and crop.shape[0] * crop.shape[1] << 8 < 1 << 31
    corners = cv2.integral(crop, sdepth=cv2.CV_32S if narrow else cv2.CV_64F).take(edges_y, 0).take(edges_x, 1)
    strips = corners[1:] - corners[:-1]
    totals = (strips[:, 1:] - strips[:, :-1]).astype(np.int64, copy=False)
    heights, widths = edges_y[1:] - edges_y[:-1], edges_x[1:] - edges_x[:-1]
    counts = heights[:, np.newaxis] * widths
    if totals.ndim == 3:
        counts = counts[..., np.newaxis]
    means = ((2 * totals + counts) // (2 * counts)).astype(crop.dtype)
    return cast(Plane, means.repeat(widths, axis=1).repeat(heights, axis=0).reshape(crop.shape))
