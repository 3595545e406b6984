"""Pictures made worse in a controlled way, to see where a detector stops finding faces.

Each corruption takes a severity from 1 (mild) to 5 (severe), and gives the same picture for the same random numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import UsageError

Picture = NDArray[np.uint8]
Boxes = NDArray[np.float64]
_Corruption = Callable[[Picture, int, np.random.Generator, Boxes], Picture]

SEVERITIES = (1, 2, 3, 4, 5)

_MOTION_PX = (5, 9, 15, 23, 33)  # length of the path that the camera takes during the exposure
_DEFOCUS_RADIUS_PX = (1.5, 2.5, 4.0, 6.0, 8.5)
_LIGHT = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # share of the light; stops below a good exposure
_ELECTRONS_AT_WHITE = 4000.0  # a small sensor's full well, which sets the shot noise
_READ_NOISE_ELECTRONS = 6.0
_NOISE_SIGMA = (6.0, 12.0, 20.0, 32.0, 48.0)  # codes
_JPEG_QUALITY = (40, 25, 15, 9, 5)
_OCCLUDED = (0.15, 0.3, 0.4, 0.5, 0.6)  # share of each object's box
_REDUCTION = (1.5, 2.0, 3.0, 4.0, 6.0)
_FOG = (0.2, 0.35, 0.5, 0.65, 0.8)
_OVEREXPOSURE = (1.5, 2.2, 3.2, 4.5, 6.5)


def corrupt(
    picture: Picture, name: str, severity: int, *, seed: int, image: str, objects_xyxy_px: Boxes | None = None
) -> Picture:
    """A corrupted copy of an RGB picture (H, W, 3).

    seed, image: the random numbers are those of the seed, the image's name, the corruption and the severity, whatever
    came before. objects_xyxy_px: (N, 4), what `occlusion` hides a part of. Raises UsageError for an unknown corruption
    or severity.
    """
    check(name, severity)
    parts = (seed, zlib.crc32(image.encode()), zlib.crc32(name.encode()), severity)
    boxes = np.zeros((0, 4)) if objects_xyxy_px is None else objects_xyxy_px
    return CORRUPTIONS[name](picture, severity - 1, np.random.default_rng(parts), boxes)


def check(name: str, severity: int) -> None:
    """Raise UsageError for an unknown corruption or severity."""
    if name not in CORRUPTIONS:
        raise UsageError(f"unknown corruption {name!r}; known are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity}: a severity is a whole number from 1 to 5")


def _motion_blur(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    length = _MOTION_PX[level]
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    centre = (length - 1) / 2
    for step in np.linspace(-centre, centre, 8 * length):
        x, y = centre + step * np.cos(angle), centre + step * np.sin(angle)
        kernel[round(float(y)), round(float(x))] += 1
    return _filter(picture, kernel)


def _defocus(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    radius = _DEFOCUS_RADIUS_PX[level]
    size = int(np.ceil(radius))
    fine = 8  # the disk's edge, by subpixels
    points = (np.arange((2 * size + 1) * fine) + 0.5) / fine - size - 0.5
    disk = np.add.outer(points**2, points**2) <= radius**2
    kernel = disk.reshape(2 * size + 1, fine, 2 * size + 1, fine).mean(axis=(1, 3)).astype(np.float32)
    return _filter(picture, kernel)


def _filter(picture: Picture, kernel: NDArray[np.float32]) -> Picture:
    cv2 = require("cv2", "corrupting pictures")
    blurred: Picture = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    return blurred


def _codes(values: NDArray[np.floating]) -> Picture:
    codes: Picture = np.rint(values).astype(np.uint8)
    return codes


def _to_light(picture: Picture) -> NDArray[np.float64]:
    """Codes of sRGB as linear light, 0 to 1 (IEC 61966-2-1)."""
    code = np.arange(256) / 255
    table = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    light: NDArray[np.float64] = table[picture]
    return light


def _to_codes(light: NDArray[np.float64]) -> Picture:
    light = light.clip(0, 1)
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return _codes(code * 255)


def _low_light(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    electrons = _to_light(picture) * (_ELECTRONS_AT_WHITE * _LIGHT[level])
    seen = rng.poisson(electrons) + rng.normal(0, _READ_NOISE_ELECTRONS, electrons.shape)
    return _to_codes(seen / _ELECTRONS_AT_WHITE)


def _overexposure(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    return _to_codes(_to_light(picture) * _OVEREXPOSURE[level])


def _noise(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    noisy = picture + rng.normal(0, _NOISE_SIGMA[level], picture.shape)
    return _codes(noisy.clip(0, 255))


def _jpeg(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    cv2 = require("cv2", "corrupting pictures")
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[level]])
    decoded: Picture = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    return np.ascontiguousarray(decoded)


def _low_resolution(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    cv2 = require("cv2", "corrupting pictures")
    height, width = picture.shape[:2]
    small = (max(1, round(width / _REDUCTION[level])), max(1, round(height / _REDUCTION[level])))
    reduced = cv2.resize(picture, small, interpolation=cv2.INTER_AREA)
    enlarged: Picture = cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


def _fog(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    haze = _FOG[level]
    return _codes(picture * (1 - haze) + 235 * haze)


def _occlusion(picture: Picture, level: int, rng: np.random.Generator, boxes: Boxes) -> Picture:
    """A bar of one colour over a side of each object, as a mask, a hand or the next person's shoulder would be."""
    hidden = picture.copy()
    height, width = picture.shape[:2]
    for x0, y0, x1, y1 in boxes.tolist():
        side, color = int(rng.integers(4)), rng.integers(0, 256, 3).astype(np.uint8)
        share = _OCCLUDED[level]
        if side == 0:
            x1 = x0 + (x1 - x0) * share
        elif side == 1:
            x0 = x1 - (x1 - x0) * share
        elif side == 2:
            y1 = y0 + (y1 - y0) * share
        else:
            y0 = y1 - (y1 - y0) * share
        columns = slice(*(int(v) for v in np.rint(np.clip((x0, x1), 0, width))))
        rows = slice(*(int(v) for v in np.rint(np.clip((y0, y1), 0, height))))
        hidden[rows, columns] = color
    return hidden


CORRUPTIONS: Mapping[str, _Corruption] = {
    "motion-blur": _motion_blur,
    "defocus": _defocus,
    "low-light": _low_light,
    "overexposure": _overexposure,
    "noise": _noise,
    "jpeg": _jpeg,
    "low-resolution": _low_resolution,
    "fog": _fog,
    "occlusion": _occlusion,
}
"""All corruptions by name."""
