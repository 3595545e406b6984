"""What a regions file may say: areas by hand on a timeline, and how each class is treated."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_REGIONS = 10_000
"""A file with more regions is refused: no person drew them, and every frame looks at each."""

MAX_CORNERS = 65_536
"""A polygon may have this many corners; the outline of a mask has many."""

MAX_KEYFRAMES = 100_000
"""A region may have this many keyframes: one for each frame of an hour."""

Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
Corner = tuple[Coordinate, Coordinate]
Time = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Action = Literal["redact", "keep", "ignore"]
Method = Literal["gaussian", "pixelate", "solid"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def labelled(label: str) -> dict[str, str]:
    """Name and action of a region that another tool labelled: `keep` and `ignore` are actions, all else is redacted."""
    return {"name": label[:200], "action": label.lower() if label.lower() in ("keep", "ignore") else "redact"}


class Outline(_Model):
    """A shape: exactly one of a box, an ellipse in a box (both x0, y0, x1, y1) and polygons.

    polygons: each its corners (x, y); a mask is given as the polygons around its parts.
    """

    box: Box | None = None
    ellipse: Box | None = None
    polygon: Annotated[tuple[Corner, ...], Field(min_length=3, max_length=MAX_CORNERS)] | None = None
    polygons: (
        Annotated[
            tuple[Annotated[tuple[Corner, ...], Field(min_length=3, max_length=MAX_CORNERS)], ...],
            Field(min_length=1, max_length=1024),
        ]
        | None
    ) = None

    @model_validator(mode="after")
    def _one_shape(self) -> Self:
        given = [name for name in ("box", "ellipse", "polygon", "polygons") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one shape, not {' and '.join(given)}")
        corners = self.box or self.ellipse
        if corners and (corners[2] <= corners[0] or corners[3] <= corners[1]):
            raise ValueError("a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1")
        return self

    @property
    def given(self) -> bool:
        """Whether there is a shape."""
        return any(v is not None for v in (self.box, self.ellipse, self.polygon, self.polygons))

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two outlines must have in common to lie at the ends of a movement."""
        if self.box:
            return ("box",)
        if self.ellipse:
            return ("ellipse",)
        return ("polygons", *(len(polygon) for polygon in self.outlines))

    @property
    def outlines(self) -> tuple[tuple[Corner, ...], ...]:
        """The polygons; none for a box or an ellipse."""
        return self.polygons or ((self.polygon,) if self.polygon else ())


class Keyframe(Outline):
    """Where a region is at a time; between two it moves in a straight line, after an `outside` one it is away.

    hold: it stays as it is until the next keyframe, instead of moving there.
    """

    at: Time
    outside: bool = False
    hold: bool = False

    @model_validator(mode="after")
    def _shape_or_outside(self) -> Self:
        if self.outside == self.given:
            raise ValueError('a keyframe has a shape, or "outside": true')
        return self


class Treatment(_Model):
    """How something is redacted; what is left out is as the command says.

    grow applies to detections alone: regions by hand are redacted as they were drawn.
    """

    method: Method | None = None
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    shape: Literal["ellipse", "box", "rounded"] | None = None
    grow: Annotated[float, Field(ge=1, le=4)] | None = None


class ClassTreatment(Treatment):
    """How the detections of one class are treated.

    min_size_px, max_size_px: the longer side of a detected box; those outside the bounds stay visible.
    """

    min_size_px: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_size_px: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_size_px is not None and self.max_size_px < self.min_size_px:
            raise ValueError(f"max_size_px {self.max_size_px:g} is less than min_size_px {self.min_size_px:g}")
        return self

    def admits(self, size_px: float) -> bool:
        """Whether an object of this size is redacted; one of no finite size always is."""
        if not math.isfinite(size_px):
            return True
        return self.min_size_px <= size_px and (self.max_size_px is None or size_px <= self.max_size_px)


class ManualRegion(Outline):
    """An area by hand.

    action: `redact` destroys what lies in it. `keep` leaves detections visible of which at least half lies in it, at
    that time: a person who agreed to be seen. `ignore` is for what is no person at all (a poster, a mannequin):
    detections whose centre lies in it are no detections.
    files: patterns of the inputs that it applies to (`cam1/*.mp4`), by the end of their path; all without.
    start, end: the times between which it is there, both included; without, as far as its keyframes reach, or always.
    """

    name: Annotated[str, Field(max_length=200)] = ""
    action: Action = "redact"
    classes: tuple[str, ...] = ()
    files: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(max_length=10_000)] = ()
    start: Time | None = None
    end: Time | None = None
    keyframes: Annotated[tuple[Keyframe, ...], Field(max_length=MAX_KEYFRAMES)] = ()
    redact: Treatment = Treatment()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.given == bool(self.keyframes):
            raise ValueError("a region has a shape of its own, or keyframes with shapes")
        if self.keyframes and all(key.outside for key in self.keyframes):
            raise ValueError("every keyframe is outside: the region is nowhere")
        times = [key.at for key in self.keyframes]
        if sorted(set(times)) != times:
            raise ValueError("keyframes must come in order of time, each at a time of its own")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end:g} is before start {self.start:g}")
        for one, other in zip(self.keyframes, self.keyframes[1:], strict=False):
            if not (one.outside or other.outside or one.hold) and one.kind != other.kind:
                raise ValueError(
                    f"nothing moves from the shape at {one.at:g} to that at {other.at:g}: give both the same kind of "
                    'shape and number of corners, or say "hold": true'
                )
        if self.action != "redact" and self.redact != Treatment():
            raise ValueError(f"a region to {self.action} is not redacted: leave `redact` out")
        if self.action == "redact" and self.classes:
            raise ValueError("`classes` is for regions to keep or ignore: what lies in a redacted one has no class")
        return self


class RegionsConfig(_Model):
    """Regions by hand, and how each class is treated.

    time_unit: of all times: seconds of the file's own clock, or numbers of frames, counted from 0.
    coordinates: upright pixels, or shares of the upright picture's width and height.
    treatments: by class, `face` or `license_plate`.
    """

    time_unit: Literal["seconds", "frames"] = "seconds"
    coordinates: Literal["pixels", "relative"] = "pixels"
    regions: Annotated[tuple[ManualRegion, ...], Field(max_length=MAX_REGIONS)] = ()
    treatments: dict[Literal["face", "license_plate"], ClassTreatment] = {}

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not self.regions and not self.treatments
