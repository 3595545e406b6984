"""Gaussian blur of a crop at a cost that does not grow with its strength: the reference, in NumPy.

Along each axis: means of cells of k samples, a Gaussian over the cells, linear interpolation back. The cell mean adds a
variance of (k^2 - 1) / 12 samples, the interpolation (k^2 - 1) / 6, so the Gaussian between them gets
sigma_low = sqrt(sigma^2 - (k^2 - 1) / 4) / k. k is the largest integer that leaves sigma_low >= 2.5, but at least 2
from sigma 4 on; below that it is 1, the plain separable filter. The result is at least 46 dB from the true Gaussian.

Cells start at the crop's first sample, and the crop continues beyond its edges with its outermost values, without end.
Only the crop is read, so the result depends on nothing outside it.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import Plane

MIN_SIGMA_LOW = 2.5
MIN_SIGMA_OF_CELLS = 4.0
MAX_CELL = 1024  # keeps sums of a cell within 32 bits in every implementation


def cell_and_sigma(sigma: float) -> tuple[int, float]:
    """Samples per cell and sigma in cells of the Gaussian between down- and upscaling."""
    cell = math.isqrt(math.floor((sigma * sigma + 0.25) / (MIN_SIGMA_LOW * MIN_SIGMA_LOW + 0.25)))
    cell = min(max(cell, 1 if sigma < MIN_SIGMA_OF_CELLS else 2), MAX_CELL)
    return cell, math.sqrt(sigma * sigma - (cell * cell - 1) / 4) / cell


def gaussian_radius(sigma: float) -> int:
    """How far the discrete Gaussian reaches: three sigma, rounded up; its weights are normalised to one."""
    return math.ceil(3 * sigma)


def _blur_rows(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur along the first axis."""
    cell, sigma_low = cell_and_sigma(sigma)
    length = len(values)
    cells = -(-length // cell) + 2  # one before and one after hold nothing but the outermost value
    padded = values[np.clip(np.arange(cells * cell) - cell, 0, length - 1)]
    low = padded.reshape(cells, cell, *values.shape[1:]).mean(axis=1)

    steps = np.arange(-gaussian_radius(sigma_low), gaussian_radius(sigma_low) + 1)
    weights = np.exp(-0.5 * (steps / sigma_low) ** 2)
    weights /= weights.sum()
    blurred = np.zeros_like(low)
    for step, weight in zip(steps, weights, strict=True):
        blurred += weight * low[np.clip(np.arange(cells) + step, 0, cells - 1)]

    position = (np.arange(length) + 0.5) / cell + 0.5  # of each sample, among the cells' centres
    before = np.floor(position).astype(np.intp)
    share = (position - before).reshape(-1, *[1] * (values.ndim - 1))
    out: NDArray[np.float64] = blurred[before] * (1 - share) + blurred[before + 1] * share
    return out


def gaussian(crop: Plane, sigma_x: float, sigma_y: float) -> Plane:
    """The blurred crop, new: float64 throughout, rounded half up at the end.

    crop: (h, w) or (h, w, c) codes of one plane, uint8 or uint16. sigma_x, sigma_y: in samples of that plane, > 0.
    """
    rows = _blur_rows(crop.astype(np.float64), sigma_y)
    both = _blur_rows(rows.swapaxes(0, 1), sigma_x).swapaxes(0, 1)
    return cast(Plane, np.floor(both + 0.5).astype(crop.dtype))
