"""The evaluation itself: detect once per picture at a low threshold, and derive everything else from that."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trt_anon._optional import require
from trt_anon.config import AnonymizeConfig, Scale
from trt_anon.errors import UsageError
from trt_anon.evaluate import figures
from trt_anon.evaluate.dataset import LabelledImage, LabelSet
from trt_anon.evaluate.groups import Groups
from trt_anon.evaluate.pictures import canvas_of, canvas_without_frame, corrupted, load_frame, upright_labels
from trt_anon.evaluate.settings import SIZE_RANGES, EvaluateConfig
from trt_anon.evaluate.speed import measure_speed
from trt_anon.evaluate.tally import Measured, Tally
from trt_anon.job.publish import atomic_output
from trt_anon.machine import inspect_machine
from trt_anon.metrics.coco import MAX_DETECTIONS, coco_numbers
from trt_anon.metrics.curves import Curve
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.pipeline.detection import FrameDetector, PendingDetections, choose_recipes, with_growth
from trt_anon.types import Detections, Frame

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many images are, and how many there are."""

_AHEAD = 4  # pictures whose inferences are under way while others are measured


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured: `figures` as plain values for JSON, without a box or a file name in it; `precision_recall` by
    class; `recipes`: the detectors as they were used.
    """

    figures: dict[str, Any]
    precision_recall: dict[str, Curve]
    recipes: tuple[Recipe, ...] = ()

    def to_json(self) -> str:
        """The figures as JSON text."""
        return json.dumps(self.figures, indent=2, allow_nan=False) + "\n"

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the figures to a file that appears complete or not at all. Raises OutputError."""
        with atomic_output(Path(path), overwrite=overwrite) as partial:
            partial.write_text(self.to_json(), encoding="ascii")


def evaluate(
    labels: LabelSet,
    config: AnonymizeConfig | None = None,
    settings: EvaluateConfig | None = None,
    *,
    registry: Registry | None = None,
    scales: Sequence[Scale] | None = None,
    detections: Sequence[Detections] | None = None,
    groups: Groups | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure a detector, or given detections, against labels.

    config: as for an `Anonymizer`: classes (those of the labels), detectors, threshold, grow, shape, device. scales:
    replace the recipes' own. detections: one per labelled image, in its upright pixels, instead of running a detector;
    without a threshold in `config` all down to the settings' floor count. Raises UsageError where the detectors have
    different thresholds of their own and `config` gives none, InputError for images that cannot be read or are not
    those that the labels say, and what `FrameDetector.load` raises.
    """
    config, settings = config or AnonymizeConfig(), settings or EvaluateConfig()
    for module in ("scipy.stats", "pycocotools.cocoeval"):
        require(module, "an evaluation")  # before an hour of detection, not after it
    if labels.class_names != config.detect.classes:
        raise UsageError(f"labels are of {labels.class_names}, but the detector looks for {config.detect.classes}")
    if groups is not None:
        _check_groups(labels, groups)
    if detections is not None:
        return _of_detections(labels, config, settings, detections, groups)
    registry = registry or Registry()
    recipes = choose_recipes(config, registry, scales or ())
    config = with_growth(config, recipes)
    threshold = operating_threshold(config, recipes)
    settings = settings.model_copy(update={"floor": min(settings.floor, threshold)})
    run = _Run(labels, config, settings, threshold, on_progress or _nobody)
    low = config.model_copy(update={"detect": config.detect.model_copy(update={"threshold": settings.floor})})
    detector = FrameDetector.load(low, registry, recipes)
    try:
        measured = run.measure(detector)
        robustness = run.robustness(detector, measured)
    finally:
        detector.close()
    speed = None
    if settings.timing_images:
        own = config.model_copy(update={"detect": config.detect.model_copy(update={"threshold": threshold})})
        detector = FrameDetector.load(own, registry, recipes)
        try:
            speed = measure_speed(labels.images, detector, settings.timing_images)
        finally:
            detector.close()
    described = [_described(recipe) for recipe in recipes]
    return _report(labels, config, settings, threshold, measured, groups, described, speed, robustness, tuple(recipes))


def operating_threshold(config: AnonymizeConfig, recipes: Sequence[Recipe]) -> float:
    """The threshold that the figures are for. Raises UsageError where the detectors' own ones differ."""
    if config.detect.threshold is not None:
        return config.detect.threshold
    own = {recipe.threshold for recipe in recipes}
    if len(own) > 1:
        each = ", ".join(f"{recipe.name} {recipe.threshold:g}" for recipe in recipes)
        raise UsageError(f"these detectors have different thresholds ({each}); give one for all with --threshold")
    return own.pop()


def grid(floor: float, threshold: float) -> list[float]:
    """The thresholds that curves have: hundredths from the floor, and the one in use."""
    hundredths = [n / 100 for n in range(math.ceil(floor * 100), 100)]
    return sorted({floor, threshold, *hundredths})


class _Run:
    """One detector over one set of labels, several times."""

    def __init__(
        self,
        labels: LabelSet,
        config: AnonymizeConfig,
        settings: EvaluateConfig,
        threshold: float,
        on_progress: OnProgress,
    ) -> None:
        self._labels = labels
        self._config = config
        self._settings = settings
        self._threshold = threshold
        self._tell = on_progress

    def measure(self, detector: FrameDetector, corruption: tuple[str, int] | None = None) -> Measured:
        """All images once, corrupted or not."""
        tally = Tally(
            len(self._labels.class_names),
            self._config.redact,
            self._settings,
            grid(self._settings.floor, self._threshold),
            None if corruption is None else (),
        )
        title = "images" if corruption is None else f"{corruption[0]}, severity {corruption[1]}"
        total = len(self._labels.images)
        waiting: deque[tuple[LabelledImage, Frame, PendingDetections]] = deque()
        self._tell(title, 0, total)
        done = 0
        for image, frame in self._frames(corruption):
            waiting.append((image, frame, detector.submit(frame)))
            if len(waiting) > _AHEAD:
                _tally(tally, *waiting.popleft())
                done += 1
                self._tell(title, done, total)
        while waiting:
            _tally(tally, *waiting.popleft())
            done += 1
            self._tell(title, done, total)
        return tally.done()

    def _frames(self, corruption: tuple[str, int] | None) -> Iterator[tuple[LabelledImage, Frame]]:
        for labelled in self._labels.images:
            frame = load_frame(labelled.path)
            image = upright_labels(labelled, frame)
            if corruption is not None:
                frame = corrupted(frame, image, *corruption, self._settings.seed)
            yield image, frame

    def robustness(self, detector: FrameDetector, clean: Measured) -> list[dict[str, Any]] | None:
        """Figures for each corruption and severity, and for none (severity 0)."""
        if not self._settings.corruptions:
            return None
        results = [{"corruption": "none", "severity": 0, **self._summary(clean)}]
        for name in dict.fromkeys(self._settings.corruptions):
            for severity in sorted(set(self._settings.severities)):
                summary = self._summary(self.measure(detector, (name, severity)))
                results.append({"corruption": name, "severity": severity, **summary})
        return results

    def _summary(self, measured: Measured) -> dict[str, Any]:
        grow = self._config.redact.growth
        every = figures.subset(measured, self._threshold, grow, self._settings)
        aps = [
            figures.average_precision(figures.class_curve(measured, k))["coco"]
            for k in range(len(self._labels.class_names))
        ]
        there = [ap for ap in aps if ap is not None]
        return {
            **{key: every[key] for key in ("recall", "recall_interval", "precision", "f1")},
            "average_precision": float(np.mean(there)) if there else None,
            "exposed": {needed: one["exposed"] for needed, one in every["cover"].items()},
            "redacted": figures.redacted(measured, self._threshold, grow)["of_all_pixels"],
        }


def _tally(tally: Tally, image: LabelledImage, frame: Frame, pending: PendingDetections) -> None:
    tally.add(image, pending.result(), canvas_of(frame))


def _of_detections(
    labels: LabelSet,
    config: AnonymizeConfig,
    settings: EvaluateConfig,
    detections: Sequence[Detections],
    groups: Groups | None,
) -> Evaluation:
    if len(detections) != len(labels.images):
        raise UsageError(f"{len(labels.images)} labelled images but detections for {len(detections)}")
    if settings.corruptions:
        raise UsageError("corrupted pictures have to be detected anew; given detections cannot tell")
    threshold = config.detect.threshold or settings.floor
    settings = settings.model_copy(update={"floor": min(settings.floor, threshold)})
    tally = Tally(len(labels.class_names), config.redact, settings, grid(settings.floor, threshold))
    for image, found in zip(labels.images, detections, strict=True):
        if found.class_names != labels.class_names:
            raise UsageError(f"detections are of {found.class_names}, labels of {labels.class_names}")
        tally.add(image, found, canvas_without_frame(image))
    return _report(labels, config, settings, threshold, tally.done(), groups, [], None, None, ())


def _report(
    labels: LabelSet,
    config: AnonymizeConfig,
    settings: EvaluateConfig,
    threshold: float,
    measured: Measured,
    groups: Groups | None,
    detectors: list[dict[str, Any]],
    speed: dict[str, Any] | None,
    robustness: list[dict[str, Any]] | None,
    recipes: tuple[Recipe, ...],
) -> Evaluation:
    grow, names = config.redact.growth, labels.class_names
    report = {
        "labels": {
            "images": measured.images,
            "objects": int(measured.counted.sum()),
            "ignored": measured.ignored,
            "classes": list(names),
            "left_out": dict(labels.left_out),
        },
        "settings": {
            "detectors": detectors,
            "threshold": threshold,
            "floor": settings.floor,
            "iou": settings.iou,
            "shape": {name: config.redact.shape_of(name) for name in names},
            "grow": grow,
            "size_by": settings.size_by,
            "confidence": settings.confidence,
            "seed": settings.seed,
        },
        "all": figures.subset(measured, threshold, grow, settings),
        "redacted": figures.redacted(measured, threshold, grow),
        "coco": coco_numbers(measured.coco_images, names, SIZE_RANGES) | {"max_detections": MAX_DETECTIONS},
        "best_f1": figures.best_f1(measured),
        "per_class": figures.by_class(measured, names, threshold, grow, settings),
        "per_category": figures.by_category(measured, labels.category_names, threshold, grow, settings),
        "per_size": figures.by_size(measured, threshold, grow, settings),
        "per_group": None if groups is None else figures.by_group(measured, groups, threshold, grow, settings),
        "target": figures.target(measured, names, grow, settings),
        "speed": speed,
        "robustness": robustness,
        "curves": figures.curves(measured, settings),
        "machine": inspect_machine().to_dict() if speed else None,
    }
    curves = {name: figures.class_curve(measured, k) for k, name in enumerate(names)}
    return Evaluation(report, curves, recipes)


def _described(recipe: Recipe) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "family": recipe.family,
        "sha256": recipe.sha256,
        "threshold": recipe.threshold,
        "nms_iou": recipe.nms_iou,
        "fusion": recipe.fusion,
        "flip": recipe.flip,
        "scales": [scale.model_dump(exclude_defaults=True) for scale in recipe.scales],
    }


def _check_groups(labels: LabelSet, groups: Groups) -> None:
    objects = sum(len(image.boxes_xyxy_px) for image in labels.images)
    for column, values in groups.columns.items():
        if len(values) != objects:
            raise UsageError(f"group column {column!r} has {len(values)} values for {objects} objects")


def _nobody(title: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""
