"""Re-identification of redacted faces: a recogniser, and the attacks that try to see through a redaction.

The recogniser is dlib's ResNet (99.4% on Labelled Faces in the Wild), from wheels: extra `reid`, never needed to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
from numpy.typing import NDArray

from trt_anon.config import RedactConfig
from trt_anon.metrics.intervals import lower_bound
from trt_anon.redact.frame import MIN_CELL_PX, MIN_SIGMA_PX, Redactor
from trt_anon.types import PIXEL_FORMATS, Frame, Region

Picture = NDArray[np.uint8]
CHIP_PX = 150
CHIP_PADDING = 0.25


def _model(name: str) -> str:
    spec = find_spec("face_recognition_models")  # found, not imported: its own import needs an old setuptools
    if spec is None or spec.origin is None:
        raise SystemExit("pip install '.[reid]' brings the recogniser")
    return str(Path(spec.origin).parent / "models" / name)


@dataclass(frozen=True)
class Face:
    """A picture scaled so that its face is `size_px` on the longer side, with what an attacker knows of the clear one.

    landmarks: dlib's five, (5, 2) in pixels: the attacker aligns as if the face were clear.
    """

    picture: Picture
    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float64]

    @property
    def size_px(self) -> float:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


class Recogniser:
    """Descriptors of aligned faces."""

    def __init__(self) -> None:
        self._net = dlib.face_recognition_model_v1(_model("dlib_face_recognition_resnet_model_v1.dat"))
        self._shape = dlib.shape_predictor(_model("shape_predictor_5_face_landmarks.dat"))

    def landmarks(self, picture: Picture, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
        found = self._shape(picture, dlib.rectangle(*(round(v) for v in box)))
        return np.array([(found.part(n).x, found.part(n).y) for n in range(found.num_parts)], np.float64)

    def chip(self, picture: Picture, landmarks: NDArray[np.float64]) -> Picture:
        """The aligned face; a small one is enlarged first, since dlib knows whole pixels alone."""
        fine = max(round(CHIP_PX / max(np.ptp(landmarks, axis=0).max(), 1) / 2), 1)
        points = dlib.points([dlib.point(round(x), round(y)) for x, y in landmarks * fine])
        size = (picture.shape[1] * fine, picture.shape[0] * fine)
        large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC) if fine > 1 else picture
        shape = dlib.full_object_detection(dlib.rectangle(0, 0, *size), points)
        return np.asarray(dlib.get_face_chip(large, shape, size=CHIP_PX, padding=CHIP_PADDING))

    def describe(self, chips: list[Picture]) -> NDArray[np.float64]:
        """(N, 128)."""
        return np.array([list(d) for d in self._net.compute_face_descriptor(chips)], np.float64)


Box = tuple[float, float, float, float]


def scaled(picture: Picture, box: Box, marks: NDArray[np.float64], size_px: float) -> Face:
    """The face at another size, with as much around it as the recogniser looks at."""
    factor = size_px / max(box[2] - box[0], box[3] - box[1])
    x0, y0, x1, y1 = box
    margin = 1.2 * max(x1 - x0, y1 - y0)
    left, top = max(int(x0 - margin), 0), max(int(y0 - margin), 0)
    right, bottom = min(int(x1 + margin) + 1, picture.shape[1]), min(int(y1 + margin) + 1, picture.shape[0])
    part = picture[top:bottom, left:right]
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = (max(round(part.shape[1] * factor), 8), max(round(part.shape[0] * factor), 8))
    small = cv2.resize(part, size, interpolation=method)
    across, down = small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]
    moved = ((x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down)
    return Face(np.ascontiguousarray(small), moved, (marks - (left, top)) * (across, down))


def redacted(face: Face, config: RedactConfig, shift: tuple[int, int] = (0, 0)) -> Picture:
    """The face's picture after redaction of all that the recogniser looks at.

    shift: how far the object has moved below a region that stayed, in pixels: another phase of cells and of edges.
    """
    moved = np.roll(face.picture, shift, axis=(1, 0)).copy() if shift != (0, 0) else face.picture.copy()
    height, width, _ = moved.shape
    frame = Frame((moved,), PIXEL_FORMATS["rgb24"], width, height)
    x0, y0, x1, y1 = face.box
    grow = face.size_px * 0.9  # a chip reaches this far beyond the box: what is around the face must not identify it
    region = Region(x0 - grow, y0 - grow, x1 + grow, y1 + grow, "box", face.size_px)
    Redactor(config).redact(frame, [region])
    return np.roll(moved, (-shift[0], -shift[1]), axis=(1, 0)) if shift != (0, 0) else moved


def sigma_px(face: Face, config: RedactConfig) -> float:
    return max(config.detail_share * face.size_px, MIN_SIGMA_PX)


def cell_px(face: Face, config: RedactConfig) -> float:
    return max(config.detail_share * face.size_px, MIN_CELL_PX)


def inverted(picture: Picture, face: Face, config: RedactConfig) -> list[Picture]:
    """What an attacker makes of a redacted picture who knows how it was redacted: the likeliest guesses.

    Gaussian: Wiener deconvolution with the very kernel, at two assumed ratios of noise. Pixelate: cells taken as the
    pixels of a small picture, enlarged.
    """
    if config.method == "pixelate":
        cell = cell_px(face, config)
        small = cv2.resize(picture, None, fx=1 / cell, fy=1 / cell, interpolation=cv2.INTER_AREA)
        size = (picture.shape[1], picture.shape[0])
        return [cv2.resize(small, size, interpolation=method) for method in (cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)]
    pad = int(min(3 * sigma_px(face, config), max(picture.shape)))
    wide = np.pad(picture.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    height, width, _ = wide.shape
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    kernel = np.exp(-2 * (np.pi * sigma_px(face, config)) ** 2 * (fx * fx + fy * fy))
    spectrum = np.fft.rfft2(wide, axes=(0, 1))
    guesses = []
    for noise in (1e-3, 1e-5):
        wiener = kernel / (kernel * kernel + noise)
        sharp = np.fft.irfft2(spectrum * wiener[..., None], s=(height, width), axes=(0, 1))
        guesses.append(np.clip(sharp[pad : height - pad, pad : width - pad], 0, 255).astype(np.uint8))
    return guesses


def averaged(face: Face, config: RedactConfig, copies: int, rng: np.random.Generator) -> Picture:
    """The mean of redactions of one face that moved below a region standing still, put back in place."""
    reach = max(round(cell_px(face, config) / 2), 1)
    total = np.zeros(face.picture.shape, np.float64)
    for _ in range(copies):
        total += redacted(face, config, tuple(rng.integers(-reach, reach + 1, 2).tolist()))  # type: ignore[arg-type]
    return np.round(total / copies).astype(np.uint8)


def rank_1(probes: NDArray[np.float64], gallery: NDArray[np.float64], truth: NDArray[np.intp]) -> int:
    """How many probes (N, 128) have their own person, `truth`, nearest in the gallery (M, 128)."""
    distances = ((probes[:, None] - gallery[None]) ** 2).sum(axis=2)
    return int((distances.argmin(axis=1) == truth).sum())


def against_alike(probes: NDArray[np.float64], gallery: NDArray[np.float64], truth: NDArray[np.intp]) -> dict[str, Any]:
    """As `summary`, where people have several probes each: chance is what the same answers would score in any order.

    Above chance where fewer than 5% of 10,000 random orders score as much: a recogniser that always names the person
    with most probes scores well, and knows nothing.
    """
    named = ((probes[:, None] - gallery[None]) ** 2).sum(axis=2).argmin(axis=1)
    hits = int((named == truth).sum())
    rng = np.random.default_rng(0)
    shuffled = np.array([(rng.permutation(named) == truth).sum() for _ in range(10_000)])
    return {
        "hits": hits,
        "tries": len(truth),
        "share": hits / len(truth),
        "chance": float(shuffled.mean() / len(truth)),
        "above_chance": bool((shuffled >= hits).mean() < 0.05),
    }


def summary(hits: int, tries: int, people: int) -> dict[str, Any]:
    """Hits as a share, its lower bound, and whether that is above chance, one in `people`."""
    bound = lower_bound(hits, tries)
    chance = 1 / people
    return {"hits": hits, "tries": tries, "share": hits / tries, "chance": chance, "above_chance": bound > chance}
