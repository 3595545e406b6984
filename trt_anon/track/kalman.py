"""Constant velocity for centres and sizes: a Kalman filter and its Rauch-Tung-Striebel smoother, for many boxes at
once.

A state is (cx, cy, log w, log h) and their rates per second, in pixels of its frame: `mean` (N, 8) float64. The two
centre coordinates share one covariance, the two sizes another: `cov` (N, 2, 3) float64 holds (p, pv, v) of each, the
variances of value and rate and what they share. So a camera's motion, a similarity, applies to them exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CENTRE_NOISE = 10.0
"""Power of the centre's random acceleration, in squares of the object's size per cubic second."""

SIZE_NOISE = 0.5
"""Power of the random acceleration of the logarithm of a size, per cubic second."""

CENTRE_ERROR = 0.05
"""Standard deviation of a confident detection's centre, as a share of the object's size."""

SIZE_ERROR = 0.08
"""Standard deviation of the logarithm of its size."""

_START_SPEED = 2.0  # standard deviation at birth, in sizes per second
_START_GROWTH = 0.5  # the same of the logarithm of a size
_LARGEST_LOG = 20.0
_FASTEST_LOG = 3.0


@dataclass(frozen=True, eq=False)
class Warp:
    """A similarity from the pixels of one frame to those of the next: x' = matrix @ x + shift."""

    matrix: Array
    shift: Array

    @classmethod
    def identity(cls) -> Warp:
        """No motion."""
        return cls(np.eye(2), np.zeros(2))

    @cached_property
    def scale(self) -> float:
        """How much larger things become."""
        return math.sqrt(abs(self._determinant))

    @cached_property
    def inverse(self) -> Warp:
        """From the later frame to the earlier one."""
        a, b, c, d = self.matrix.ravel().tolist()
        back = np.array(((d, -b), (-c, a))) / self._determinant
        return Warp(back, -back @ self.shift)

    @property
    def _determinant(self) -> float:
        a, b, c, d = self.matrix.ravel().tolist()
        return float(a * d - b * c)


def boxes_to_values(boxes_xyxy: NDArray[np.floating]) -> Array:
    """(N, 4) boxes as (cx, cy, log w, log h); sizes are at least one pixel."""
    boxes = boxes_xyxy.astype(np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate(((low + high) / 2, np.log(np.maximum(high - low, 1.0))), axis=1)


def values_to_boxes(values: Array) -> Array:
    """The boxes of (N, >= 4) values or states."""
    half = np.exp(_within(values[:, 2:4], _LARGEST_LOG)) / 2
    return np.concatenate((values[:, :2] - half, values[:, :2] + half), axis=1)


def sizes(mean: Array) -> Array:
    """(N,) the objects' sizes: the geometric mean of width and height."""
    return np.exp(_within(mean[:, 2] + mean[:, 3], 2 * _LARGEST_LOG) / 2)


# NumPy's own clip, stack and repeat take longer than all the arithmetic on a handful of boxes.


def _within(values: Array, most: float) -> Array:
    return np.asarray(np.minimum(np.maximum(values, -most), most), np.float64)


def _beside(*parts: Array | float) -> Array:
    """Arrays of one shape, or numbers, along a new last axis."""
    shape = next(part.shape for part in parts if isinstance(part, np.ndarray))
    out = np.empty((*shape, len(parts)))
    for place, part in enumerate(parts):
        out[..., place] = part
    return out


_BOTH = np.array((0, 0, 1, 1))  # of a pair, once for each of two coordinates


def error_of(mean: Array, factor: NDArray[np.floating] | float = 1.0) -> Array:
    """(N, 2) variances of a measurement of boxes of that size: of centre and of log size; `factor` scales both."""
    base = _beside((CENTRE_ERROR * sizes(mean)) ** 2, SIZE_ERROR**2)
    return base * np.asarray(factor, np.float64).reshape(-1, 1)


def born(values: Array, factor: NDArray[np.floating] | float = 1.0) -> tuple[Array, Array]:
    """States of objects seen for the first time: (mean, cov), at rest, their speed unknown."""
    mean = np.concatenate((values, np.zeros_like(values)), axis=1)
    cov = np.zeros((len(values), 2, 3))
    cov[:, :, 0] = error_of(mean, factor)
    cov[:, 0, 2] = (_START_SPEED * sizes(mean)) ** 2
    cov[:, 1, 2] = _START_GROWTH**2
    return mean, cov


def predict(mean: Array, cov: Array, seconds: float) -> tuple[Array, Array]:
    """The states `seconds` later, or earlier where that is negative, in the pixels of the same frame."""
    ahead = mean.copy()
    ahead[:, :4] += seconds * mean[:, 4:]
    ahead[:, 2:4] = _within(ahead[:, 2:4], _LARGEST_LOG)
    noise = _beside(CENTRE_NOISE * sizes(mean) ** 2, SIZE_NOISE)
    t, span = seconds, abs(seconds)
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    grown = pv + t * v
    wider = _beside(p + t * (pv + grown) + noise * (span**3 / 3), grown + noise * (t * span / 2), v + noise * span)
    return ahead, wider


def warped(mean: Array, cov: Array, warp: Warp) -> tuple[Array, Array]:
    """The states in the pixels of the next frame, objects and camera apart."""
    moved = mean.copy()
    matrix = warp.matrix.T
    moved[:, :2] = mean[:, :2] @ matrix + warp.shift
    moved[:, 4:6] = mean[:, 4:6] @ matrix
    moved[:, 2:4] += math.log(warp.scale)
    scaled = cov.copy()
    scaled[:, 0] *= warp.scale**2
    return moved, scaled


def update(mean: Array, cov: Array, values: Array, error: Array) -> tuple[Array, Array]:
    """The states after a measurement. values: (N, 4) as `boxes_to_values`; error: (N, 2) variances."""
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    total = p + error
    gain, gain_rate = p / total, pv / total
    off = values - mean[:, :4]
    better = mean + np.concatenate((gain[:, _BOTH] * off, gain_rate[:, _BOTH] * off), axis=1)
    better[:, 6:] = _within(better[:, 6:], _FASTEST_LOG)
    return better, _beside(p * (1 - gain), pv * (1 - gain), v - gain_rate * pv)


def smooth(
    mean: Array, cov: Array, ahead: Array, wider: Array, later_mean: Array, later_cov: Array, seconds: float
) -> tuple[Array, Array]:
    """One step of the Rauch-Tung-Striebel recursion: filtered states, given what is known `seconds` later.

    ahead, wider: what `predict` makes of them. later_*: the smoothed states of the next frame, in the pixels of this
    one (`warped` by the inverse).
    Rauch, Tung, Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3(8), 1965.
    """
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    a, b, c = wider[..., 0], wider[..., 1], wider[..., 2]
    whole = np.maximum(a * c - b * b, 1e-30)
    # gain = cov @ F.T @ inverse(wider), with F = [[1, seconds], [0, 1]]
    left_p, left_v = (p + seconds * pv) / whole, (pv + seconds * v) / whole
    pv_whole, v_whole = pv / whole, v / whole
    g00, g01 = left_p * c - pv_whole * b, pv_whole * a - left_p * b
    g10, g11 = left_v * c - v_whole * b, v_whole * a - left_v * b
    off = later_mean - ahead
    value, rate = off[:, :4], off[:, 4:]
    better = mean.copy()
    better[:, :4] += g00[:, _BOTH] * value + g01[:, _BOTH] * rate
    better[:, 4:] += g10[:, _BOTH] * value + g11[:, _BOTH] * rate
    apart = later_cov - wider
    d, e, f = apart[..., 0], apart[..., 1], apart[..., 2]
    top_d, top_e = g00 * d + g01 * e, g00 * e + g01 * f
    low_d, low_e = g10 * d + g11 * e, g10 * e + g11 * f
    narrower = _beside(
        np.maximum(p + g00 * top_d + g01 * top_e, 0.0),
        pv + g10 * top_d + g11 * top_e,
        np.maximum(v + g10 * low_d + g11 * low_e, 0.0),
    )
    return better, narrower


def spread(mean: Array, cov: Array) -> Array:
    """(N, 2) one standard deviation of where an edge is, across and down, in pixels, beyond that of a detection.

    What a detection leaves uncertain, the growth of regions covers.
    """
    half = np.exp(_within(mean[:, 2:4], _LARGEST_LOG)) / 2
    beyond = np.maximum(cov[..., 0] - error_of(mean), 0.0)
    return np.asarray(np.sqrt(beyond[:, :1] + half**2 * np.minimum(beyond[:, 1:], 1.0)), np.float64)
