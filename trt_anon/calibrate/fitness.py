"""Whether pictures are fit to calibrate with: ranges taken from unfit ones cost recall that nobody notices.

Each check gives the reason in words. Whether the preprocessing is right is asked of the float32 detector itself: where
it is clearly surer in pictures with red and blue swapped, brighter, upside down or negative than in the pictures as
they are, these are not what the recipe says. A detector that hardly cares for colours cannot tell their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trt_anon.calibrate.settings import FEWEST_PICTURES
from trt_anon.detect.base import Family
from trt_anon.errors import UsageError
from trt_anon.runtime.base import Runner, Tensor

Picture = NDArray[np.uint8]

SMOOTH = 0.5
"""Least median correlation of neighbouring pixels: photographs have 0.9 and more, noise has none."""

_LEAST_SPREAD = 4.0  # codes; the standard deviation of a picture that shows anything
_FLAT_SHARE = 0.5
_SURE = 0.005  # one-sided, that the variant is not better by chance
_BETTER = 1.03
_CONFIDENT = 0.3

VARIANTS: Mapping[str, tuple[Callable[[Picture], Picture], str]] = {
    "swapped": (
        lambda p: np.ascontiguousarray(p[..., ::-1]),
        "with red and blue swapped; the pictures, or the recipe's channels, are in the other order",
    ),
    "upside down": (lambda p: np.ascontiguousarray(p[:, ::-1]), "upside down; the pictures are turned"),
    "negative": (lambda p: 255 - p, "as negatives; the pictures are inverted"),
    "brighter": (
        lambda p: np.minimum(p.astype(np.uint16) * 4, 255).astype(np.uint8),
        "made four times brighter; the pictures are scaled otherwise than the recipe says",
    ),
}


def check_number(hashes: Sequence[str]) -> None:
    """Raise UsageError for too few different pictures."""
    different = len(set(hashes))
    if different < FEWEST_PICTURES:
        same = f" ({len(hashes)} files, {len(hashes) - different} of them copies)" if different < len(hashes) else ""
        raise UsageError(
            f"unfit to calibrate with: {different} different pictures{same}; ranges need at least {FEWEST_PICTURES}, "
            "better 128, like those that the detector will see"
        )


def check_pictures(pictures: Sequence[Picture]) -> None:
    """Raise UsageError where most pictures (1, H, W, 3) show nothing, or noise."""
    codes = [picture[0].astype(np.float64) for picture in pictures]
    dark = [one for one in codes if one.max() <= 1]
    if len(dark) > _FLAT_SHARE * len(codes):
        raise UsageError(
            f"unfit to calibrate with: {len(dark)} of {len(codes)} pictures have no code above 1; values from 0 to 1 "
            "were stored as codes from 0 to 255"
        )
    flat = [one for one in codes if one.std() < _LEAST_SPREAD]
    if len(flat) > _FLAT_SHARE * len(codes):
        raise UsageError(f"unfit to calibrate with: {len(flat)} of {len(codes)} pictures are of one colour all over")
    smoothness = float(np.median([_smoothness(one) for one in codes]))
    if smoothness < SMOOTH:
        raise UsageError(
            f"unfit to calibrate with: the pictures are noise (neighbouring pixels correlate by {smoothness:.2f}, in "
            f"photographs by 0.9 and more)"
        )


def check_preprocessing(
    feeds: Sequence[Mapping[str, Tensor]], runner: Runner, family: Family, threshold: float
) -> None:
    """Raise UsageError where the detector finds nothing, or clearly more in changed pictures than as they are."""
    name = runner.inputs[0].name
    level = max(threshold, _CONFIDENT)

    def confidence(picture: Picture) -> float:
        (found,) = family.decode(runner.run({name: picture}), picture.shape[1:3], threshold)
        return float(found.scores[found.scores >= level].sum())

    own = np.array([confidence(feed[name]) for feed in feeds])
    better = {}
    for change, words in VARIANTS.values():
        other = np.array([confidence(change(feed[name])) for feed in feeds])
        wins, losses = int((other > own * _BETTER).sum()), int((own > other * _BETTER).sum())
        if other.sum() > _BETTER * own.sum() and _by_chance(wins, losses) < _SURE:
            better[float(other.sum())] = (
                f"unfit to calibrate with: the detector is surer of what it finds (in {wins} of {len(feeds)} pictures, "
                f"less sure in {losses}) {words}"
            )
    if better:
        raise UsageError(better[max(better)])
    if not own.any():
        raise UsageError(
            f"unfit to calibrate with: the detector finds nothing in any of {len(feeds)} pictures; they show nothing "
            "of what it looks for, or are prepared otherwise than the recipe says"
        )


def _smoothness(picture: NDArray[np.float64]) -> float:
    """The correlation of pixels with their right-hand neighbours, of the brightness."""
    gray = picture.mean(axis=2)
    left, right = gray[:, :-1].ravel(), gray[:, 1:].ravel()
    spread = left.std() * right.std()
    return float(((left - left.mean()) * (right - right.mean())).mean() / spread) if spread > 0 else 1.0


def _by_chance(wins: int, losses: int) -> float:
    """How likely so many wins are if wins and losses are (sign test)."""
    total = wins + losses
    return sum(math.comb(total, k) for k in range(wins, total + 1)) / 2**total if total else 1.0
