"""Histograms of magnitudes that grow with what comes, in constant memory, and are the same in whatever order it comes.

A range is a power of two, so that doubling it joins bins two by two, exactly, and histograms of any two values can be
added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BINS = 4096

_LEAST_EXPONENT = -60  # of the range; smaller magnitudes count as it


@dataclass(slots=True, eq=False)
class Histogram:
    """Magnitudes of a value: `counts` in equal bins of [0, 2 ** exponent], exact zeros apart, the largest exactly."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    exponent: int = _LEAST_EXPONENT
    zeros: int = 0
    largest: float = 0.0

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self.counts.sum()) + self.zeros

    @property
    def width(self) -> float:
        """Of a bin."""
        return float(2.0**self.exponent) / BINS

    def edges(self) -> NDArray[np.float64]:
        """Upper edges (BINS,) of the bins."""
        return np.arange(1, BINS + 1, dtype=np.float64) * self.width

    def add(self, values: NDArray[np.floating]) -> None:
        """Count numbers. Raises ValueError where one is not finite."""
        magnitudes = np.abs(values, dtype=np.float32).ravel()
        if not magnitudes.size:
            return
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            raise ValueError("a number that is not finite")
        self.largest = max(self.largest, largest)
        self._widen(_exponent_for(largest))
        zeros = int(magnitudes.size - np.count_nonzero(magnitudes))
        # Scaled by a power of two, so exactly; the largest number may lie on the last edge.
        places = np.minimum(magnitudes * np.float32(1 / self.width), np.float32(BINS - 1)).astype(np.int32)
        counted = np.bincount(places, minlength=BINS)
        counted[0] -= zeros
        self.counts += counted
        self.zeros += zeros

    def joined(self, other: Histogram) -> Histogram:
        """Both together, as a new one."""
        both = Histogram(self.counts.copy(), self.exponent, self.zeros, self.largest)
        both._widen(other.exponent)
        added = Histogram(other.counts.copy(), other.exponent, other.zeros, other.largest)
        added._widen(both.exponent)
        both.counts += added.counts
        both.zeros += added.zeros
        both.largest = max(both.largest, added.largest)
        return both

    def _widen(self, exponent: int) -> None:
        if exponent <= self.exponent:
            return
        if self.counts.any():
            for _ in range(min(exponent - self.exponent, BINS.bit_length())):
                joined = self.counts.reshape(-1, 2).sum(axis=1)
                self.counts = np.concatenate([joined, np.zeros(BINS // 2, np.int64)])
        self.exponent = exponent


def _exponent_for(largest: float) -> int:
    """The least e with largest <= 2 ** e."""
    if largest == 0:
        return _LEAST_EXPONENT
    mantissa, exponent = np.frexp(largest)
    return max(int(exponent) - int(mantissa == 0.5), _LEAST_EXPONENT)
