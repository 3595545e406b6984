"""Small scenes with known answers: a textured background, textured squares that move over it, and what a detector
says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trt_anon.track.sight import Sight
from trt_anon.types import Detections, Tracks

SIZE = (320, 180)
"""(width, height) of the frame; its small picture is as large."""

CLASSES = ("face", "license_plate")

THRESHOLDS = (0.3, 0.3)

Path = Callable[[int], tuple[float, float, float] | None]
"""(centre x, centre y, side) in frame i, None where the object is not in the picture."""


def texture(seed: int, height: int, width: int, coarse_px: int = 6) -> NDArray[np.uint8]:
    """Smooth noise."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(20, 235, (-(-height // coarse_px) + 2, -(-width // coarse_px) + 2)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@dataclass
class Scene:
    """`paths`: one per object. `camera`: shift (dx, dy) of the background in frame i. `cuts`: where a shot begins."""

    paths: Sequence[Path]
    frames: int = 60
    rate: float = 25.0
    camera: Callable[[int], tuple[float, float]] = lambda _: (0.0, 0.0)
    cuts: Sequence[int] = ()

    def picture(self, index: int) -> NDArray[np.uint8]:
        shot = sum(index >= cut for cut in self.cuts)
        dx, dy = self.camera(index)
        wide = texture(100 + shot, 3 * SIZE[1], 3 * SIZE[0], 9)
        move = np.array([[1, 0, dx - SIZE[0]], [0, 1, dy - SIZE[1]]], np.float64)
        picture = cv2.warpAffine(wide, move, SIZE, flags=cv2.INTER_LINEAR)
        for number, path in enumerate(self.paths):
            place = path(index)
            if place is not None:
                x, y, side = place
                square = texture(number, 32, 32)
                into = np.array([[side / 32, 0, x - side / 2], [0, side / 32, y - side / 2]])
                cv2.warpAffine(
                    square, into, SIZE, dst=picture, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT
                )
        return picture

    def box(self, number: int, index: int) -> NDArray[np.float64] | None:
        place = self.paths[number](index)
        if place is None:
            return None
        x, y, side = place
        return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])

    def sight(
        self,
        index: int,
        *,
        misses: Sequence[tuple[int, int]] = (),
        weakly: Sequence[tuple[int, int]] = (),
        jitter: float = 0.0,
        pictured: bool = True,
        looked: bool = True,
        classes: Sequence[int] | None = None,
    ) -> Sight:
        """What the tracker is told of a frame: `misses` and `weakly` hold (object, frame)."""
        rng = np.random.default_rng(1000 + index)
        strong, weak = [], []
        for number in range(len(self.paths)):
            box = self.box(number, index)
            if box is None or (number, index) in misses:
                continue
            side = box[2] - box[0]
            moved = box + rng.normal(0, jitter * side, 4)
            (weak if (number, index) in weakly else strong).append((number, moved))
        return Sight(
            index / self.rate,
            SIZE,
            self.picture(index) if pictured else None,
            detections(strong, 0.9, classes) if looked else None,
            detections(weak, 0.15, classes) if looked else None,
        )


def detections(
    found: Sequence[tuple[int, NDArray[np.float64]]], score: float, classes: Sequence[int] | None = None
) -> Detections:
    boxes = np.array([box for _, box in found], np.float32).reshape(-1, 4)
    ids = np.array([0 if classes is None else classes[number] for number, _ in found], np.int32)
    return Detections(boxes, np.full(len(found), score, np.float32), ids, CLASSES)


def covered(tracks: Tracks, box: NDArray[np.float64]) -> float:
    """The largest share of a box that one track's box holds."""
    shares = [0.0]
    for other in tracks.boxes_xyxy_px.astype(np.float64):
        low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
        shares.append(float(np.maximum(high - low, 0).prod() / (box[2:] - box[:2]).prod()))
    return max(shares)
