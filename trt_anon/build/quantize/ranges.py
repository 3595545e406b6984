"""How much of a value's range INT8 shall stand for: from its histogram, by several methods.

Small ranges cut off the largest magnitudes, large ones leave few codes for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.quantize.histogram import Histogram

Method = Literal["min-max", "percentile", "entropy", "mse"]

PERCENTILES = (99.9, 99.99, 99.999)
"""Those that `auto` tries; `percentile` alone is the middle one."""

_LEVELS = 128  # magnitudes that INT8 tells apart
_STEPS = 256  # ranges that entropy and mse try


def min_max(histogram: Histogram) -> float:
    """All of it."""
    return histogram.largest


def percentile(histogram: Histogram, share: float = PERCENTILES[1]) -> float:
    """So that this share of all numbers (in percent) lies within."""
    within = np.cumsum(histogram.counts) + histogram.zeros
    place = int(np.searchsorted(within, share / 100 * histogram.total))
    return min(float(histogram.edges()[min(place, len(within) - 1)]), histogram.largest)


def entropy(histogram: Histogram) -> float:
    """So that the distribution of codes tells most about that of the numbers (least Kullback-Leibler divergence).

    The method of TensorRT's entropy calibration (Migacz, 8-bit inference with TensorRT, GTC 2017): what is cut off is
    counted in the last bin of the reference, and the codes' counts are spread over the bins that they stand for.
    """
    used = _used(histogram)
    if used <= _LEVELS:
        return histogram.largest
    counts = histogram.counts[:used].astype(np.float64)
    candidates = _candidates(used)
    divergences = [_divergence(counts, length) for length in candidates]
    best = candidates[int(np.argmin(divergences))]
    return min(float(best * histogram.width), histogram.largest)


def mse(histogram: Histogram) -> float:
    """So that the mean squared error is least: of rounding (a twelfth of the squared step), and of cutting off."""
    used = _used(histogram)
    if used == 0:
        return 0.0
    counts = histogram.counts[:used].astype(np.float64)
    middles = (np.arange(used) + 0.5) * histogram.width
    # Of numbers beyond a bin: how many, their sum and the sum of their squares.
    many, first, second = (np.cumsum((counts * middles**power)[::-1])[::-1] for power in (0, 1, 2))
    many, first, second = (np.append(sums, 0.0) for sums in (many, first, second))
    best, least = histogram.largest, np.inf
    for length in _candidates(used):
        clip = min(length * histogram.width, histogram.largest)
        within = counts.sum() - many[length]
        error = within * (clip / (_LEVELS - 1)) ** 2 / 12
        error += max(second[length] - 2 * clip * first[length] + clip**2 * many[length], 0.0)
        if error < least:
            best, least = clip, error
    return float(best)


METHODS: Mapping[Method, Callable[[Histogram], float]] = MappingProxyType(
    {"min-max": min_max, "percentile": percentile, "entropy": entropy, "mse": mse}
)


def candidates(histogram: Histogram) -> dict[str, float]:
    """The ranges that the methods come to, those that are alike left out; min-max comes first."""
    found = {"min-max": min_max(histogram)}
    found |= {f"percentile {share:g}": percentile(histogram, share) for share in PERCENTILES}
    found |= {"entropy": entropy(histogram), "mse": mse(histogram)}
    kept: dict[str, float] = {}
    for name, clip in found.items():
        if clip > 0 and all(abs(clip - other) > 0.02 * other for other in kept.values()):
            kept[name] = clip
    return kept or {"min-max": histogram.largest}


def _used(histogram: Histogram) -> int:
    """How many bins there are up to the largest magnitude."""
    there = np.flatnonzero(histogram.counts)
    return int(there[-1]) + 1 if len(there) else 0


def _candidates(used: int) -> list[int]:
    """Numbers of bins to try, the whole range among them."""
    low = min(_LEVELS, used)
    return sorted({round(n) for n in np.linspace(low, used, _STEPS)})


def _divergence(counts: NDArray[np.float64], length: int) -> float:
    reference = counts[:length].copy()
    there = reference > 0
    reference[-1] += counts[length:].sum()
    # Bins of each code: as even as whole numbers allow.
    starts = np.arange(_LEVELS) * length // _LEVELS
    sums = np.add.reduceat(counts[:length], starts)
    occupied = np.add.reduceat(there.astype(np.float64), starts)
    spread = np.divide(sums, occupied, out=np.zeros_like(sums), where=occupied > 0)
    codes = np.repeat(spread, np.diff(np.append(starts, length))) * there
    total = codes.sum()
    if total <= 0:
        return float("inf")
    p, q = reference / reference.sum(), codes / total
    both = (p > 0) & (q > 0)
    lost = float(p[(p > 0) & (q <= 0)].sum())
    if lost > 0:  # the reference's last bin holds numbers that no code stands for
        q = np.where((p > 0) & (q <= 0), 1e-12, q)
        both = p > 0
    return float((p[both] * np.log(p[both] / q[both])).sum())
