"""What a share measured on a sample says about the whole: exact intervals, and thresholds that keep a promise.

Objects count as independent trials. Faces of one picture are not quite that, so intervals are somewhat too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require


def clopper_pearson(found: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided interval of a share of which `found` of `total` were seen; (0, 1) where total is 0.

    Clopper and Pearson, Biometrika 26 (1934), by quantiles of the beta distribution. Raises ValueError for impossible
    numbers, PackageMissing without SciPy.
    """
    _check(found, total, confidence)
    tail = (1 - confidence) / 2
    return _lower(found, total, tail), 1 - _lower(total - found, total, tail)


def lower_bound(found: int, total: int, confidence: float = 0.95) -> float:
    """The exact one-sided lower bound: the share is at least this with that confidence; 0 where total is 0."""
    _check(found, total, confidence)
    return _lower(found, total, 1 - confidence)


def _lower(found: int, total: int, tail: float) -> float:
    if found == 0:
        return 0.0
    beta = require("scipy.stats", "an exact interval").beta
    return float(beta.ppf(tail, found, total - found + 1))


def _check(found: int, total: int, confidence: float) -> None:
    if not 0 <= found <= total:
        raise ValueError(f"found {found} of {total} is impossible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")


@dataclass(frozen=True, slots=True)
class TargetResult:
    """Whether a share of objects can be reached, and by which threshold.

    met: whether the lower bound at `threshold` is at least `target`. threshold: the highest that does, or the lowest
    that was measured where none does. found, total, share, bound: at that threshold. possible_bound: the bound if every
    object were found; below the target, there are too few objects to prove it.
    """

    target: float
    confidence: float
    met: bool
    threshold: float
    found: int
    total: int
    share: float
    bound: float
    possible_bound: float


def threshold_for(
    reach: NDArray[np.floating], target: float, *, floor: float, confidence: float = 0.95
) -> TargetResult:
    """The highest threshold at which a share of at least `target` is found, with that confidence.

    reach: (N,) the highest threshold at which each object is still found, -inf for one that never is. floor: the lowest
    threshold measured; a `reach` below it counts as never. The threshold is rounded down to four decimals where that
    stays above the floor. Since the share only falls as the threshold rises, this is fixed-sequence testing from the
    floor upward, and searching does not weaken the confidence.
    """
    if not 0 < target < 1:
        raise ValueError(f"a target lies between 0 and 1, got {target}")
    reached = np.sort(np.asarray(reach, np.float64)[np.asarray(reach) >= np.float32(floor)])[::-1]
    total = len(reach)
    possible = lower_bound(total, total, confidence)
    # The bound grows with the number found: bisect for the smallest number that is enough.
    low, high = 0, len(reached) + 1
    while low < high:
        middle = (low + high) // 2
        enough = middle > len(reached) or lower_bound(middle, total, confidence) >= target
        low, high = (low, middle) if enough else (middle + 1, high)
    met = total > 0 and low <= len(reached)
    threshold = floor
    if met:
        exact = float(min(reached[low - 1], 1.0))
        threshold = max(floor, np.floor(exact * 1e4) / 1e4)
    found = int((reached >= np.float32(threshold)).sum())
    share = found / total if total else 0.0
    return TargetResult(
        target, confidence, met, float(threshold), found, total, share, lower_bound(found, total, confidence), possible
    )
