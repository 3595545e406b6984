"""The views in which a detector looks at a frame: whole at each scale, in overlapping parts, and in a mirror.

A view is a part of the frame with a plan: `view.of(frame)` and `view.plan` are what every implementation of `letterbox`
takes, so none of them knows of views. A mirror image is the frame with another orientation. Parts begin on even stored
pixels, where samples of every chroma format begin.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import Scale
from trt_anon.geometry import boxes_to_upright, upright_size
from trt_anon.preprocess.crop import crop
from trt_anon.preprocess.letterbox import LetterboxPlan, plan_letterbox, square_size_px
from trt_anon.types import Frame, InputSpec, Orientation

MIRRORED: dict[Orientation, Orientation] = {
    Orientation.NORMAL: Orientation.FLIP_HORIZONTAL,
    Orientation.FLIP_HORIZONTAL: Orientation.NORMAL,
    Orientation.ROTATE_180: Orientation.FLIP_VERTICAL,
    Orientation.FLIP_VERTICAL: Orientation.ROTATE_180,
    Orientation.TRANSPOSE: Orientation.ROTATE_90_CLOCKWISE,
    Orientation.ROTATE_90_CLOCKWISE: Orientation.TRANSPOSE,
    Orientation.TRANSVERSE: Orientation.ROTATE_90_COUNTERCLOCKWISE,
    Orientation.ROTATE_90_COUNTERCLOCKWISE: Orientation.TRANSVERSE,
}
"""The orientation that shows the same stored picture upright, its left and right exchanged."""

_ORDER_IN_MIRROR = {4: (1, 0, 3, 2), 5: (1, 0, 2, 4, 3), 6: (1, 0, 2, 3, 5, 4)}
"""By number of landmarks: which point of a mirror image is which of the picture. Four corners go around from one at the
right or left of an upper or lower side; five are eyes, nose, corners of the mouth; six are eyes, nose, mouth, ears."""


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at frames of one size.

    plan: from the part, as `of` gives it, to the detector's input. part_xywh_px: in stored pixels, None for the whole.
    offset_xy_px: the part's upper left corner in the upright picture. inner_sides: which of its left, upper, right and
    lower side, upright, lie within the picture. mirrored: left and right are exchanged.
    """

    plan: LetterboxPlan
    part_xywh_px: tuple[int, int, int, int] | None = None
    offset_xy_px: tuple[int, int] = (0, 0)
    inner_sides: tuple[bool, bool, bool, bool] = (False, False, False, False)
    mirrored: bool = False

    def of(self, frame: Frame) -> Frame:
        """What `letterbox` takes together with the plan; it shares the frame's memory."""
        part = frame if self.part_xywh_px is None else crop(frame, *self.part_xywh_px)
        return dataclasses.replace(part, orientation=self.plan.orientation) if self.mirrored else part

    def boxes_to_upright_px(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (..., 4) in pixels of the network's input to float32 pixels of the upright frame."""
        boxes = self.plan.boxes_to_upright_px(boxes_xyxy)
        if self.mirrored:
            width = np.float32(self.plan.upright_size_px[0])
            boxes = np.stack((width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]), axis=-1)
        return boxes if self.offset_xy_px == (0, 0) else boxes + np.array(self.offset_xy_px * 2, np.float32)

    def cut(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Which boxes (N, 4), in upright pixels, end where the part does, so that their object may go on; None: none.

        A box counts as ending there within 2 pixels, or 3% of its own side.
        """
        if not any(self.inner_sides):
            return None
        (x, y), (width, height) = self.offset_xy_px, self.plan.upright_size_px
        near = np.maximum(2.0, 0.03 * np.tile(boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2], 2))
        begins = boxes_xyxy_px[:, :2] - near[:, :2] <= (x, y)
        ends = boxes_xyxy_px[:, 2:] + near[:, 2:] >= (x + width, y + height)
        return np.asarray((np.concatenate((begins, ends), axis=1) & self.inner_sides).any(axis=1), np.bool_)

    def landmarks_to_upright_px(self, points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Landmarks (N, K, 2) in pixels of the network's input to float32 pixels of the upright frame.

        In a mirror the left eye is the right one: points keep their meaning. NaN stays NaN.
        """
        points = self.points_to_upright_px(points_xy)
        order = _ORDER_IN_MIRROR.get(points.shape[-2]) if self.mirrored else None
        return points if order is None else points[..., order, :]

    def points_to_upright_px(self, points_xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (..., 2), as those of outlines, in pixels of the network's input to those of the upright frame."""
        points = self.plan.landmarks_to_upright_px(points_xy)
        if self.mirrored:
            width = np.float32(self.plan.upright_size_px[0])
            points = np.stack((width - points[..., 0], points[..., 1]), axis=-1)
        return points if self.offset_xy_px == (0, 0) else points + np.array(self.offset_xy_px, np.float32)


def plan_views(
    width_px: int,
    height_px: int,
    orientation: Orientation,
    pixel_aspect: Fraction,
    scales: Sequence[Scale],
    spec: InputSpec,
    *,
    flip: bool = False,
) -> tuple[View, ...]:
    """The views of a stored picture of that size: for each scale the whole or its parts; with `flip` each mirrored too.

    Views that come to the same are there once. Raises UsageError for sizes that are not > 0.
    """
    views: list[View] = []
    for scale in scales:
        for part in parts_of(width_px, height_px, scale):
            _, _, width, height = part
            square = square_size_px(width, height, orientation, pixel_aspect)
            plan = plan_letterbox(width, height, orientation, pixel_aspect, scale.factor(*square), spec)
            if (width, height) == (width_px, height_px):
                view = View(plan)
            else:
                corner = _upright_corner(part, width_px, height_px, orientation)
                far = np.add(corner, plan.upright_size_px) < upright_size(width_px, height_px, orientation)
                view = View(plan, part, corner, (corner[0] > 0, corner[1] > 0, bool(far[0]), bool(far[1])))
            views.append(view)
            if flip:
                turned = dataclasses.replace(plan, orientation=MIRRORED[orientation])
                views.append(dataclasses.replace(view, plan=turned, mirrored=True))
    return tuple(dict.fromkeys(views))


def parts_of(width_px: int, height_px: int, scale: Scale) -> list[tuple[int, int, int, int]]:
    """The parts (x, y, width, height) in stored pixels that a scale looks at, row by row; together they are the whole.

    A side of at most `scale.tile_px` is not cut. Neighbours share at least `scale.tile_overlap` of a part's side.
    """
    columns, rows = _cuts(width_px, scale), _cuts(height_px, scale)
    return [(x, y, width, height) for y, height in rows for x, width in columns]


def _cuts(side_px: int, scale: Scale) -> list[tuple[int, int]]:
    """(begin, length) of the parts of one side."""
    tile = scale.tile_px
    if tile is None or side_px <= tile + 1:  # a part may be longer by a pixel, so that none begins on an odd one
        return [(0, side_px)]
    step = max(2, int(tile * (1 - scale.tile_overlap)) // 2 * 2 - 2)  # what rounding to even pixels may move a begin
    count = 1 + -(-(side_px - tile) // step)
    begins = [(side_px - tile) * place // (count - 1) // 2 * 2 for place in range(count)]
    return [(begin, tile if begin + tile < side_px - 1 else side_px - begin) for begin in begins]


def _upright_corner(
    part: tuple[int, int, int, int], width_px: int, height_px: int, orientation: Orientation
) -> tuple[int, int]:
    x, y, width, height = part
    stored = np.array((x, y, x + width, y + height), np.float32)
    left, top, _, _ = boxes_to_upright(stored, width_px, height_px, orientation).tolist()
    return int(left), int(top)
