"""Clips to measure on, drawn by a formula: a panned ground with faces that detectors take for real ones.

What a clip costs depends on what is in it: noise and movement give the codec work, faces give suppression and redaction
work. Drawn faces are found by YuNet and CenterFace alike (all of 20, at scores above 0.36), so that the whole way is
measured with the number of faces asked for, and nobody's picture is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require

RATE = Fraction(30)
"""Frames per second of every generated clip."""

_SEED = 20
_FACE_PX = 256
_GRAINS = 5
Picture = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """A clip: its picture size, the faces in each frame, and its length; `repeat` is how often the frames recur."""

    width_px: int
    height_px: int
    faces: int
    frames: int
    repeat: int = 1

    @property
    def name(self) -> str:
        """A file name that no other clip has."""
        return f"{self.width_px}x{self.height_px}-{self.faces}-faces-{self.frames}x{self.repeat}.mp4"


def generate_clip(spec: ClipSpec, folder: Path) -> Path:
    """The clip as H.264 (crf 20, a key frame every 30) in `folder`, made unless it is there.

    Same specification, same pictures. Recurring frames are encoded once and their packets repeated, so that a long clip
    takes no longer to make than a short one.
    """
    path = folder / spec.name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.mp4")
        _encode(spec, partial)
        partial.rename(path)
    return path


def pictures(spec: ClipSpec) -> Iterator[NDArray[np.uint8]]:
    """The frames as RGB (height, width, 3); the camera pans, faces drift within it and stay inside the picture."""
    cv2 = require("cv2", "drawing clips to measure on")
    rng = np.random.default_rng(_SEED)
    width, height = spec.width_px, spec.height_px
    pan_x, pan_y = max(1, width // 640), max(1, height // 720)
    wide, high = width + pan_x * spec.frames, height + pan_y * spec.frames
    ground = _landscape(rng, wide, high)
    faces = [_Face.random(rng, width, height, number, spec.faces) for number in range(spec.faces)]
    # Grain: without it nothing between two frames of a still corner would have to be coded.
    coarse = rng.normal(0, 2.5, (_GRAINS, height // 2 + 1, width // 2 + 1)).astype(np.float32)
    grain = [cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST)[..., np.newaxis] for one in coarse]
    for index in range(spec.frames):
        x, y = pan_x * index, pan_y * index
        frame = ground[y : y + height, x : x + width].copy()
        for face in faces:
            face.draw(frame, index)
        frame += grain[index % len(grain)]
        yield np.clip(frame, 0, 255).astype(np.uint8)


def _landscape(rng: np.random.Generator, width: int, height: int) -> Picture:
    """Broad fields of colour, upright stripes, and fine noise.

    Blotches of 30 to 300 pixels would be taken for faces, by YuNet at its low threshold for a dozen in a frame; of this
    one or two are.
    """
    cv2 = require("cv2", "drawing clips to measure on")

    def field(cell_px: int, strength: float, interpolation: int) -> Picture:
        cells = rng.normal(0, strength, (height // cell_px + 2, width // cell_px + 2, 3)).astype(np.float32)
        grown: Picture = cv2.resize(cells, (width, height), interpolation=interpolation)
        return grown

    ground = field(480, 20, cv2.INTER_CUBIC)
    for _ in range(80):
        left, across = int(rng.integers(0, width)), int(rng.integers(max(width // 200, 2), max(width // 40, 3)))
        ground[:, left : left + across] += rng.normal(0, 14, 3).astype(np.float32)
    return ground + field(2, 6, cv2.INTER_LINEAR) + np.float32(118)


class _Face:
    """One face: its picture with alpha, where it stands, and how it drifts."""

    def __init__(self, picture: Picture, x_px: float, y_px: float, sway_px: float, phase: float) -> None:
        self._color, self._alpha = picture[..., :3], picture[..., 3:]
        self._x, self._y, self._sway, self._phase = x_px, y_px, sway_px, phase

    @classmethod
    def random(cls, rng: np.random.Generator, width: int, height: int, number: int, of: int) -> _Face:
        """Each in a cell of its own of a grid over the picture, between 40% and 80% of the cell's smaller side."""
        cv2 = require("cv2", "drawing clips to measure on")
        columns = int(np.ceil(np.sqrt(of * width / height)))
        rows = -(-of // columns)
        cell_w, cell_h = width / columns, height / rows
        side = int(np.clip(rng.uniform(0.4, 0.8) * min(cell_w, cell_h), 16, 0.35 * height))
        picture = cv2.resize(_portrait(rng), (side, side), interpolation=cv2.INTER_AREA)
        room_x, room_y = cell_w - side, cell_h - side
        sway = min(0.15 * side, max(room_x, 0) / 2)
        x = cell_w * (number % columns) + sway + rng.uniform() * max(room_x - 2 * sway, 0)
        y = cell_h * (number // columns) + rng.uniform() * max(room_y, 0)
        return cls(picture, x, y, sway, rng.uniform(0, 2 * np.pi))

    def draw(self, frame: Picture, index: int) -> None:
        side = len(self._alpha)
        x = round(self._x + self._sway * np.sin(self._phase + index / 12))
        y = round(self._y)
        part = frame[y : y + side, x : x + side]
        alpha, color = self._alpha[: part.shape[0], : part.shape[1]], self._color[: part.shape[0], : part.shape[1]]
        part *= 1 - alpha
        part += color * alpha


def _portrait(rng: np.random.Generator) -> Picture:
    """A drawn face, (256, 256, 4) RGB and alpha: ellipses with soft edges."""
    cv2 = require("cv2", "drawing clips to measure on")
    canvas = np.zeros((_FACE_PX, _FACE_PX, 4), np.float32)

    def spot(centre: tuple[int, int], axes: tuple[int, int], color: object, soft_px: float) -> None:
        mask = np.zeros((_FACE_PX, _FACE_PX), np.float32)
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
        mask = cv2.GaussianBlur(mask, (0, 0), soft_px)[..., np.newaxis]
        canvas[..., :3] = canvas[..., :3] * (1 - mask) + np.asarray(color, np.float32) * mask
        canvas[..., 3:] = np.maximum(canvas[..., 3:], mask)

    skin = np.array([224, 172, 140]) * rng.uniform(0.55, 1.05)
    hair = np.array([60, 45, 35]) * rng.uniform(0.4, 1.6)
    spot((128, 110), (88, 104), hair, 3)
    spot((128, 200), (40, 56), skin * 0.8, 3)
    spot((128, 136), (72, 96), skin, 3)
    spot((100, 150), (34, 50), skin * 1.08, 14)
    spot((160, 150), (20, 70), skin * 0.85, 14)
    spot((128, 70), (66, 34), hair, 6)
    for eye in (98, 158):
        spot((eye, 122), (20, 9), skin * 0.7, 4)
        spot((eye, 124), (13, 6), (235, 235, 230), 1.5)
        spot((eye, 124), (6, 6), (50, 35, 25), 1)
        spot((eye, 106), (20, 4), hair * 0.9, 2)
    spot((128, 150), (9, 24), skin * 1.1, 5)
    spot((128, 168), (16, 6), skin * 0.65, 3)
    spot((128, 196), (28, 8), np.array([165, 80, 75]) * rng.uniform(0.8, 1.1), 2.5)
    spot((128, 196), (24, 2), (90, 40, 40), 1.5)
    return canvas


def _encode(spec: ClipSpec, path: Path) -> None:
    av = require("av", "writing clips to measure on")
    options = {"crf": "20", "preset": "veryfast", "g": "30"}
    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = spec.width_px, spec.height_px, "yuv420p"
        stream.codec_context.time_base = 1 / RATE
        packets = []
        for index, picture in enumerate(pictures(spec)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = index, 1 / RATE
            packets += stream.encode(frame)
        packets += stream.encode(None)
        once = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
        for number in range(spec.repeat):
            for data, pts, dts, key in once:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, 1 / RATE
                packet.pts, packet.dts = pts + number * spec.frames, dts + number * spec.frames
                packet.is_keyframe = key
                out.mux(packet)


def content_hash(path: Path) -> str:
    """SHA-256 of a file, which says whether two results are of one input, without its name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
