"""What one pass over all images leaves behind: for each object from which threshold down it is found and covered.

That is enough for every threshold at or above the one that detection ran at: a detection is kept or dropped by greedy
suppression, matched or not, whatever comes with a lower score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import RedactConfig
from trt_anon.evaluate.dataset import LabelledImage
from trt_anon.evaluate.settings import EvaluateConfig
from trt_anon.geometry import turn_upright
from trt_anon.metrics.coco import CocoImage
from trt_anon.metrics.matching import match
from trt_anon.metrics.privacy import reach_of_cover
from trt_anon.redact.region import Block, covered_rect, expand_mask, grow_regions, region_mask, regions_to_stored
from trt_anon.types import Detections, Orientation


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a redaction's masks depend on besides the regions: the stored size, its turning, the size of a block."""

    width_px: int
    height_px: int
    orientation: Orientation = Orientation.NORMAL
    block: Block = (1, 1)

    @property
    def upright_size_px(self) -> tuple[int, int]:
        """(width, height) as a viewer shows it."""
        size = (self.width_px, self.height_px)
        return size[::-1] if self.orientation.swaps_axes else size


def redaction_levels(canvas: Canvas, found: Detections, redact: RedactConfig) -> NDArray[np.float32]:
    """For each pixel of the upright picture (H, W) the highest threshold at which it is redacted, -inf where never.

    The masks are those that `redact.frame.Redactor` draws.
    """
    names = [found.class_names[n] for n in found.class_ids.tolist()]
    regions = regions_to_stored(
        grow_regions(
            found.boxes_xyxy_px,
            grow=[redact.growth_of(name) for name in names],
            shape=[redact.shape_of(name) for name in names],
            contours_px=found.contours_px,
        ),
        canvas.width_px,
        canvas.height_px,
        canvas.orientation,
    )
    levels = np.full((canvas.height_px, canvas.width_px), -np.inf, np.float32)
    for place in np.argsort(found.scores, kind="stable").tolist():  # higher scores are drawn over lower ones
        region = regions[place]
        rect = covered_rect(region, canvas.width_px, canvas.height_px, canvas.block)
        if rect is not None:
            mask = expand_mask(region_mask(region, rect, canvas.block), rect, canvas.block)
            levels[rect.y0 : rect.y1, rect.x0 : rect.x1][mask] = found.scores[place]
    upright: NDArray[np.float32] = turn_upright(levels, canvas.orientation).astype(np.float32, copy=False)
    return upright


def sizes_px(boxes_xyxy_px: NDArray[np.floating], size_by: str) -> NDArray[np.float64]:
    """Sizes (N,) of boxes (N, 4): heights, or square roots of areas."""
    boxes = np.asarray(boxes_xyxy_px, np.float64)
    width, height = np.maximum(boxes[:, 2] - boxes[:, 0], 0), np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return height if size_by == "height" else np.sqrt(width * height)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """All images together.

    Of the objects (N), in the labels' order: class_ids, category_ids, sizes_px, heights_px; counted: neither ignored
    nor a crowd nor out of sight; reach: the highest threshold at which each is found, -inf for never; cover_reach: by
    growth, (N, covers) the highest threshold at which each is covered so far.
    Of the detections (D): scores, found_class_ids, verdicts (see `metrics.matching`), found_sizes_px: the size of the
    object that a right one found, its own otherwise.
    thresholds: (T,) ascending; redacted: by growth, (T,) the share of all pixels redacted at each; redacted_mean: the
    mean over images of each one's share.
    """

    class_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    sizes_px: NDArray[np.float64]
    heights_px: NDArray[np.float64]
    counted: NDArray[np.bool_]
    reach: NDArray[np.float64]
    cover_reach: Mapping[float, NDArray[np.float64]]
    scores: NDArray[np.float64]
    found_class_ids: NDArray[np.int64]
    verdicts: NDArray[np.int8]
    found_sizes_px: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    redacted: Mapping[float, NDArray[np.float64]]
    redacted_mean: Mapping[float, NDArray[np.float64]]
    coco_images: tuple[CocoImage, ...]
    ignored: int
    images: int

    def __repr__(self) -> str:
        return f"Measured({len(self.reach)} objects, {len(self.scores)} boxes)"


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One image's share of `Measured`."""

    image: LabelledImage
    found: Detections
    sizes_px: NDArray[np.float64]
    counted: NDArray[np.bool_]
    reach: NDArray[np.float64]
    verdicts: NDArray[np.int8]
    found_sizes_px: NDArray[np.float64]


class Tally:
    """Adds up images; `done` gives the whole."""

    def __init__(
        self,
        classes: int,
        redact: RedactConfig,
        settings: EvaluateConfig,
        thresholds: Sequence[float],
        grows: Sequence[float] | None = None,
    ) -> None:
        """`thresholds`: ascending, where redacted pixels are counted. `grows`: None takes the settings'."""
        chosen = settings.grows if grows is None else grows
        compared = {grow: redact.model_copy(update={"grow": grow}) for grow in chosen}
        self._redacts = dict(sorted({**compared, redact.growth: redact}.items()))  # its own may differ by class
        self._classes = classes
        self._settings = settings
        self._thresholds = np.array(thresholds, np.float64)
        self._parts: list[_Part] = []
        self._cover: dict[float, list[NDArray[np.float64]]] = {grow: [] for grow in self._redacts}
        self._pixels = {grow: np.zeros(len(thresholds), np.int64) for grow in self._redacts}
        self._shares = {grow: np.zeros(len(thresholds)) for grow in self._redacts}
        self._total = 0
        self._coco: list[CocoImage] = []

    def add(self, image: LabelledImage, found: Detections, canvas: Canvas) -> None:
        """One image; its boxes and detections are in upright pixels."""
        boxes = image.boxes_xyxy_px
        width, height = canvas.upright_size_px
        seen = np.clip(boxes, 0, (width, height, width, height))
        counted = ~image.ignore & (seen[:, 2] > seen[:, 0]) & (seen[:, 3] > seen[:, 1])
        sizes, own_sizes = (
            sizes_px(boxes, self._settings.size_by),
            sizes_px(found.boxes_xyxy_px, self._settings.size_by),
        )
        reach = np.full(len(boxes), -np.inf)
        verdicts, found_sizes = np.zeros(len(found), np.int8), own_sizes.copy()
        for class_id in range(self._classes):
            mine, theirs = np.flatnonzero(found.class_ids == class_id), np.flatnonzero(image.class_ids == class_id)
            matches = match(
                found.boxes_xyxy_px[mine],
                found.scores[mine],
                boxes[theirs],
                ~counted[theirs],
                image.crowd[theirs],
                self._settings.iou,
            )
            reach[theirs], verdicts[mine] = matches.reach, matches.verdicts
            right = matches.objects >= 0
            found_sizes[mine[right]] = sizes[theirs[matches.objects[right]]]
        self._parts.append(_Part(image, found, sizes, counted, reach, verdicts, found_sizes))
        for grow, redact in self._redacts.items():
            levels = redaction_levels(canvas, found, redact)
            self._cover[grow].append(reach_of_cover(boxes, levels, self._settings.covers))
            pixels = self._redacted(levels)
            self._pixels[grow] += pixels
            self._shares[grow] += pixels / levels.size
        self._total += width * height
        self._coco.append(
            CocoImage(
                boxes,
                image.class_ids,
                ~counted,
                image.crowd,
                sizes,
                found.boxes_xyxy_px.astype(np.float64),
                found.scores.astype(np.float64),
                found.class_ids.astype(np.int64),
                own_sizes,
            )
        )

    def _redacted(self, levels: NDArray[np.float32]) -> NDArray[np.int64]:
        """How many pixels each threshold redacts."""
        # As decoding does, in float32.
        passed = np.searchsorted(self._thresholds.astype(np.float32), levels[np.isfinite(levels)], side="right")
        counts = np.bincount(passed, minlength=len(self._thresholds) + 1)
        return np.asarray(counts[::-1].cumsum()[::-1][1:], np.int64)

    def done(self) -> Measured:
        """The whole. Raises ValueError where no image was added."""
        if not self._coco:
            raise ValueError("no image was measured")
        parts = self._parts
        counted = np.concatenate([p.counted for p in parts])
        return Measured(
            class_ids=np.concatenate([p.image.class_ids for p in parts]),
            category_ids=np.concatenate([p.image.category_ids for p in parts]),
            sizes_px=np.concatenate([p.sizes_px for p in parts]),
            heights_px=np.concatenate([sizes_px(p.image.boxes_xyxy_px, "height") for p in parts]),
            counted=counted,
            reach=np.concatenate([p.reach for p in parts]),
            cover_reach={grow: np.concatenate(reaches) for grow, reaches in self._cover.items()},
            scores=np.concatenate([p.found.scores for p in parts]).astype(np.float64),
            found_class_ids=np.concatenate([p.found.class_ids for p in parts]).astype(np.int64),
            verdicts=np.concatenate([p.verdicts for p in parts]),
            found_sizes_px=np.concatenate([p.found_sizes_px for p in parts]),
            thresholds=self._thresholds,
            redacted={grow: pixels / self._total for grow, pixels in self._pixels.items()},
            redacted_mean={grow: shares / len(self._coco) for grow, shares in self._shares.items()},
            coco_images=tuple(self._coco),
            ignored=int((~counted).sum()),
            images=len(self._coco),
        )
