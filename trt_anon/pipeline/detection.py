"""From a frame to its detections: preprocessing, inference, decoding and suppression of one or several detectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from trt_anon.config import AnonymizeConfig, PresetName, RuntimeConfig, Scale
from trt_anon.detect.base import Candidates, Family
from trt_anon.detect.families import get_family
from trt_anon.detect.outputs import check_no_nan
from trt_anon.errors import ModelMissing, UsageError
from trt_anon.media import MediaInfo
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.postprocess.nms import Pass
from trt_anon.postprocess.weak import combine_with_weak
from trt_anon.postprocess.weighted import MergeRule, combine
from trt_anon.preprocess.ground import as_seen
from trt_anon.preprocess.letterbox_cpu import Scalers, letterbox_cpu
from trt_anon.preprocess.views import View, plan_views
from trt_anon.runtime.base import Pending, Runner
from trt_anon.runtime.select import open_runner
from trt_anon.types import Detections, Frame, Orientation

Opener = Callable[[Path, RuntimeConfig], Runner]


class Detector:
    """One recipe, loaded: submits a frame's passes and decodes them."""

    def __init__(
        self,
        family: Family,
        runner: Runner,
        scales: Sequence[Scale],
        class_map: Sequence[int | None],
        threshold: float,
        *,
        flip: bool = False,
        weak_threshold: float | None = None,
    ) -> None:
        """`class_map`: for each class of the model the id that detections shall carry, None to leave it out.

        scales, flip: the views in which it looks at a frame, see `preprocess.views`. weak_threshold: the score from
        which a detection can continue a track; None is half of the threshold.
        """
        self._family = family
        self._runner = runner
        self._scales = tuple(scales)
        self._flip = flip
        self._class_map = np.array([-1 if c is None else c for c in class_map], np.int32)
        self._threshold = threshold
        self._weak_threshold = min(threshold, weak_threshold or threshold / 2)
        self._input_name = runner.inputs[0].name
        self._local = threading.local()
        self._views: dict[tuple[int, int, Orientation, Fraction], tuple[View, ...]] = {}

    @property
    def threshold(self) -> float:
        """The least score of a candidate."""
        return self._threshold

    def finds(self, class_id: int) -> bool:
        """Whether its detections may be of that class."""
        return class_id in self._class_map

    def prepare(self, info: MediaInfo) -> None:
        """Get the runtime ready for the many frames of a video."""
        views = self.views_for(info.width_px, info.height_px, info.orientation, info.sample_aspect_ratio)
        for size in dict.fromkeys(view.plan.target_hw_px for view in views):
            self._runner.prepare({self._input_name: (1, *size, 3)})

    def submit(self, frame: Frame) -> list[tuple[View, Pending]]:
        """Prepare the frame once per view and start its inferences."""
        scalers = self._scalers()
        submitted = []
        for view in self.views_for(frame.width_px, frame.height_px, frame.orientation, frame.pixel_aspect):
            picture = letterbox_cpu(view.of(frame), view.plan, self._family.input_spec, scalers=scalers)
            submitted.append((view, self._runner.submit({self._input_name: picture[np.newaxis]})))
        return submitted

    def collect(self, view: View, pending: Pending, *, weak: bool = False) -> Pass:
        """Wait for one pass; its boxes in upright pixels, its classes as detections number them.

        weak: from the weak threshold on, else from the threshold.
        Raises ModelError where an output holds NaN anywhere, or something not finite where it counts (`Family.decode`).
        """
        outputs = pending.result()
        check_no_nan(self._family.name, outputs)
        threshold = self._weak_threshold if weak else self._threshold
        (found,) = self._family.decode(outputs, view.plan.target_hw_px, threshold)
        class_ids = self._class_map[found.class_ids]
        wanted = class_ids >= 0
        if not wanted.all():
            marks = None if found.landmarks is None else found.landmarks[wanted]
            outlines = found.contours and tuple(c for c, keep in zip(found.contours, wanted, strict=True) if keep)
            found = Candidates(
                found.boxes_xyxy[wanted], found.scores[wanted], class_ids[wanted], marks, outlines, found.distinct
            )
            class_ids = found.class_ids
        boxes = view.boxes_to_upright_px(found.boxes_xyxy)
        return Pass(
            boxes_xyxy_px=boxes,
            scores=found.scores,
            class_ids=class_ids,
            landmarks_px=None if found.landmarks is None else view.landmarks_to_upright_px(found.landmarks),
            contours_px=found.contours and tuple(view.points_to_upright_px(c) for c in found.contours),
            distinct=found.distinct,
            cut=view.cut(boxes),
        )

    def close(self) -> None:
        """Free the model."""
        self._runner.close()

    def _scalers(self) -> Scalers:
        # A scaler serves one thread at a time.
        scalers: Scalers | None = getattr(self._local, "scalers", None)
        if scalers is None:
            scalers = self._local.scalers = Scalers()
        return scalers

    def views_for(
        self, width_px: int, height_px: int, orientation: Orientation, pixel_aspect: Fraction
    ) -> tuple[View, ...]:
        """The views of stored pictures of that size."""
        key = (width_px, height_px, orientation, pixel_aspect)
        views = self._views.get(key)
        if views is None:
            views = plan_views(*key, self._scales, self._family.input_spec, flip=self._flip)
            if len(self._views) > 256:  # a folder of pictures of many sizes
                self._views.clear()
            self._views[key] = views
        return views


@dataclass(frozen=True, slots=True)
class PendingDetections:
    """A frame whose inferences are under way."""

    _detector: FrameDetector
    _passes: tuple[tuple[Detector, View, Pending], ...]

    def result(self) -> Detections:
        """Wait for all passes of all detectors and merge them."""
        detector = self._detector
        passes = [d.collect(view, pending) for d, view, pending in self._passes]
        return combine(passes, detector.class_names, detector.rules)

    def result_with_weak(self) -> tuple[Detections, Detections]:
        """Wait; gives what `result` does, and what scores less but enough to continue a track."""
        detector = self._detector
        passes = [(d.collect(view, pending, weak=True), d.threshold) for d, view, pending in self._passes]
        return combine_with_weak(passes, detector.class_names, detector.rules)


def least_thresholds(detectors: Sequence[Detector], classes: int) -> tuple[float, ...]:
    """For each class the least threshold of the detectors that find it."""
    return tuple(min((d.threshold for d in detectors if d.finds(number)), default=1.0) for number in range(classes))


class FrameDetector:
    """All detectors of a configuration as one; thread safe."""

    complete = False

    def __init__(
        self, detectors: Sequence[Detector], class_names: Sequence[str], rules: float | Sequence[MergeRule]
    ) -> None:
        """`rules`: how boxes of one object become one, for each class; a number: suppression at that overlap."""
        self._detectors = tuple(detectors)
        self.class_names = tuple(class_names)
        if isinstance(rules, float | int):
            rules = [MergeRule(rules)] * len(self.class_names)
        self.rules = tuple(rules)

    @classmethod
    def load(
        cls,
        config: AnonymizeConfig,
        registry: Registry,
        recipes: Sequence[Recipe] | None = None,
        *,
        opener: Opener | None = None,
    ) -> FrameDetector:
        """Load what the configuration asks for, or these recipes instead of those that it names.

        opener: opens a prepared model file, in place of `open_runner`; it may put something between model and detector.
        Raises UsageError for a class that no detector finds, ModelMissing, HashMismatch, ModelError, DeviceMissing.
        """
        recipes = recipes or choose_recipes(config, registry)
        detectors: list[Detector] = []
        try:
            for recipe in recipes:
                detector = _load(recipe, config, registry, opener or open_runner)
                detectors.append(detector)
        except BaseException:
            for detector in detectors:
                detector.close()
            raise
        return cls(detectors, config.detect.classes, [merge_rule(name, recipes) for name in config.detect.classes])

    @property
    def thresholds(self) -> tuple[float, ...]:
        """For each class the least threshold of the detectors that find it."""
        return least_thresholds(self._detectors, len(self.class_names))

    def for_source(self, source: Path) -> FrameDetector:
        """Itself: it looks at the frames, whatever file they are of."""
        return self

    def prepare(self, info: MediaInfo) -> None:
        """Get ready for the frames of a video; before its first frame, so that all of them are treated alike."""
        for detector in self._detectors:
            detector.prepare(info)

    def submit(self, frame: Frame) -> PendingDetections:
        """Start on a frame; blocks while the runtimes are busy. The frame's planes are no longer needed afterwards."""
        seen = as_seen(frame)
        passes = [(d, view, pending) for d in self._detectors for one in seen for view, pending in d.submit(one)]
        return PendingDetections(self, tuple(passes))

    def close(self) -> None:
        """Free all models."""
        for detector in self._detectors:
            detector.close()


def choose_recipes(config: AnonymizeConfig, registry: Registry, scales: Sequence[Scale] = ()) -> list[Recipe]:
    """The recipes for the classes asked for: those named, or the default of each class; as they are used.

    Beside a default look those that its preset names and whose files are here.

    scales: replace the recipes' own.
    """
    wanted = config.detect.classes
    if config.detect.detectors:
        recipes = [registry.get(name) for name in dict.fromkeys(config.detect.detectors)]
    else:
        recipes = []
        for name in wanted:
            default = [r for r in registry.recipes() if r.is_default(name, config.detect.preset)]
            if not default:
                raise UsageError(f"no default detector finds {name!r}; name one with --detector")
            default += [r for recipe in default for r in _beside(recipe, config.detect.preset, registry)]
            recipes += [recipe for recipe in default if recipe not in recipes]
    for name in wanted:
        if not any(name in recipe.classes for recipe in recipes):
            names = ", ".join(recipe.name for recipe in recipes)
            raise UsageError(f"none of the detectors chosen ({names}) finds {name!r}")
    recipes = [recipe.under(config.detect.preset) for recipe in recipes]
    if scales:
        recipes = [recipe.model_copy(update={"scales": tuple(scales)}) for recipe in recipes]
    return [recipe.looking(config.detect) for recipe in recipes]


def _beside(recipe: Recipe, preset: PresetName, registry: Registry) -> list[Recipe]:
    named = recipe.presets[preset].beside if preset in recipe.presets else ()
    others = [registry.get(name) for name in named if name in registry.names()]
    return [other for other in others if registry.state(other) == "ready"]


def merge_rule(class_name: str, recipes: Sequence[Recipe]) -> MergeRule:
    """The rule of the detectors that find a class; where they differ, suppression, at the smallest overlap."""
    its = [recipe for recipe in recipes if class_name in recipe.classes] or recipes
    weighted = all(recipe.fusion == "weighted" for recipe in its)
    return MergeRule(min(recipe.nms_iou for recipe in its), "weighted" if weighted else "nms")


def with_growth(config: AnonymizeConfig, recipes: Sequence[Recipe]) -> AnonymizeConfig:
    """The configuration with the growth that each class needs: of the recipes that find it, the largest."""
    by_class = {name: [recipe.grow for recipe in recipes if name in recipe.classes] for name in config.detect.classes}
    learned = tuple((name, max(grows)) for name, grows in by_class.items() if grows)
    return config.model_copy(update={"redact": config.redact.model_copy(update={"learned_growth": learned})})


def _load(recipe: Recipe, config: AnonymizeConfig, registry: Registry, opener: Opener) -> Detector:
    overrides = recipe.input.given() if recipe.input else None
    family = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
    wanted = config.detect.classes
    try:
        path = registry.prepared(recipe, family.input_spec)
    except ModelMissing as error:
        if config.detect.detectors or "license_plate" not in recipe.classes:
            raise
        raise ModelMissing(f"{error}; or look for faces alone: --detect faces") from error
    runner = opener(path, config.runtime)
    class_map = [wanted.index(name) if name in wanted else None for name in recipe.classes]
    threshold = config.detect.threshold or recipe.threshold
    weak = config.track.weak_threshold
    return Detector(family, runner, recipe.scales, class_map, threshold, flip=recipe.flip, weak_threshold=weak)
