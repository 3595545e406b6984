"""What the small picture says about motion: of the camera, and of what lies in a box; sparse optical flow (OpenCV)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.track.kalman import Array, Warp

Grey = NDArray[np.uint8]

_PURPOSE = "following objects through a video"
_WINDOW = (9, 9)
_LEVELS = 2
_GRID = (12, 7)
_LEAST_INLIERS = 0.4
_LEAST_AGREED = 8
_POINTS = 5  # a side, in a box that is followed
_LEAST_SIDE = 8.0  # of the part of the small picture that is followed
_MOST_RETURN_ERROR = 1.0  # of a point followed to the next picture and back
_PATCH = 12
_LEAST_LIKENESS = 0.6


def flow(before: Grey, after: Grey, points: Array, guess: Array | None = None) -> tuple[Array, NDArray[np.bool_]]:
    """Where points (N, 2) of one picture are in the next one, about where `guess` says; whether they were found."""
    cv2 = require("cv2", _PURPOSE)
    start = points.astype(np.float32).reshape(-1, 1, 2)
    near = None if guess is None else guess.astype(np.float32).reshape(-1, 1, 2)
    flags = 0 if guess is None else cv2.OPTFLOW_USE_INITIAL_FLOW
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        before, after, start, near, winSize=_WINDOW, maxLevel=_LEVELS, flags=flags
    )
    return moved.reshape(-1, 2).astype(np.float64), status.reshape(-1) == 1


def camera_motion(before: Grey, after: Grey) -> tuple[Warp, float]:
    """The similarity that most of the picture follows, in pixels of the small picture, and the share that does.

    A jump too far for optical flow is found by phase correlation first. Where fewer than 40% of the points agree there
    is no motion: the identity is given, with that share.
    """
    height, width = after.shape
    across, down = ((np.arange(n) + 0.5) / n for n in _GRID)
    points = np.stack(np.meshgrid(across * width, down * height), axis=-1).reshape(-1, 2)
    warp, share = _agreed(before, after, points, None)
    if warp is None and before.shape == after.shape:
        jump = _jump(before, after)
        inside = ((points + jump >= 0) & (points + jump < (width, height))).all(axis=1)
        if inside.any():
            warp, share = _agreed(before, after, points[inside], points[inside] + jump)
    return (Warp.identity() if warp is None else warp), share


class CameraMotion:
    """`camera_motion` between two frames of one size, found when it is first asked for: in most it is of no use.

    Without pictures it is none, of which nothing is explained. size_px: (width, height) of the frames.
    """

    def __init__(self, before: Grey | None, after: Grey | None, size_px: tuple[int, int]) -> None:
        self._before, self._after, self._size = before, after, size_px

    @cached_property
    def _found(self) -> tuple[Warp, float]:
        if self._before is None or self._after is None:
            return Warp.identity(), 0.0
        found = camera_motion(self._before, self._after)
        self._before = None  # no longer needed
        return found

    @property
    def small(self) -> Warp:
        """In pixels of the small picture."""
        return self._found[0]

    @cached_property
    def warp(self) -> Warp:
        """In pixels of the frame."""
        if self._after is None:
            return self.small
        height, width = self._after.shape
        ratio = np.array((self._size[0] / width, self._size[1] / height))
        return Warp(self.small.matrix * ratio[:, None] / ratio[None], self.small.shift * ratio)

    @property
    def share(self) -> float:
        """How much of the picture follows it."""
        return self._found[1]


def _agreed(before: Grey, after: Grey, points: Array, guess: Array | None) -> tuple[Warp | None, float]:
    cv2 = require("cv2", _PURPOSE)
    moved, found = flow(before, after, points, guess)
    good = found & np.isfinite(moved).all(axis=1)
    if good.sum() < _LEAST_AGREED:
        return None, 0.0
    affine, inliers = cv2.estimateAffinePartial2D(
        points[good], moved[good], method=cv2.RANSAC, ransacReprojThreshold=0.75, maxIters=200
    )
    share = 0.0 if inliers is None else float(inliers.sum()) / len(points)
    if affine is None or share < _LEAST_INLIERS or not 0.5 < np.hypot(affine[0, 0], affine[1, 0]) < 2:
        return None, share
    return Warp(affine[:, :2].astype(np.float64), affine[:, 2].astype(np.float64)), share


def _jump(before: Grey, after: Grey) -> Array:
    """The shift of the whole picture."""
    cv2 = require("cv2", _PURPOSE)
    height, width = before.shape
    size = (cv2.getOptimalDFTSize(width // 2), cv2.getOptimalDFTSize(height // 2))
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32) for p in (before, after)]
    (dx, dy), _ = cv2.phaseCorrelate(*small, cv2.createHanningWindow(size, cv2.CV_32F))
    return np.array((dx * width / size[0], dy * height / size[1]))


def patch(picture: Grey, box_xyxy: Array) -> NDArray[np.float32]:
    """What lies in a box, brought to a small square, without its mean brightness and contrast."""
    cv2 = require("cv2", _PURPOSE)
    x0, y0, x1, y1 = box_xyxy.tolist()
    scale = np.array([[(x1 - x0) / _PATCH, 0, x0], [0, (y1 - y0) / _PATCH, y0]])
    square = cv2.warpAffine(
        picture, scale, (_PATCH, _PATCH), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    square -= square.mean()
    return np.asarray(square / max(float(np.sqrt((square * square).sum())), 1e-3), np.float32)


def context(box_xyxy: Array) -> Array:
    """The part of the small picture that is followed for a box: the box, or about it at least a few pixels."""
    centre, half = (box_xyxy[:2] + box_xyxy[2:]) / 2, np.maximum((box_xyxy[2:] - box_xyxy[:2]) / 2, _LEAST_SIDE / 2)
    return np.concatenate((centre - half, centre + half))


def follow(
    before: Grey, after: Grey, boxes_xyxy: Array, looks: Sequence[NDArray[np.float32]], camera: Warp
) -> list[Array | None]:
    """How far what lies in each box (N, 4) has moved in the next picture, (dx, dy); None where it is lost.

    looks: for each box a `patch` of its `context` when the object was seen. camera: its motion, in pixels of the small
    picture, from where the search starts.
    Median of the points that return to where they came from when followed back ("Forward-backward error", Kalal et al.,
    ICPR 2010). Lost: fewer than a third of the points return, what is found looks unlike `looks`, or it has left the
    picture.
    """
    height, width = after.shape
    areas = [context(box) for box in boxes_xyxy]
    share = (np.arange(_POINTS) + 0.5) / _POINTS
    grid = np.stack(np.meshgrid(share, share), axis=-1).reshape(-1, 2)
    all_points = [area[:2] + grid * (area[2:] - area[:2]) for area in areas]
    all_points = [p[((p >= 0) & (p < (width, height))).all(axis=1)] for p in all_points]
    points = np.concatenate(all_points) if all_points else np.zeros((0, 2))
    if not len(points):
        return [None] * len(areas)
    moved, there = flow(before, after, points, points @ camera.matrix.T + camera.shift)
    back, again = flow(after, before, moved, points)
    good = there & again & (np.abs(back - points).max(axis=1) < _MOST_RETURN_ERROR)
    shifts: list[Array | None] = []
    stop = 0
    for area, mine, look in zip(areas, all_points, looks, strict=True):
        start, stop = stop, stop + len(mine)
        kept = good[start:stop]
        shift = None
        if len(mine) >= _POINTS and 3 * kept.sum() >= len(mine):
            shift = np.asarray(np.median((moved - points)[start:stop][kept], axis=0), np.float64)
            shift = shift if _is_it(after, area + np.tile(shift, 2), look) else None
        shifts.append(shift)
    return shifts


def _is_it(picture: Grey, area: Array, look: NDArray[np.float32]) -> bool:
    """Whether an area is in the picture and looks as it should."""
    height, width = picture.shape
    x, y = ((area[:2] + area[2:]) / 2).tolist()
    return 0 <= x < width and 0 <= y < height and float((patch(picture, area) * look).sum()) >= _LEAST_LIKENESS
