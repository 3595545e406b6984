"""What a network finds of labelled objects, and whether another form of it finds enough of them."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.calibrate.settings import CalibrateConfig
from trt_anon.config import RuntimeConfig
from trt_anon.detect.base import Family
from trt_anon.evaluate.dataset import LabelledImage, LabelSet
from trt_anon.evaluate.pictures import load_frame, upright_labels
from trt_anon.evaluate.settings import SIZE_RANGES
from trt_anon.evaluate.tally import sizes_px
from trt_anon.metrics.matching import FALSE, match
from trt_anon.models.recipe import Recipe
from trt_anon.pipeline.detection import Detector, FrameDetector, PendingDetections, merge_rule
from trt_anon.runtime.select import open_runner
from trt_anon.types import Detections

if TYPE_CHECKING:
    import onnx

_AHEAD = 4

STEADY = (0.7, 0.84, 1.0, 1.19, 1.41)
"""Thresholds, as shares of a detector's own, about which a network has to keep its recall on average.

At a single one, the objects that just pass and those that just do not decide, and on a few hundred they are chance.
"""

MARGIN = 0.5
"""How much of what may be lost is lost by the choice of layers: the pictures that choose are a sample of all others."""

OnPicture = Callable[[int, int], None]
"""Called with how many pictures are done, and how many there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Recall:
    """Of every object that counts the score by which it was found (N,), -inf by none, and its height in pixels (N,).

    wrong: how many boxes are of no object, in how many `images`. threshold: the detector's.
    """

    reach: NDArray[np.float64]
    heights_px: NDArray[np.float64]
    wrong: int
    images: int
    threshold: float

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) which objects are found at the threshold."""
        return self.reach >= self.threshold

    def steady(self, low_px: float = 0.0, high_px: float = float("inf")) -> float:
        """How many objects of these heights are found on average at the thresholds `STEADY`."""
        these = (self.heights_px >= low_px) & (self.heights_px < high_px)
        return float(np.mean([(self.reach[these] >= share * self.threshold).sum() for share in STEADY]))

    def share(self, low_px: float = 0.0, high_px: float = float("inf")) -> tuple[int, int]:
        """How many were found, and how many there are, of the objects of these heights."""
        these = (self.heights_px >= low_px) & (self.heights_px < high_px)
        return int(self.found[these].sum()), int(these.sum())


@dataclass(frozen=True, slots=True)
class Drop:
    """Of one range of sizes: how many objects there are, how many were found before and after, and how many points of
    recall that lost; `most`: how many may be.
    """

    name: str
    objects: int
    before: float
    after: float
    most: float

    @property
    def points(self) -> float:
        """Lost recall in hundredths; less than 0 where more was found."""
        return 100 * (self.before - self.after) / self.objects if self.objects else 0.0

    @property
    def fails(self) -> bool:
        """Whether too much was lost; of a single object nobody can tell."""
        return self.before - self.after > 1 and self.points > self.most

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        share = {
            name: count / self.objects if self.objects else None
            for name, count in (("recall_before", self.before), ("recall_after", self.after))
        }
        return {
            "size_px": self.name, "objects": self.objects, **share, "points_lost": self.points,
            "points_allowed": self.most, "fails": self.fails,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a network keeps the recall of another, overall and in each range of sizes.

    steady: the same on average of the thresholds `STEADY`.
    """

    drops: tuple[Drop, ...]
    wrong_before: int
    wrong_after: int
    steady: tuple[Drop, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing lost too much."""
        return not any(drop.fails for drop in self.drops)

    @property
    def holds_steadily(self) -> bool:
        """Whether nothing lost more than `MARGIN` of what it may at several thresholds: what layers are chosen by."""
        return self.holds and not any(replace(drop, most=MARGIN * drop.most).fails for drop in self.steady)

    @property
    def overall(self) -> Drop:
        """Of all objects."""
        return self.drops[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "holds": self.holds,
            "drops": [drop.to_dict() for drop in self.drops],
            "boxes_on_nothing": {"before": self.wrong_before, "after": self.wrong_after},
        }


def compare(before: Recall, after: Recall, config: CalibrateConfig) -> Verdict:
    """Hold a network's recall against that of the float32 one, on the same objects."""
    drops, steady = [], []
    ranges = {"all": (0.0, float("inf")), **SIZE_RANGES}
    for name, (low, high) in ranges.items():
        had, objects = before.share(low, high)
        has, _ = after.share(low, high)
        most = config.max_recall_drop if name == "all" else config.max_bucket_drop
        if objects:
            drops.append(Drop(name, objects, had, has, most))
            steady.append(Drop(name, objects, before.steady(low, high), after.steady(low, high), most))
    return Verdict(tuple(drops), before.wrong, after.wrong, tuple(steady))


class RecallMeter:
    """Measures networks of one recipe on one set of labels, with the pipeline's own preprocessing and decoding."""

    def __init__(self, recipe: Recipe, family: Family, labels: LabelSet, runtime: RuntimeConfig, iou: float) -> None:
        self._recipe, self._family, self._labels = recipe, family, labels
        self._runtime, self._iou = runtime, iou

    @property
    def labels(self) -> LabelSet:
        """What is measured on."""
        return self._labels

    def measure(self, model: onnx.ModelProto, on_picture: OnPicture | None = None) -> Recall:
        """Detect on every picture with this form of the network. Raises InputError, ModelError."""
        reach, heights, wrong, threshold = [], [], 0, self._recipe.threshold
        for image, detections in self._detections(model, min(STEADY) * threshold, on_picture):
            counted, reached, misses = self._matched(image, detections)
            reach.append(reached[counted])
            heights.append(sizes_px(image.boxes_xyxy_px, "height")[counted])
            wrong += misses
        reaches, all_heights = (np.concatenate([np.zeros(0), *parts]) for parts in (reach, heights))
        return Recall(reaches, all_heights, wrong, len(reach), threshold)

    def pseudo_labels(self, model: onnx.ModelProto, confident: float, on_picture: OnPicture | None = None) -> LabelSet:
        """Labels of the same pictures: what this network finds with at least this score."""
        threshold = max(confident, self._recipe.threshold)
        images = [
            replace(
                image,
                size_px=None,
                boxes_xyxy_px=found.boxes_xyxy_px.astype(np.float64),
                class_ids=found.class_ids.astype(np.int64),
                category_ids=found.class_ids.astype(np.int64),
                ignore=np.zeros(len(found), np.bool_),
                crowd=np.zeros(len(found), np.bool_),
                keys=np.full(len(found), -1, np.int64),
            )
            for image, found in self._detections(model, threshold, on_picture)
        ]
        return replace(self._labels, images=tuple(images), category_names=self._labels.class_names)

    def _matched(self, image: LabelledImage, found: Detections) -> tuple[NDArray[np.bool_], NDArray[np.float64], int]:
        """Which objects count, by which scores they were found, and how many detections are of none."""
        reached = np.full(len(image.boxes_xyxy_px), -np.inf)
        wrong = 0
        for class_id in range(len(self._labels.class_names)):
            mine, theirs = found.class_ids == class_id, np.flatnonzero(image.class_ids == class_id)
            matches = match(
                found.boxes_xyxy_px[mine],
                found.scores[mine],
                image.boxes_xyxy_px[theirs],
                image.ignore[theirs],
                image.crowd[theirs],
                self._iou,
            )
            reached[theirs] = matches.reach
            counts = found.scores[mine] >= self._recipe.threshold
            wrong += int((counts & (matches.verdicts == FALSE)).sum())
        return ~image.ignore, reached, wrong

    def _detections(
        self, model: onnx.ModelProto, threshold: float, on_picture: OnPicture | None
    ) -> Sequence[tuple[LabelledImage, Detections]]:
        names = self._labels.class_names
        class_map = [names.index(name) if name in names else None for name in self._recipe.classes]
        results: list[tuple[LabelledImage, Detections]] = []
        waiting: deque[tuple[LabelledImage, PendingDetections]] = deque()

        def take() -> None:
            image, pending = waiting.popleft()
            results.append((image, pending.result()))
            if on_picture is not None:
                on_picture(len(results), len(self._labels.images))

        with tempfile.TemporaryDirectory(prefix="trt-anon-recall-") as folder:
            path = Path(folder) / f"{self._recipe.name}.onnx"
            path.write_bytes(model.SerializeToString(deterministic=True))
            runner = open_runner(path, self._runtime)
            recipe = self._recipe
            one = Detector(self._family, runner, recipe.scales, class_map, threshold, flip=recipe.flip)
            detector = FrameDetector([one], names, [merge_rule(name, [recipe]) for name in names])
            try:
                for labelled in self._labels.images:
                    frame = load_frame(labelled.path)
                    waiting.append((upright_labels(labelled, frame), detector.submit(frame)))
                    if len(waiting) > _AHEAD:
                        take()
                while waiting:
                    take()
            finally:
                detector.close()
        return results
