"""Gaussian blur of a crop with OpenCV: within two codes of the reference, at any bit depth."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.redact.gaussian import cell_and_sigma, gaussian_radius
from trt_anon.types import Plane


@lru_cache(maxsize=64)  # the two axes, and the two chroma planes, of one region ask for the same
def _cell_and_kernel(cv2: Any, sigma: float) -> tuple[int, NDArray[np.float32]]:
    cell, sigma_low = cell_and_sigma(sigma)
    return cell, cv2.getGaussianKernel(2 * gaussian_radius(sigma_low) + 1, sigma_low, cv2.CV_32F)


def gaussian_cpu(crop: Plane, sigma_x: float, sigma_y: float) -> Plane:
    """The blurred crop, as `trt_anon.redact.gaussian.gaussian` defines it; cells are rounded to codes on the way.

    crop: (h, w) or (h, w, c <= 4) codes of one plane, uint8 or uint16. sigma_x, sigma_y: in samples of that plane, > 0.
    """
    cv2 = require("cv2", "the fast blur on a CPU")
    height, width = crop.shape[:2]
    (cell_x, kernel_x), (cell_y, kernel_y) = _cell_and_kernel(cv2, sigma_x), _cell_and_kernel(cv2, sigma_y)
    left, top = (cell_x if cell_x > 1 else 0), (cell_y if cell_y > 1 else 0)
    right, bottom = left + -width % cell_x, top + -height % cell_y
    low = crop
    if left or top:
        low = cv2.copyMakeBorder(low, top, bottom, left, right, cv2.BORDER_REPLICATE)
        cells = (low.shape[1] // cell_x, low.shape[0] // cell_y)
        low = cv2.resize(low, cells, interpolation=cv2.INTER_AREA)
    # to float32: the 8-bit filter of OpenCV rounds its weights to 1/256, which shows in wide kernels
    blurred = cv2.sepFilter2D(low, cv2.CV_32F, kernel_x, kernel_y, delta=0.5, borderType=cv2.BORDER_REPLICATE)
    out = blurred.astype(crop.dtype)
    if left or top:
        padded = (left + width + right, top + height + bottom)
        out = cv2.resize(out, padded, interpolation=cv2.INTER_LINEAR)[top : top + height, left : left + width]
    return cast(Plane, out.reshape(crop.shape))  # OpenCV drops a single channel
