"""Precision and recall over all thresholds, and the averages of precision that VOC and COCO define."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.metrics.matching import IGNORED, TRUE


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall after each detection that counts, best score first: all (K,) float64.

    objects: how many there are to find. Recall is NaN where there are none.
    """

    scores: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    objects: int

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall at each point, (K,); 0 where both are."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """Right, wrong and missed at one threshold. A share of nothing is None."""

    true: int
    false: int
    missed: int

    @property
    def objects(self) -> int:
        """How many there were to find."""
        return self.true + self.missed

    @property
    def precision(self) -> float | None:
        """Share of the detections that are right."""
        found = self.true + self.false
        return self.true / found if found else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are found."""
        return self.true / self.objects if self.objects else None

    @property
    def f1(self) -> float | None:
        """2 true / (2 true + false + missed)."""
        total = 2 * self.true + self.false + self.missed
        return 2 * self.true / total if total else None


def count_at(scores: NDArray[np.floating], verdicts: NDArray[np.int8], objects: int, threshold: float) -> Counts:
    """Counts of the detections with score >= threshold. scores, verdicts: (D,); objects: how many there are to find."""
    taken = verdicts[scores >= np.float32(threshold)]
    true = int((taken == TRUE).sum())
    return Counts(true, int((taken != IGNORED).sum()) - true, objects - true)


def curve(scores: NDArray[np.floating], verdicts: NDArray[np.int8], objects: int) -> Curve:
    """The curve of detections (D,) of all images; of equal scores the earlier comes first, as in COCO."""
    counted = verdicts != IGNORED
    ranked = np.asarray(scores[counted], np.float64)
    order = np.argsort(-ranked, kind="stable")
    right = np.cumsum(verdicts[counted][order] == TRUE, dtype=np.float64)
    recall = right / objects if objects else np.full(len(right), np.nan)
    return Curve(ranked[order], right / np.arange(1, len(right) + 1), recall, objects)


def _envelope(points: Curve) -> NDArray[np.float64]:
    """The best precision at this recall or any higher one."""
    return np.maximum.accumulate(points.precision[::-1])[::-1]


def _sampled(points: Curve, recalls: NDArray[np.float64]) -> float | None:
    if not points.objects:
        return None
    best = np.append(_envelope(points), 0.0)
    return float(best[np.searchsorted(points.recall, recalls, side="left")].mean())


def ap_coco(points: Curve) -> float | None:
    """Mean over 101 recalls 0, 0.01 ... 1 of the best precision from there on; None where there is nothing to find."""
    return _sampled(points, np.linspace(0, 1, 101))


def ap_voc11(points: Curve) -> float | None:
    """Pascal VOC until 2009: as `ap_coco`, over 11 recalls 0, 0.1 ... 1."""
    return _sampled(points, np.linspace(0, 1, 11))


def ap_voc(points: Curve) -> float | None:
    """Pascal VOC from 2010: the area under the best precision from each recall on."""
    if not points.objects:
        return None
    steps = np.diff(points.recall, prepend=0.0)
    return float((steps * _envelope(points)).sum())
