"""Repeated measurements of time as figures that can be quoted: medians with their spread, and tails of latencies."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value; of a single one the quartiles are itself."""
        ordered = sorted(values)
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0], 1)
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(statistics.median(ordered), low, high, len(ordered))


@dataclass(frozen=True)
class Latency:
    """Median and tails of the times that single items took, in milliseconds; quantiles by linear interpolation."""

    median_ms: float
    p95_ms: float
    p99_ms: float
    items: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """Of times in seconds; None of none."""
        if not seconds:
            return None
        median, p95, p99 = (1000 * np.quantile(np.asarray(seconds), (0.5, 0.95, 0.99))).tolist()
        return cls(median, p95, p99, len(seconds))
