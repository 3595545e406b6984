"""Training pictures: real photographs whose plates are kept, replaced by rendered ones or painted over, and degraded."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from render import Fonts, Picture, plate, sign

MOST_PLATES = 12
"""Of a picture, that are learnt from."""

Points = NDArray[np.float32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Photo:
    """A real photograph with its plates' boxes, (K, 4) as x0, y0, x1, y1 in pixels; none where no car is in it.

    mistaken: (M, 4) what an earlier network took for plates and is none, looked at more often than the rest.
    """

    pixels: Picture
    boxes: Floats
    name: str
    mistaken: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(frozen=True)
class Settings:
    """What a training picture is made of; shares of pictures.

    rendered: of cars, those whose plates are replaced by rendered ones. painted_over: those whose plates are gone.
    elsewhere: those looked at anywhere, not about a plate. free: pictures without a car. plated: those of them that get
    rendered plates; none where there are cars, lest letters on anything be learnt as a plate. mistaken: of the
    others, those about something that an earlier network took for a plate, where such are known. signs: pictures with
    things that look like plates. mosaic: pictures put together from four smaller ones. design: all rendered plates are
    of this one, else of all.
    """

    side_px: int = 416
    rendered: float = 0.35
    painted_over: float = 0.1
    elsewhere: float = 0.25
    free: float = 0.35
    plated: float = 0.0
    mistaken: float = 0.5
    signs: float = 0.5
    mosaic: float = 0.4
    least_px: float = 7.0
    most_px: float = 320.0
    design: str | None = None


@dataclass(frozen=True)
class Sample:
    """A square RGB picture and its plates: quads (K, 4, 2) clockwise from the top left, exact (K,) where known.

    A quad that is not exact is the box of a label: its corners are not learnt from.
    """

    pixels: Picture
    quads: Points
    exact: NDArray[np.bool_]

    def arrays(self) -> tuple[Picture, Points, NDArray[np.bool_], NDArray[np.bool_]]:
        """BGR as the network sees it; quads (MOST_PLATES, 4, 2), which of them are there, and which are exact."""
        count = min(len(self.quads), MOST_PLATES)
        quads = np.zeros((MOST_PLATES, 4, 2), np.float32)
        there, exact = np.zeros((2, MOST_PLATES), np.bool_)
        quads[:count], there[:count], exact[:count] = self.quads[:count], True, self.exact[:count]
        return np.ascontiguousarray(self.pixels[..., ::-1]), quads, there, exact


def _corners(box: Floats) -> Points:
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float32)


def _turned(rng: np.random.Generator, width: float, aspect: float) -> Points:
    """The quad of a plate of this width seen from somewhere, about the origin."""
    yaw, pitch, roll = rng.normal(0, 0.45), rng.normal(0, 0.18), rng.normal(0, 0.09)
    yaw, pitch = np.clip(yaw, -1.15, 1.15), np.clip(pitch, -0.6, 0.6)
    half = np.array([(-1, -1 / aspect), (1, -1 / aspect), (1, 1 / aspect), (-1, 1 / aspect)], np.float64) / 2
    solid = np.concatenate((half, np.zeros((4, 1))), axis=1)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    about_x = np.array([(1, 0, 0), (0, cp, -sp), (0, sp, cp)])
    about_z = np.array([(cr, -sr, 0), (sr, cr, 0), (0, 0, 1)])
    seen = solid @ (about_z @ about_x @ about_y).T
    depth = rng.uniform(2.5, 12)
    flat = seen[:, :2] * depth / (depth + seen[:, 2:])
    return (flat * width / max(np.ptp(flat[:, 0]), 1e-3)).astype(np.float32)


def _paste(pixels: Picture, thing: Picture, quad: Points, rng: np.random.Generator, light: float | None) -> None:
    """Draw a flat thing into a quad of a picture, in place, as bright as what was there by `light`'s share."""
    height, width, _ = pixels.shape
    low, high = np.floor(quad.min(axis=0)).astype(int) - 2, np.ceil(quad.max(axis=0)).astype(int) + 3
    x0, y0 = max(low[0], 0), max(low[1], 0)
    x1, y1 = min(high[0], width), min(high[1], height)
    if x1 <= x0 or y1 <= y0:
        return
    shrink = max(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[3])) / thing.shape[1]
    if shrink < 0.6:  # else the warp would skip samples
        size = (max(int(thing.shape[1] * shrink * 1.3), 4), max(int(thing.shape[0] * shrink * 1.3), 3))
        thing = cv2.resize(thing, size, interpolation=cv2.INTER_AREA)
    h, w, _ = thing.shape
    source = np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32)
    matrix = cv2.getPerspectiveTransform(source, quad - np.float32((x0, y0)))
    size = (x1 - x0, y1 - y0)
    drawn = cv2.warpPerspective(thing, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(np.full((h, w), 255, np.uint8), matrix, size, flags=cv2.INTER_LINEAR)
    share = cover.astype(np.float32)[..., None] / 255
    part = pixels[y0:y1, x0:x1].astype(np.float32)
    values = drawn.astype(np.float32)
    if light is not None:
        there, here = max(float(part.mean()), 8.0), max(float(values.mean()), 8.0)
        values *= ((there * rng.uniform(0.8, 1.9)) / here) ** light
        tint = part.mean(axis=(0, 1)) / max(float(part.mean()), 1.0)
        values *= tint ** rng.uniform(0, 0.7)
    pixels[y0:y1, x0:x1] = np.clip(part * (1 - share) + values * share, 0, 255).astype(np.uint8)


class SceneMaker:
    """Makes samples from photographs; one per worker."""

    def __init__(self, cars: list[Photo], others: list[Photo], fonts: Fonts, settings: Settings) -> None:
        self.cars, self.others, self.fonts, self.settings = cars, others, fonts, settings

    def sample(self, rng: np.random.Generator) -> Sample:
        side = self.settings.side_px
        if rng.random() >= self.settings.mosaic:
            return self._scene(rng, side)
        half = side // 2
        pixels, quads, exact = np.empty((side, side, 3), np.uint8), [], []
        for x, y in ((0, 0), (half, 0), (0, half), (half, half)):
            part = self._scene(rng, half)
            pixels[y : y + half, x : x + half] = part.pixels
            quads.append(part.quads + np.float32((x, y)))
            exact.append(part.exact)
        return Sample(pixels, np.concatenate(quads), np.concatenate(exact))

    def _scene(self, rng: np.random.Generator, side: int) -> Sample:
        settings = self.settings
        if rng.random() < settings.free or not self.cars:
            pixels, boxes = self._view(rng, self.others[rng.integers(len(self.others))], side)
            quads, exact = np.zeros((0, 4, 2), np.float32), np.zeros(0, np.bool_)
            if rng.random() < settings.plated:
                quads = self._free_plates(rng, pixels)
                exact = np.ones(len(quads), np.bool_)
        else:
            pixels, boxes = self._view(rng, self.cars[rng.integers(len(self.cars))], side)
            quads, exact = self._with_plates(rng, pixels, boxes)
        if rng.random() < settings.signs:
            for _ in range(int(rng.integers(1, 4))):
                self._sign(rng, pixels, quads)
        pixels = degrade(pixels, rng)
        kept = [n for n, quad in enumerate(quads) if _counts(quad, side)]
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            quads = quads.copy()
            quads[..., 0] = side - quads[..., 0]
            quads = quads[:, (1, 0, 3, 2)]
        return Sample(pixels, quads[kept], exact[kept])

    def _view(self, rng: np.random.Generator, photo: Photo, side: int) -> tuple[Picture, Floats]:
        """A square part of a photograph, at a scale that gives its plates a width drawn evenly on a scale of logarithms."""
        height, width, _ = photo.pixels.shape
        least = 0.45 * side / max(height, width)  # smaller, and most of the picture would be empty
        if len(photo.boxes) and rng.random() >= self.settings.elsewhere:
            chosen = photo.boxes[rng.integers(len(photo.boxes))]
            most = min(self.settings.most_px, 0.85 * side)
            wanted = np.exp(rng.uniform(np.log(self.settings.least_px), np.log(most)))
            scale = float(np.clip(wanted / max(chosen[2] - chosen[0], 2.0), least, max(2.5, least)))
            centre = np.array([(chosen[0] + chosen[2]) / 2, (chosen[1] + chosen[3]) / 2])
            centre = centre + rng.uniform(-0.5, 0.5, 2) * side / scale
        else:
            scale = max(float(np.exp(rng.uniform(np.log(0.4), np.log(2.4)))), least)
            centre = rng.uniform(0, 1, 2) * (width, height)
            if len(photo.mistaken) and rng.random() < self.settings.mistaken:
                x0, y0, x1, y1 = photo.mistaken[rng.integers(len(photo.mistaken))]
                centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + rng.uniform(-0.4, 0.4, 2) * side / scale
        if rng.random() < 0.85:  # as little as can be lies outside of the photograph
            reach = side / (2 * scale)
            size = np.array((width, height))
            centre = np.clip(centre, np.minimum(reach, size - reach), np.maximum(reach, size - reach))
        stretch = np.exp(rng.normal(0, 0.06))
        turn = rng.normal(0, 0.05) if rng.random() < 0.5 else 0.0
        across, down = scale * stretch, scale / stretch
        rotate = np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        linear = rotate @ np.diag((across, down))
        shift = side / 2 - linear @ centre
        source = photo.pixels
        if scale < 0.5:
            factor = 2 * scale
            source = cv2.resize(source, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            used = linear @ np.diag((width / source.shape[1], height / source.shape[0]))
        else:
            used = linear
        grey = int(rng.integers(0, 256)) if rng.random() < 0.3 else 0
        border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REFLECT_101
        border = cv2.BORDER_CONSTANT if len(photo.boxes) else border  # a reflected plate would have no label
        pixels = cv2.warpAffine(
            source,
            np.concatenate((used, shift[:, None]), axis=1),
            (side, side),
            flags=cv2.INTER_LINEAR,
            borderMode=border,
            borderValue=(grey, grey, grey),
        )
        boxes = []
        for box in photo.boxes:
            points = _corners(box) @ linear.T + shift
            boxes.append((*points.min(axis=0), *points.max(axis=0)))
        return pixels, np.array(boxes, np.float32).reshape(-1, 4)

    def _with_plates(
        self, rng: np.random.Generator, pixels: Picture, boxes: Floats
    ) -> tuple[Points, NDArray[np.bool_]]:
        """The plates of a view: as they are, each replaced by a rendered one that hides it, or all painted over."""
        action = rng.random()
        if action < self.settings.painted_over:
            for x0, y0, x1, y1 in boxes:
                mask = np.zeros(pixels.shape[:2], np.uint8)
                grow = 0.12 * (x1 - x0)
                cv2.rectangle(mask, (int(x0 - grow), int(y0 - grow)), (int(x1 + grow), int(y1 + grow)), 255, -1)
                if mask.any() and not mask.all():
                    pixels[...] = cv2.inpaint(pixels, mask, 3, cv2.INPAINT_TELEA)
            return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.bool_)
        replaced = action < self.settings.painted_over + self.settings.rendered
        quads, exact = [], []
        for box in boxes:
            if not replaced:
                quads.append(_corners(box))
                exact.append(False)
                continue
            thing = plate(rng, self.fonts, self.settings.design)
            width, height = box[2] - box[0], box[3] - box[1]
            aspect = thing.shape[1] / thing.shape[0]
            quad = _turned(rng, float(width * 1.08), aspect)
            # as large as hides the old plate, unless it is of another shape altogether: then that is painted over
            if np.ptp(quad[:, 1]) < height * 1.02:
                x0, y0, x1, y1 = (int(v) for v in (box[0] - 1, box[1] - 1, box[2] + 2, box[3] + 2))
                mask = np.zeros(pixels.shape[:2], np.uint8)
                cv2.rectangle(mask, (x0, y0), (x1, y1), 255, -1)
                if mask.any() and not mask.all() and width < 200:
                    pixels[...] = cv2.inpaint(pixels, mask, 2, cv2.INPAINT_TELEA)
                else:
                    cv2.rectangle(pixels, (x0, y0), (x1, y1), tuple(int(v) for v in rng.integers(10, 120, 3)), -1)
            quad = quad + np.float32(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
            self._holder(rng, pixels, quad)
            _paste(pixels, thing, quad, rng, rng.uniform(0.5, 1.0))
            quads.append(quad)
            exact.append(True)
        return np.array(quads, np.float32).reshape(-1, 4, 2), np.array(exact, np.bool_)

    def _free_plates(self, rng: np.random.Generator, pixels: Picture) -> Points:
        """Rendered plates on anything, on a dark or painted sheet that stands for a bumper."""
        side, quads = pixels.shape[0], []
        for _ in range(int(rng.integers(1, 4))):
            thing = plate(rng, self.fonts, self.settings.design)
            most = min(self.settings.most_px, 0.7 * side)
            width = float(np.exp(rng.uniform(np.log(self.settings.least_px), np.log(most))))
            quad = _turned(rng, width, thing.shape[1] / thing.shape[0])
            quad = quad + rng.uniform(0.02, 0.98, 2).astype(np.float32) * side
            if any(_near(quad, other) for other in quads):
                continue
            if rng.random() < 0.6:
                sheet = np.empty((24, 40, 3), np.uint8)
                sheet[...] = rng.integers(5, 256, 3) if rng.random() < 0.5 else rng.integers(5, 70)
                centre = quad.mean(axis=0)
                around = (quad - centre) * np.float32((rng.uniform(1.2, 3.0), rng.uniform(1.3, 4.0))) + centre
                _paste(pixels, sheet, around.astype(np.float32), rng, None)
            self._holder(rng, pixels, quad)
            _paste(pixels, thing, quad, rng, rng.uniform(0.2, 1.0))
            quads.append(quad)
        return np.array(quads, np.float32).reshape(-1, 4, 2)

    @staticmethod
    def _holder(rng: np.random.Generator, pixels: Picture, quad: Points) -> None:
        if rng.random() < 0.35:
            centre = quad.mean(axis=0)
            wide, high = rng.uniform(1.02, 1.08), rng.uniform(1.05, 1.3)
            around = ((quad - centre) * np.float32((wide, high)) + centre).astype(np.float32)
            shade = int(rng.integers(5, 70)) if rng.random() < 0.8 else int(rng.integers(120, 230))
            _paste(pixels, np.full((12, 40, 3), shade, np.uint8), around, rng, None)

    def _sign(self, rng: np.random.Generator, pixels: Picture, quads: Points) -> None:
        thing = sign(rng, self.fonts)
        width = float(np.exp(rng.uniform(np.log(12), np.log(220))))
        quad = _turned(rng, width, thing.shape[1] / thing.shape[0])
        quad = quad + rng.uniform(0, 1, 2).astype(np.float32) * pixels.shape[0]
        if not any(_near(quad, other) for other in quads):
            _paste(pixels, thing, quad, rng, rng.uniform(0.2, 1.0))


def _near(one: Points, other: Points) -> bool:
    """Whether the boxes of two quads touch."""
    a0, a1, b0, b1 = one.min(axis=0), one.max(axis=0), other.min(axis=0), other.max(axis=0)
    return bool((a0 < b1 + 3).all() and (b0 < a1 + 3).all())


def _counts(quad: Points, side: int) -> bool:
    """Whether enough of a plate is in the picture to ask for it."""
    low, high = quad.min(axis=0), quad.max(axis=0)
    inner = np.clip(high, 0, side) - np.clip(low, 0, side)
    return bool((inner > 0).all() and inner.prod() > 0.4 * max(float((high - low).prod()), 1e-3))


def degrade(pixels: Picture, rng: np.random.Generator) -> Picture:
    """Dusk, night, infrared, motion, defocus, rain, noise and JPEG, as cameras on the road give them."""
    values = pixels.astype(np.float32)
    kind = rng.random()
    if kind < 0.18:  # infrared: one colour, often pink
        grey = values @ np.float32((0.3, 0.59, 0.11))
        tint = np.array([(1, 1, 1), (1.05, 0.88, 1.0), (1.08, 0.8, 0.95), (0.9, 1.0, 0.95)][int(rng.integers(4))])
        values = grey[..., None] * tint.astype(np.float32)
    elif kind < 0.3:
        values = values.mean(axis=2, keepdims=True).repeat(3, axis=2)
    else:
        values *= rng.uniform(0.8, 1.2, 3).astype(np.float32)
    if rng.random() < 0.35:  # dusk and night
        values = 255 * (np.clip(values, 0, 255) / 255) ** rng.uniform(0.6, 2.2) * rng.uniform(0.3, 1.1)
    else:
        values = (values - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-30, 30)
    if rng.random() < 0.12:  # rain or snow
        drops = (rng.random(values.shape[:2]) < 0.004).astype(np.float32) * rng.uniform(60, 200)
        length = int(rng.integers(3, 18))
        streak = np.zeros((length, length), np.float32)
        cv2.line(streak, (int(rng.integers(length)), 0), (int(rng.integers(length)), length - 1), 1.0, 1)
        values += cv2.filter2D(drops, -1, streak)[..., None]
    pick = rng.random()
    if pick < 0.25:
        sigma = float(np.exp(rng.uniform(np.log(0.4), np.log(2.2))))
        values = cv2.GaussianBlur(values, (0, 0), sigma)
    elif pick < 0.42:
        length = int(rng.integers(3, 12))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(-0.5, 0.5) if rng.random() < 0.7 else rng.uniform(0, np.pi)
        middle, reach = (length - 1) / 2, (length - 1) / 2
        dx, dy = reach * np.cos(angle), reach * np.sin(angle)
        start, stop = (round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy))
        cv2.line(kernel, start, stop, 1.0, 1)
        values = cv2.filter2D(values, -1, kernel / kernel.sum())
    if rng.random() < 0.2:  # a small picture enlarged
        side, factor = values.shape[0], rng.uniform(0.4, 0.9)
        small = cv2.resize(values, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        values = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        noise = rng.standard_normal((values.shape[0], values.shape[1], 1 if rng.random() < 0.5 else 3), np.float32)
        values = values + noise * rng.uniform(1, 14)
    result = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(25, 95))
        done, code = cv2.imencode(".jpg", result[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        if done:
            result = np.ascontiguousarray(cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1])
    return result
