"""Constant velocity for centres and sizes: a Kalman filter and its Rauch-Tung-Striebel smoother, for many boxes at
once.

A state is (cx, cy, log w, log h) and their rates per second, in pixels of its frame: `mean` (N, 8) float64. The two
centre coordinates share one covariance, the two sizes another: `cov` (N, 2, 3) float64 holds (p, pv, v) of each, the
variances of value and rate and what they share. So a camera's motion, a similarity, applies to them exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """A similarity from the pixels of one frame to those of the next: x' = matrix @ x + shift."""

    matrix: Array
    shift: Array

    @classmethod
    def identity(cls) -> Warp:
        """No motion."""
        return cls(np.eye(2), np.zeros(2))

    @property
    def scale(self) -> float:
        """How much larger things become."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix))))

    def inverse(self) -> Warp:
        """From the later frame to the earlier one."""
        back = np.asarray(np.linalg.inv(self.matrix), np.float64)
        return Warp(back, -back @ self.shift)


def boxes_to_values(boxes_xyxy: NDArray[np.floating]) -> Array:
    """(N, 4) boxes as (cx, cy, log w, log h); sizes are at least one pixel."""
    boxes = boxes_xyxy.astype(np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate(((low + high) / 2, np.log(np.maximum(high - low, 1.0))), axis=1)


def values_to_boxes(values: Array) -> Array:
    """The boxes of (N, >= 4) values or states."""
    half = np.exp(values[:, 2:4].clip(-_LARGEST_LOG, _LARGEST_LOG)) / 2
    return np.concatenate((values[:, :2] - half, values[:, :2] + half), axis=1)


def sizes(mean: Array) -> Array:
    """(N,) the objects' sizes: the geometric mean of width and height."""
    return np.exp((mean[:, 2] + mean[:, 3]).clip(-2 * _LARGEST_LOG, 2 * _LARGEST_LOG) / 2)


def error_of(mean: Array, factor: NDArray[np.floating] | float = 1.0) -> Array:
    """(N, 2) variances of a measurement of boxes of that size: of centre and of log size; `factor` scales both."""
    base = np.stack(((CENTRE_ERROR * sizes(mean)) ** 2, np.full(len(mean), SIZE_ERROR**2)), axis=1)
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
    ahead[:, 2:4] = ahead[:, 2:4].clip(-_LARGEST_LOG, _LARGEST_LOG)
    noise = np.stack((CENTRE_NOISE * sizes(mean) ** 2, np.full(len(mean), SIZE_NOISE)), axis=1)
    t, span = seconds, abs(seconds)
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    wider = np.stack(
        (
            p + t * (2 * pv + t * v) + noise * span**3 / 3,
            pv + t * v + noise * t * span / 2,
            v + noise * span,
        ),
        axis=-1,
    )
    return ahead, wider


def warped(mean: Array, cov: Array, warp: Warp) -> tuple[Array, Array]:
    """The states in the pixels of the next frame, objects and camera apart."""
    moved = mean.copy()
    moved[:, :2] = mean[:, :2] @ warp.matrix.T + warp.shift
    moved[:, 4:6] = mean[:, 4:6] @ warp.matrix.T
    moved[:, 2:4] += np.log(warp.scale)
    scaled = cov.copy()
    scaled[:, 0] *= warp.scale**2
    return moved, scaled


def update(mean: Array, cov: Array, values: Array, error: Array) -> tuple[Array, Array]:
    """The states after a measurement. values: (N, 4) as `boxes_to_values`; error: (N, 2) variances."""
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    total = p + error
    gain, gain_rate = p / total, pv / total
    off = values - mean[:, :4]
    better = mean + np.concatenate((np.repeat(gain, 2, axis=1) * off, np.repeat(gain_rate, 2, axis=1) * off), axis=1)
    better[:, 6:] = better[:, 6:].clip(-_FASTEST_LOG, _FASTEST_LOG)
    narrower = np.stack((p * (1 - gain), pv * (1 - gain), v - gain_rate * pv), axis=-1)
    return better, narrower


def smooth(mean: Array, cov: Array, later_mean: Array, later_cov: Array, seconds: float) -> tuple[Array, Array]:
    """One step of the Rauch-Tung-Striebel recursion: filtered states, given what is known `seconds` later.

    later_*: the smoothed states of the next frame, in the pixels of this one (`warped` by the inverse).
    Rauch, Tung, Striebel, "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3(8), 1965.
    """
    ahead, wider = predict(mean, cov, seconds)
    p, pv, v = cov[..., 0], cov[..., 1], cov[..., 2]
    a, b, c = wider[..., 0], wider[..., 1], wider[..., 2]
    whole = np.maximum(a * c - b * b, 1e-30)
    # gain = cov @ F.T @ inverse(wider), with F = [[1, seconds], [0, 1]]
    left_p, left_v = p + seconds * pv, pv + seconds * v
    g00, g01 = (left_p * c - pv * b) / whole, (pv * a - left_p * b) / whole
    g10, g11 = (left_v * c - v * b) / whole, (v * a - left_v * b) / whole
    off = later_mean - ahead
    value, rate = off[:, :4], off[:, 4:]
    wide = [np.repeat(g, 2, axis=1) for g in (g00, g01, g10, g11)]
    better = mean + np.concatenate((wide[0] * value + wide[1] * rate, wide[2] * value + wide[3] * rate), axis=1)
    d, e, f = (later_cov[..., i] - wider[..., i] for i in range(3))
    narrower = np.stack(
        (
            p + g00 * (g00 * d + g01 * e) + g01 * (g00 * e + g01 * f),
            pv + g10 * (g00 * d + g01 * e) + g11 * (g00 * e + g01 * f),
            v + g10 * (g10 * d + g11 * e) + g11 * (g10 * e + g11 * f),
        ),
        axis=-1,
    )
    narrower[..., 0] = np.maximum(narrower[..., 0], 0.0)
    narrower[..., 2] = np.maximum(narrower[..., 2], 0.0)
    return better, narrower


def spread(mean: Array, cov: Array) -> Array:
    """(N, 2) one standard deviation of where an edge is, across and down, in pixels, beyond that of a detection.

    What a detection leaves uncertain, the growth of regions covers.
    """
    half = np.exp(mean[:, 2:4].clip(-_LARGEST_LOG, _LARGEST_LOG)) / 2
    beyond = np.maximum(cov[..., 0] - error_of(mean), 0.0)
    return np.asarray(np.sqrt(beyond[:, :1] + half**2 * np.minimum(beyond[:, 1:], 1.0)), np.float64)
