"""What an evaluation measures, and how."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trt_anon.config import StageConfig
from trt_anon.evaluate.corrupt import CORRUPTIONS

Share = Annotated[float, Field(gt=0, lt=1)]

SIZE_EDGES_PX = (0.0, 16.0, 32.0, 64.0, float("inf"))


class EvaluateConfig(StageConfig):
    """Everything that shapes an evaluation, but for the detector and the redaction.

    iou: the overlap from which a detection finds an object. floor: the lowest threshold that is measured; detection
    runs once at it, and all higher thresholds follow from that. grows: growths of the region that are compared; that of
    the redaction is added. covers: the shares of an object that count as covered; the first is the one that
    `target_cover` and plots use. size_by: an object's size is its box's height, or the square root of the box's area.
    target_recall, target_cover: the share of objects of each class that must be found, or covered, with `confidence`
    (one-sided); min_height_px: lower objects are left out of the target. corruptions, severities: see `corrupt`.
    timing_images: how many images are timed; 0 is none.
    """

    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    floor: Share = 0.05
    grows: tuple[Annotated[float, Field(ge=1, le=4)], ...] = (1.0, 1.15, 1.3, 1.5)
    covers: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.75, 0.9, 0.99)
    size_by: Literal["height", "sqrt-area"] = "height"
    confidence: Share = 0.95
    target_recall: Share | None = None
    target_cover: Share | None = None
    min_height_px: Annotated[float, Field(ge=0)] = 0.0
    corruptions: tuple[str, ...] = ()
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (1, 3, 5)
    seed: Annotated[int, Field(ge=0)] = 0
    timing_images: Annotated[int, Field(ge=0, le=10000)] = 64

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.corruptions if name not in CORRUPTIONS]
        if unknown:
            raise ValueError(f"unknown corruption {unknown[0]!r}; known are {', '.join(CORRUPTIONS)}")
        if self.target_recall is not None and self.target_cover is not None:
            raise ValueError("a target is a recall or a cover, not both")
        return self


def size_name(low: float, high: float) -> str:
    """A size range as people write it."""
    if low == 0:
        return f"<{high:g}"
    return f"{low:g}+" if high == float("inf") else f"{low:g}-{high:g}"


SIZE_RANGES = {size_name(a, b): (a, b) for a, b in pairwise(SIZE_EDGES_PX)}
"""Names and bounds [low, high) of the sizes, in pixels, that results are told apart by."""
