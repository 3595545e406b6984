"""What is redacted in each frame of one file, and how: detections by class, regions by hand, and what stays visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import AnonymizeConfig, RedactConfig
from trt_anon.redact.frame import Redactor
from trt_anon.redact.region import grow_regions, regions_to_stored
from trt_anon.redact.steady import steady_cells
from trt_anon.regions.schema import ManualRegion, Treatment
from trt_anon.regions.timeline import Placed, Timeline
from trt_anon.types import Detections, Frame, Region

KEEP_SHARE = 0.5
"""A detection stays visible where at least this share of its box lies in a region to keep."""

_METHODS = ("gaussian", "pixelate", "solid")


@dataclass(frozen=True, slots=True)
class Layer:
    """Regions of one frame that are redacted alike, in stored pixels."""

    config: RedactConfig
    regions: tuple[Region, ...]


def stored_regions(frame: Frame, detections: Detections, config: RedactConfig) -> list[Region]:
    """The regions that hide these detections in a frame, in its stored pixels."""
    growths = [config.growth_of(name) for name in detections.class_names]
    shapes = [config.shape_of(name) for name in detections.class_names]
    classes = detections.class_ids.tolist()
    upright = grow_regions(
        detections.boxes_xyxy_px,
        grow=[growths[n] for n in classes],
        shape=[shapes[n] for n in classes],
        contours_px=detections.contours_px,
    )
    stored = regions_to_stored(upright, frame.width_px, frame.height_px, frame.orientation)
    return [_over_both_fields(region) for region in stored] if frame.interlaced else stored


def _over_both_fields(region: Region) -> Region:
    """The region two rows taller on both sides: there lies the chroma of the other field's rows, where it is halved."""
    if region.points_px:  # a polygon grows by its margin, the same all around
        return replace(
            region,
            x0_px=region.x0_px - 2,
            y0_px=region.y0_px - 2,
            x1_px=region.x1_px + 2,
            y1_px=region.y1_px + 2,
            margin_px=region.margin_px + 2,
        )
    return replace(region, y0_px=region.y0_px - 2, y1_px=region.y1_px + 2)


def _hidden(frame: Frame) -> list[Region]:
    """What no player shows of the stored picture."""
    if frame.hidden_margins_px is None:
        return []
    left, top, right, bottom = frame.hidden_margins_px
    width, height = frame.width_px, frame.height_px
    sides = [(0, 0, left, height), (0, 0, width, top), (width - right, 0, width, height)]
    sides.append((0, height - bottom, width, height))
    return [Region(x0, y0, x1, y1, "box") for x0, y0, x1, y1 in sides if x1 > x0 and y1 > y0]


class Redaction:
    """The redaction of one file's frames; thread safe.

    Where nothing is said by class or by hand, a frame has one layer, as the configuration says. With several, each is
    redacted after the other, so that where they overlap the stronger lies over the weaker: Gaussian, pixelate, solid,
    and the larger strength of two alike.
    """

    def __init__(
        self, config: AnonymizeConfig, source: str | Path | None = None, *, shown_seconds: float = 0.0
    ) -> None:
        """source: the input's path, which regions by hand may ask for; None leaves them out (frames of a caller).

        shown_seconds: how long a frame is shown, 0 for images.
        """
        self._base = config.redact
        self._treatments = {str(name): treatment for name, treatment in config.regions.treatments.items()}
        self._timeline = None if source is None else Timeline(config.regions, source)
        self._shown_seconds = shown_seconds
        self._redactors = {config.redact: Redactor(config.redact)}

    def layers(self, frame: Frame, detections: Detections) -> tuple[Layer, ...]:
        """What has to be redacted in a frame, the weakest first; without regions, nothing.

        What the file tells players not to show of its pictures is black always.
        """
        placed: Sequence[Placed] = ()
        if self._timeline:
            size = frame.upright_size_px
            placed = self._timeline.at(frame.index, frame.pts_seconds, self._shown_seconds, *size)
        size_px = (frame.width_px, frame.height_px)
        layers: dict[RedactConfig, list[Region]] = {}
        for class_id, name in enumerate(detections.class_names):
            chosen = self._chosen(detections, class_id, name, placed)
            if not chosen.any():
                continue
            config = _treated(self._base, self._treatments.get(name))
            regions = stored_regions(frame, _only(detections, chosen), config)
            if config.method == "pixelate" and frame.pts is not None:
                form = frame.pixel_format
                regions = steady_cells(regions, config.detail_share, (1 << form.log2_chroma_w, 1 << form.log2_chroma_h))
            layers.setdefault(config, []).extend(regions)
        for by_hand in placed:
            if by_hand.region.action == "redact":
                config = _treated(self._base, by_hand.region.redact)
                drawn = regions_to_stored(by_hand.shapes, *size_px, frame.orientation)
                layers.setdefault(config, []).extend(drawn)
        if hidden := _hidden(frame):  # and the output does not say that it is hidden
            layers.setdefault(self._base.model_copy(update={"method": "solid"}), []).extend(hidden)
        return tuple(Layer(config, tuple(layers[config])) for config in sorted(layers, key=force))

    def apply(self, frame: Frame, detections: Detections) -> None:
        """Redact a frame in place. Raises ValueError for boxes that are not finite."""
        for layer in self.layers(frame, detections):
            self.redactor(layer.config).redact(frame, layer.regions)

    def redact_whole(self, frame: Frame) -> None:
        """Fill the whole frame with black."""
        self.redactor(self._base).redact_whole(frame)

    def redactor(self, config: RedactConfig) -> Redactor:
        """What redacts a layer."""
        found = self._redactors.get(config)
        if found is None:
            found = self._redactors.setdefault(config, Redactor(config))
        return found

    def _chosen(self, detections: Detections, class_id: int, name: str, placed: Sequence[Placed]) -> NDArray[np.bool_]:
        """Which detections of a class are redacted."""
        chosen: NDArray[np.bool_] = detections.class_ids == class_id
        treatment = self._treatments.get(name)
        if treatment is not None and chosen.any():
            sides = np.ptp(detections.boxes_xyxy_px.reshape(-1, 2, 2).astype(np.float64), axis=1).max(axis=1)
            chosen &= np.array([treatment.admits(float(side)) for side in sides], np.bool_)
        for by_hand in placed:
            if by_hand.region.action != "redact" and (not by_hand.region.classes or name in by_hand.region.classes):
                for n in np.flatnonzero(chosen):
                    chosen[n] = not _left_alone(detections.boxes_xyxy_px[n].tolist(), by_hand)
        return chosen


def _only(detections: Detections, chosen: NDArray[np.bool_]) -> Detections:
    """The chosen ones; without landmarks, which are not redacted."""
    if chosen.all():
        return detections
    outlines = detections.contours_px
    return Detections(
        detections.boxes_xyxy_px[chosen],
        detections.scores[chosen],
        detections.class_ids[chosen],
        detections.class_names,
        contours_px=None if outlines is None else tuple(outlines[n] for n in np.flatnonzero(chosen)),
    )


def redactions_of(config: AnonymizeConfig) -> tuple[RedactConfig, ...]:
    """Every way of redacting that a configuration may use, the general one first."""
    rules = config.regions
    special = [*rules.treatments.values(), *(region.redact for region in rules.regions if region.action == "redact")]
    return tuple(dict.fromkeys([config.redact, *(_treated(config.redact, each) for each in special)]))


def _treated(base: RedactConfig, treatment: Treatment | None) -> RedactConfig:
    if treatment is None:
        return base
    update = treatment.model_dump(include={"method", "strength", "shape", "grow"}, exclude_none=True)
    return base.model_copy(update=update) if update else base


def force(config: RedactConfig) -> tuple[int, float]:
    """What sorts configurations by how much they destroy, the weakest first."""
    return _METHODS.index(config.method), config.detail_share


def _left_alone(box: Sequence[float], by_hand: Placed) -> bool:
    """Whether a region to keep or ignore holds this detection; one that is not finite is in none."""
    if not np.isfinite(box).all():
        return False
    return any(_holds(by_hand.region, shape, box) for shape in by_hand.shapes)


_GRID = 16  # points a side by which the share of a box in a shape is told


def _holds(region: ManualRegion, shape: Region, box: Sequence[float]) -> bool:
    x0, y0, x1, y1 = box
    if region.action == "ignore":
        return bool(inside(shape, np.array([[(x0 + x1) / 2, (y0 + y1) / 2]]))[0])
    steps = (np.arange(_GRID) + 0.5) / _GRID
    across, down = np.meshgrid(x0 + (x1 - x0) * steps, y0 + (y1 - y0) * steps)
    share = inside(shape, np.stack((across.ravel(), down.ravel()), axis=1)).mean()
    return bool(share >= KEEP_SHARE)


def inside(shape: Region, points_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (N, 2) lie in a box, an ellipse or a polygon (the nonzero rule)."""
    x, y = points_px[:, 0], points_px[:, 1]
    if shape.shape == "polygon":
        return _winds_around(np.array(shape.points_px, np.float64), x, y)
    if shape.shape == "ellipse":
        half_x, half_y = (shape.x1_px - shape.x0_px) / 2, (shape.y1_px - shape.y0_px) / 2
        ellipse: NDArray[np.bool_] = ((x - shape.x0_px) / half_x - 1) ** 2 + ((y - shape.y0_px) / half_y - 1) ** 2 <= 1
        return ellipse
    box: NDArray[np.bool_] = (x >= shape.x0_px) & (x <= shape.x1_px) & (y >= shape.y0_px) & (y <= shape.y1_px)
    return box


def _winds_around(corners: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    ahead = np.roll(corners, -1, axis=0)
    turns = np.zeros(len(x), np.int64)
    for (ax, ay), (bx, by) in zip(corners, ahead, strict=True):
        left = (bx - ax) * (y - ay) - (x - ax) * (by - ay)
        turns += ((ay <= y) & (by > y) & (left > 0)).astype(np.int64)
        turns -= ((ay > y) & (by <= y) & (left < 0)).astype(np.int64)
    around: NDArray[np.bool_] = turns != 0
    return around
