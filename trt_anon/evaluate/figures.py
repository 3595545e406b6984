"""From what was measured to the figures that are reported: per class, size, category, group; curves; targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.evaluate.groups import Groups
from trt_anon.evaluate.settings import SIZE_RANGES, EvaluateConfig
from trt_anon.evaluate.tally import Measured
from trt_anon.metrics.curves import Curve, ap_coco, ap_voc, ap_voc11, count_at, curve
from trt_anon.metrics.intervals import TargetResult, clopper_pearson, threshold_for

Mask = NDArray[np.bool_]


def subset(
    measured: Measured,
    threshold: float,
    grow: float,
    settings: EvaluateConfig,
    objects: Mask | None = None,
    detections: Mask | None = None,
) -> dict[str, Any]:
    """Figures of some objects (N,) and detections (D,) at one threshold and growth; None takes all.

    Without `detections` but with `objects` there is no precision: wrong detections belong to no category or group.
    """
    chosen = measured.counted if objects is None else measured.counted & objects
    total = int(chosen.sum())
    found = int((measured.reach[chosen] >= np.float32(threshold)).sum())
    figures: dict[str, Any] = {
        "objects": total,
        "found": found,
        "recall": found / total if total else None,
        "recall_interval": clopper_pearson(found, total, settings.confidence) if total else None,
    }
    if objects is None or detections is not None:
        these = np.ones(len(measured.scores), np.bool_) if detections is None else detections
        counts = count_at(measured.scores[these], measured.verdicts[these], total, threshold)
        figures |= {"wrong": counts.false, "precision": counts.precision, "f1": counts.f1}
    figures["cover"] = {
        f"{needed:g}": _cover(reach, threshold, settings.confidence)
        for needed, reach in zip(settings.covers, measured.cover_reach[grow][chosen].T, strict=True)
    }
    return figures


def _cover(reach: NDArray[np.float64], threshold: float, confidence: float) -> dict[str, Any]:
    total, covered = len(reach), int((reach >= np.float32(threshold)).sum())
    if not total:
        return {"covered": None, "exposed": None, "exposed_interval": None}
    return {
        "covered": covered / total,
        "exposed": 1 - covered / total,
        "exposed_interval": clopper_pearson(total - covered, total, confidence),
    }


def redacted(measured: Measured, threshold: float, grow: float) -> dict[str, float]:
    """Shares of the pixels redacted, at one of the thresholds measured."""
    place = int(np.argmin(np.abs(measured.thresholds - threshold)))
    return {
        "of_all_pixels": float(measured.redacted[grow][place]),
        "mean_over_images": float(measured.redacted_mean[grow][place]),
    }


def class_curve(measured: Measured, class_id: int) -> Curve:
    """Precision and recall of one class."""
    mine = measured.found_class_ids == class_id
    objects = int((measured.counted & (measured.class_ids == class_id)).sum())
    return curve(measured.scores[mine], measured.verdicts[mine], objects)


def average_precision(points: Curve) -> dict[str, float | None]:
    """Average precision by three conventions."""
    return {"coco": ap_coco(points), "voc": ap_voc(points), "voc_11_point": ap_voc11(points)}


def by_class(
    measured: Measured, names: Sequence[str], threshold: float, grow: float, settings: EvaluateConfig
) -> dict[str, Any]:
    """Figures for each class, with its average precision."""
    return {
        name: subset(
            measured,
            threshold,
            grow,
            settings,
            measured.class_ids == class_id,
            measured.found_class_ids == class_id,
        )
        | {"average_precision": average_precision(class_curve(measured, class_id))}
        for class_id, name in enumerate(names)
    }


def by_category(
    measured: Measured, names: Sequence[str], threshold: float, grow: float, settings: EvaluateConfig
) -> dict[str, Any]:
    """Figures for each of the labels' own names."""
    return {
        name: subset(measured, threshold, grow, settings, measured.category_ids == number)
        for number, name in enumerate(names)
    }


def by_size(measured: Measured, threshold: float, grow: float, settings: EvaluateConfig) -> dict[str, Any]:
    """Figures for each range of sizes; a right detection is of its object's size, a wrong one of its own."""
    return {
        name: subset(
            measured,
            threshold,
            grow,
            settings,
            (measured.sizes_px >= low) & (measured.sizes_px < high),
            (measured.found_sizes_px >= low) & (measured.found_sizes_px < high),
        )
        for name, (low, high) in SIZE_RANGES.items()
    }


def by_group(
    measured: Measured, groups: Groups, threshold: float, grow: float, settings: EvaluateConfig
) -> dict[str, Any]:
    """For each column the figures of its groups, and the largest gaps between two of them."""
    result: dict[str, Any] = {}
    for column, values in groups.columns.items():
        of = np.array(["" if value is None else value for value in values])
        figures = {
            name: subset(measured, threshold, grow, settings, of == name) for name in sorted({*of.tolist()} - {""})
        }
        there = {name: one for name, one in figures.items() if one["objects"]}
        needed = f"{settings.covers[0]:g}"
        result[column] = {
            "groups": there,
            "without_group": int((measured.counted & (of == "")).sum()),
            "recall_gap": _gap({name: one["recall"] for name, one in there.items()}, there, "recall_interval"),
            "exposed_gap": _gap(
                {name: one["cover"][needed]["exposed"] for name, one in there.items()},
                {name: one["cover"][needed] for name, one in there.items()},
                "exposed_interval",
            ),
        }
    return result


def _gap(shares: Mapping[str, float], figures: Mapping[str, Any], interval: str) -> dict[str, Any] | None:
    """The largest difference between two groups, and whether their intervals are apart."""
    if len(shares) < 2:
        return None
    low, high = min(shares, key=lambda name: shares[name]), max(shares, key=lambda name: shares[name])
    apart = [
        (a, b)
        for a, b in combinations(shares, 2)
        if figures[a][interval][1] < figures[b][interval][0] or figures[b][interval][1] < figures[a][interval][0]
    ]
    return {
        "gap": shares[high] - shares[low],
        "lowest": low,
        "highest": high,
        "intervals_apart": (low, high) in apart or (high, low) in apart,
    }


def curves(measured: Measured, settings: EvaluateConfig) -> dict[str, Any]:
    """Figures over all thresholds measured, and over growths."""
    total = int(measured.counted.sum())
    counts = [count_at(measured.scores, measured.verdicts, total, t) for t in measured.thresholds]
    reach = {grow: array[measured.counted] for grow, array in measured.cover_reach.items()}
    limits = measured.thresholds.astype(np.float32)
    return {
        "threshold": measured.thresholds.tolist(),
        "precision": [one.precision for one in counts],
        "recall": [one.recall for one in counts],
        "f1": [one.f1 for one in counts],
        "by_growth": {
            f"{grow:g}": {
                "exposed": {
                    f"{needed:g}": [float((column < t).mean()) if total else None for t in limits]
                    for needed, column in zip(settings.covers, array.T, strict=True)
                },
                "redacted": measured.redacted[grow].tolist(),
            }
            for grow, array in reach.items()
        },
    }


def best_f1(measured: Measured) -> dict[str, float] | None:
    """The threshold at which F1 is highest, among those measured."""
    total = int(measured.counted.sum())
    values = [count_at(measured.scores, measured.verdicts, total, t).f1 or 0.0 for t in measured.thresholds]
    place = int(np.argmax(values))
    return {"threshold": float(measured.thresholds[place]), "f1": values[place]} if total else None


def target(measured: Measured, names: Sequence[str], grow: float, settings: EvaluateConfig) -> dict[str, Any] | None:
    """The highest threshold that keeps the promise asked for, in every class; None where none was asked for."""
    wanted = settings.target_recall if settings.target_cover is None else settings.target_cover
    if wanted is None:
        return None
    reach = measured.reach if settings.target_cover is None else measured.cover_reach[grow][:, 0]
    results: dict[str, TargetResult] = {}
    for class_id, name in enumerate(names):
        chosen = measured.counted & (measured.class_ids == class_id) & (measured.heights_px >= settings.min_height_px)
        results[name] = threshold_for(reach[chosen], wanted, floor=settings.floor, confidence=settings.confidence)
    return {
        "of": "recall" if settings.target_cover is None else f"cover {settings.covers[0]:g}",
        "target": wanted,
        "confidence": settings.confidence,
        "min_height_px": settings.min_height_px,
        "met": all(one.met for one in results.values()),
        "threshold": min(one.threshold for one in results.values()),
        "per_class": {name: asdict(one) for name, one in results.items()},
    }
