"""Licence plates that were never on a car: designs of many countries, drawn flat.

Layouts (proportions, colours, lines of text, bands) follow what is published about each country's plates; letters come
from fonts of distribution packages, so no plate is a copy of a real one, and no text is anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

HEIGHT_PX = 96
"""Of a drawn one-line plate; others are in proportion."""

LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
CHINESE = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
JAPANESE = "あいうえかきくけこさすせそたちつてとなにぬねのはひふほまみむめもやゆよらりるれろわ"
JAPANESE_PLACES = ("品川", "横浜", "名古屋", "大阪", "札幌", "千葉", "神戸", "広島", "新潟", "京都")
ARABIC_DIGITS = "٠١٢٣٤٥٦٧٨٩"


class Fonts:
    """Fonts found in a folder; plates take bold and condensed ones more often."""

    def __init__(self, folders: list[Path]) -> None:
        files = sorted(f for folder in folders for f in folder.rglob("*.tt[fc]"))
        wanted = ("sans", "mono", "narrow", "condensed")
        self.latin = [f for f in files if any(w in f.name.lower() for w in wanted) and "oblique" not in f.name.lower()]
        self.latin = [f for f in self.latin if "italic" not in f.name.lower() and "wqy" not in f.name.lower()]
        self.cjk = [f for f in files if "wqy" in f.name.lower() or "cjk" in f.name.lower()]
        if not self.latin:
            raise SystemExit(
                f"no sans-serif fonts in {', '.join(map(str, folders))}: install fonts-dejavu, fonts-liberation"
            )

    def pick(self, rng: np.random.Generator, size: int, *, cjk: bool = False) -> ImageFont.FreeTypeFont:
        files = self.cjk if cjk and self.cjk else self.latin
        weights = np.array([3.0 if "bold" in f.name.lower() else 1.0 for f in files])
        return _font(str(files[rng.choice(len(files), p=weights / weights.sum())]), max(size, 6))


@lru_cache(maxsize=512)
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


@dataclass
class Canvas:
    """A plate under way."""

    image: Image.Image
    rng: np.random.Generator
    fonts: Fonts

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def text(
        self,
        words: str,
        box: tuple[float, float, float, float],
        colour: Colour,
        *,
        cjk: bool = False,
        fit: float = 0.95,
    ) -> None:
        """Text stretched to fill a box given in shares of the plate."""
        if not words.strip():
            return
        width, height = self.size
        x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
        font = self.fonts.pick(self.rng, int((y1 - y0) * 1.1), cjk=cjk)
        left, top, right, bottom = font.getbbox(words)
        if right <= left or bottom <= top:
            return
        tile = Image.new("L", (right - left, bottom - top), 0)
        ImageDraw.Draw(tile).text((-left, -top), words, fill=255, font=font)
        room_w, room_h = max((x1 - x0) * fit, 2), max(y1 - y0, 2)
        stretch = min(room_w / tile.width, room_h / tile.height * self.rng.uniform(0.9, 1.15))
        size = (max(int(tile.width * stretch), 1), max(int(min(room_h, tile.height * stretch * 1.2)), 1))
        tile = tile.resize(size, Image.Resampling.BILINEAR)
        at = (int((x0 + x1 - tile.width) / 2), int((y0 + y1 - tile.height) / 2))
        self.image.paste(Image.new("RGB", tile.size, colour), at, tile)

    def fill(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        width, height = self.size
        ImageDraw.Draw(self.image).rectangle(
            (box[0] * width, box[1] * height, box[2] * width, box[3] * height), fill=colour
        )

    def border(self, colour: Colour, width: int, inset: int = 2) -> None:
        draw = ImageDraw.Draw(self.image)
        right, bottom = self.size[0] - 1 - inset, self.size[1] - 1 - inset
        draw.rounded_rectangle((inset, inset, right, bottom), radius=8, outline=colour, width=width)


def _letters(rng: np.random.Generator, pattern: str) -> str:
    """A text for a pattern: A a letter, 0 a digit, the rest as it is."""
    return "".join(
        rng.choice(list(LATIN)) if c == "A" else rng.choice(list(DIGITS)) if c == "0" else c for c in pattern
    )


def _any(rng: np.random.Generator, *patterns: str) -> str:
    return _letters(rng, str(rng.choice(patterns)))


def _canvas(rng: np.random.Generator, fonts: Fonts, aspect: float, colour: Colour, height: int = HEIGHT_PX) -> Canvas:
    jitter = tuple(int(np.clip(c + rng.integers(-14, 15), 0, 255)) for c in colour)
    return Canvas(Image.new("RGB", (int(height * aspect), height), jitter), rng, fonts)  # type: ignore[arg-type]


WHITE, YELLOW, BLACK, BLUE = (235, 236, 232), (244, 196, 36), (22, 22, 26), (20, 58, 150)


def european(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """520 x 110 mm, a blue band at the left, often at the right too; or none."""
    colour = WHITE if rng.random() < 0.8 else YELLOW
    plate = _canvas(rng, fonts, 520 / 110, colour)
    left, right = 0.02, 0.98
    if rng.random() < 0.8:
        plate.fill((0, 0, 0.085, 1), BLUE)
        plate.text(_any(rng, "A", "AA", "AAA"), (0.01, 0.62, 0.08, 0.92), WHITE)
        left = 0.1
    if rng.random() < 0.3:
        plate.fill((0.915, 0, 1, 1), BLUE)
        right = 0.9
    words = _any(
        rng,
        "AA 000 AA",
        "A AA 0000",
        "AA-00-00",
        "00-AAA-0",
        "0 AA 0000",
        "AAA 000",
        "AA 00000",
        "AA AA 000",
        "0000 AAA",
    )
    plate.text(words, (left, 0.14, right, 0.86), BLACK if rng.random() < 0.95 else (150, 20, 20))
    if rng.random() < 0.7:
        plate.border(BLACK, int(rng.integers(1, 4)))
    return plate


def european_two_lines(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """280 x 200 or 340 x 220 mm."""
    plate = _canvas(
        rng, fonts, float(rng.choice([280 / 200, 340 / 220, 255 / 165])), WHITE if rng.random() < 0.8 else YELLOW, 150
    )
    left = 0.04
    if rng.random() < 0.6:
        plate.fill((0, 0, 0.14, 0.5), BLUE)
        left = 0.16
    plate.text(_any(rng, "AA", "AAA", "00", "A 00", "AA 0"), (left, 0.08, 0.94, 0.46), BLACK)
    plate.text(_any(rng, "AA 000", "0000", "AAA 0", "00 AA", "A 0000"), (0.05, 0.54, 0.95, 0.92), BLACK)
    plate.border(BLACK, int(rng.integers(1, 4)))
    return plate


def british(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """White at the front, yellow at the rear."""
    plate = _canvas(rng, fonts, 520 / 111, YELLOW if rng.random() < 0.6 else WHITE)
    left = 0.03
    if rng.random() < 0.4:
        plate.fill((0, 0, 0.08, 1), BLUE)
        left = 0.1
    plate.text(_any(rng, "AA00 AAA", "A000 AAA", "AAA 000A", "AA 0000"), (left, 0.14, 0.97, 0.86), BLACK)
    return plate


def american(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """12 x 6 inches: a picture or a gradient, a state's name above, a motto below."""
    plate = _canvas(rng, fonts, 2.0, WHITE, 128)
    width, height = plate.size
    if rng.random() < 0.6:
        top, bottom = rng.integers(120, 256, 3), rng.integers(150, 256, 3)
        share = np.linspace(0, 1, height)[:, None, None]
        shade = np.broadcast_to(top * (1 - share) + bottom * share, (height, width, 3)).astype(np.uint8)
        plate.image.paste(Image.fromarray(shade))
    if rng.random() < 0.2:
        plate.fill((0, 0, 1, 1), tuple(int(v) for v in rng.integers(0, 130, 3)))  # type: ignore[arg-type]
    dark = np.asarray(plate.image).mean() < 110
    ink: Colour = (240, 240, 235) if dark else tuple(int(v) for v in rng.integers(0, 110, 3))  # type: ignore[assignment]
    small: Colour = ink if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(0, 150, 3))  # type: ignore[assignment]
    plate.text(_letters(rng, "A" * int(rng.integers(4, 11))), (0.2, 0.04, 0.8, 0.22), small)
    plate.text(
        _any(rng, "AAA 0000", "0AAA000", "AAA-000", "000 AAA", "AA 00000", "AAA0000"), (0.05, 0.28, 0.95, 0.76), ink
    )
    if rng.random() < 0.7:
        plate.text(_letters(rng, "AAAA AAAAA"), (0.22, 0.82, 0.78, 0.95), small)
    if rng.random() < 0.4:
        plate.border(ink, 2)
    for x, y in ((0.03, 0.04), (0.86, 0.04), (0.03, 0.8), (0.86, 0.8)):
        if rng.random() < 0.25:
            plate.fill((x, y, x + 0.1, y + 0.15), tuple(int(v) for v in rng.integers(40, 256, 3)))  # type: ignore[arg-type]
    return plate


def mercosur(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """400 x 130 mm, a blue band along the top."""
    plate = _canvas(rng, fonts, 400 / 130, WHITE, 110)
    plate.fill((0, 0, 1, 0.23), (10, 50, 140))
    plate.text(str(rng.choice(["BRASIL", "ARGENTINA", "URUGUAY", "PARAGUAY"])), (0.3, 0.04, 0.7, 0.2), WHITE)
    plate.text(_any(rng, "AAA0A00", "AA 000 AA", "AAA 0000"), (0.05, 0.32, 0.95, 0.92), BLACK)
    plate.border(BLACK, 1)
    return plate


def indian(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """White for private cars, yellow for trade, green for electric ones; one or two lines."""
    colour = [WHITE, YELLOW, (40, 130, 60)][int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
    ink = BLACK if colour != (40, 130, 60) else WHITE
    two = rng.random() < 0.4
    plate = _canvas(rng, fonts, 340 / 200 if two else 500 / 120, colour, 150 if two else HEIGHT_PX)
    if two:
        plate.text(_any(rng, "AA 00 A", "AA 00"), (0.08, 0.08, 0.95, 0.47), ink)
        plate.text(_any(rng, "0000", "A 0000"), (0.08, 0.53, 0.95, 0.92), ink)
    else:
        plate.text(_any(rng, "AA 00 AA 0000", "AA00A0000"), (0.06, 0.16, 0.97, 0.84), ink)
    if rng.random() < 0.6:
        plate.border(ink, 2)
    return plate


def chinese(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """440 x 140 mm: white on blue, or black on green fading to white, or black on yellow."""
    kind = int(rng.choice(3, p=[0.55, 0.3, 0.15]))
    plate = _canvas(rng, fonts, 440 / 140, [(20, 60, 170), (110, 200, 130), YELLOW][kind])
    if kind == 1:
        width, height = plate.size
        share = np.linspace(1, 0, height)[:, None, None]
        shade = np.array((240, 245, 240)) * share + np.array((70, 190, 110)) * (1 - share)
        plate.image.paste(Image.fromarray(np.broadcast_to(shade, (height, width, 3)).astype(np.uint8)))
    ink = WHITE if kind == 0 else BLACK
    plate.text(str(rng.choice(list(CHINESE))), (0.03, 0.12, 0.15, 0.88), ink, cjk=True)
    plate.text(_letters(rng, "A"), (0.16, 0.12, 0.27, 0.88), ink)
    plate.text("·", (0.27, 0.4, 0.32, 0.6), ink)
    plate.text(_any(rng, "00000", "A0000", "0AA00", "A00A00" if kind == 1 else "000A0"), (0.33, 0.12, 0.97, 0.88), ink)
    plate.border(ink, 2, 3)
    return plate


def japanese(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """330 x 165 mm: a place and a class above, a kana and four digits below; green, white or black ink."""
    paper, ink = [(WHITE, (20, 90, 60)), ((20, 90, 60), WHITE), (YELLOW, BLACK), (BLACK, YELLOW)][
        int(rng.choice(4, p=[0.6, 0.1, 0.25, 0.05]))
    ]
    plate = _canvas(rng, fonts, 2.0, paper, 128)
    plate.text(str(rng.choice(JAPANESE_PLACES)) + _letters(rng, " 000"), (0.2, 0.06, 0.8, 0.32), ink, cjk=True)
    plate.text(str(rng.choice(list(JAPANESE))), (0.04, 0.5, 0.16, 0.8), ink, cjk=True)
    plate.text(_any(rng, "00-00", "·0-00", "··00"), (0.18, 0.36, 0.96, 0.92), ink)
    if rng.random() < 0.5:
        plate.border(ink, 2)
    return plate


def square(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """Motorcycles and small trailers: two or three short lines on nearly a square."""
    paper, ink = [(WHITE, BLACK), (YELLOW, BLACK), (BLACK, WHITE), (WHITE, (160, 20, 20)), ((30, 70, 160), WHITE)][
        int(rng.choice(5, p=[0.5, 0.2, 0.12, 0.1, 0.08]))
    ]
    plate = _canvas(rng, fonts, float(rng.uniform(0.95, 1.35)), paper, 140)
    lines = 3 if rng.random() < 0.15 else 2
    for n in range(lines):
        top = 0.07 + n * 0.88 / lines
        plate.text(_any(rng, "AA 0", "AAA", "000", "0000", "00 AA"), (0.07, top, 0.93, top + 0.8 / lines), ink)
    if rng.random() < 0.6:
        plate.border(ink, 2)
    return plate


def dark(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """White or silver on black, red, green or blue: old, trade, diplomatic, and south-east Asian plates."""
    paper = [(18, 18, 20), (140, 20, 25), (15, 80, 45), (25, 55, 140)][int(rng.choice(4, p=[0.6, 0.15, 0.1, 0.15]))]
    plate = _canvas(rng, fonts, float(rng.uniform(2.0, 4.8)), paper)
    plate.text(_any(rng, "AAA 0000", "A 0000 AA", "AA 000", "000 AA", "A 000 AAA"), (0.05, 0.14, 0.95, 0.86), WHITE)
    if rng.random() < 0.6:
        plate.border(WHITE, 2)
    return plate


def arabic(rng: np.random.Generator, fonts: Fonts) -> Canvas:
    """A strip at one side, digits of two scripts."""
    plate = _canvas(rng, fonts, float(rng.choice([520 / 110, 335 / 155, 520 / 110])), WHITE, 110)
    plate.fill((0.86, 0, 1, 1), tuple(int(v) for v in rng.integers(20, 200, 3)))  # type: ignore[arg-type]
    plate.text(_any(rng, "0 00000", "0000 AAA", "00 000"), (0.04, 0.5, 0.84, 0.92), BLACK)
    digits = "".join(rng.choice(list(ARABIC_DIGITS)) for _ in range(int(rng.integers(3, 6))))
    plate.text(digits, (0.04, 0.08, 0.84, 0.48), BLACK)
    plate.border(BLACK, 2)
    return plate


DESIGNS: dict[str, tuple[Callable[[np.random.Generator, Fonts], Canvas], float]] = {
    "european": (european, 0.28),
    "european_two_lines": (european_two_lines, 0.08),
    "british": (british, 0.09),
    "american": (american, 0.14),
    "mercosur": (mercosur, 0.06),
    "indian": (indian, 0.08),
    "chinese": (chinese, 0.07),
    "japanese": (japanese, 0.05),
    "square": (square, 0.07),
    "dark": (dark, 0.05),
    "arabic": (arabic, 0.03),
}


def plate(rng: np.random.Generator, fonts: Fonts, design: str | None = None) -> Picture:
    """A plate, (H, W, 3) RGB, with screws, a holder, dirt and wear."""
    names = list(DESIGNS)
    shares = np.array([DESIGNS[name][1] for name in names])
    chosen = design or names[rng.choice(len(names), p=shares / shares.sum())]
    return _worn(np.asarray(DESIGNS[chosen][0](rng, fonts).image).copy(), rng)


def _worn(flat: Picture, rng: np.random.Generator) -> Picture:
    height, width, _ = flat.shape
    values = flat.astype(np.float32)
    if rng.random() < 0.5:  # light from one side
        ramp = np.linspace(rng.uniform(0.65, 1.1), rng.uniform(0.65, 1.1), width)[None, :, None]
        values *= ramp * np.linspace(rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.1), height)[:, None, None]
    if rng.random() < 0.4:  # embossed letters throw a shadow
        luma = values.mean(axis=2)
        edge = cv2.GaussianBlur(luma - np.roll(luma, (1, 1), (0, 1)), (3, 3), 0)
        values += edge[..., None] * rng.uniform(-0.5, 0.5)
    if rng.random() < 0.45:  # dirt in soft blots
        coarse = rng.random((int(rng.integers(2, 6)), int(rng.integers(3, 12)))).astype(np.float32)
        dirt = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
        colour = rng.uniform(40, 130, 3)
        share = np.clip(dirt - rng.uniform(0.3, 0.8), 0, 1) * rng.uniform(0.4, 1.6)
        values = values * (1 - share) + colour * share
    if rng.random() < 0.12:  # glare
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        across, down = np.arange(width) - x, (np.arange(height) - y)[:, None]
        reach = rng.uniform(0.2, 0.7) * width
        values += (np.exp(-(across**2 + (2 * down) ** 2) / reach**2) * rng.uniform(60, 255))[..., None]
    worn = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        for x in (rng.uniform(0.04, 0.25), rng.uniform(0.75, 0.96)):
            place = (int(x * width), int(rng.choice([0.08, 0.5, 0.9], p=[0.4, 0.3, 0.3]) * height))
            shade = int(rng.integers(60, 230))
            cv2.circle(
                worn, place, max(int(height * rng.uniform(0.02, 0.06)), 1), (shade, shade, shade), -1, cv2.LINE_AA
            )
    return worn


def sign(rng: np.random.Generator, fonts: Fonts) -> Picture:
    """What looks like a plate and is none: street and shop signs, telephone numbers, stickers, clocks of cameras."""
    kind = int(rng.integers(0, 5))
    paper, ink = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
    if kind == 0:  # a shop front: a long word
        canvas = _canvas(rng, fonts, float(rng.uniform(4, 9)), paper)  # type: ignore[arg-type]
        canvas.text(_letters(rng, "A" * int(rng.integers(5, 14))), (0.04, 0.1, 0.96, 0.9), ink)  # type: ignore[arg-type]
    elif kind == 1:  # a telephone number or an address on a van
        canvas = _canvas(rng, fonts, float(rng.uniform(6, 10)), paper)  # type: ignore[arg-type]
        canvas.text(
            _any(rng, "0000 000 000", "(000) 000-0000", "www.AAAAAA.AA", "00 00 00 00 00"), (0.02, 0.1, 0.98, 0.9), ink
        )  # type: ignore[arg-type]
    elif kind == 2:  # a street sign of several lines
        canvas = _canvas(rng, fonts, float(rng.uniform(0.8, 2.5)), paper, 160)  # type: ignore[arg-type]
        lines = int(rng.integers(3, 6))
        for n in range(lines):
            words = _letters(rng, "A" * int(rng.integers(3, 12)))
            canvas.text(words, (0.08, 0.05 + n * 0.9 / lines, 0.92, 0.05 + (n + 0.75) * 0.9 / lines), ink)  # type: ignore[arg-type]
    elif kind == 3:  # the camera's clock: digits on what is there, or on black
        canvas = _canvas(rng, fonts, float(rng.uniform(7, 12)), BLACK)
        canvas.text(_letters(rng, "0000-00-00 00:00:00"), (0.01, 0.1, 0.99, 0.9), WHITE)
    else:  # a round or empty sign
        canvas = _canvas(rng, fonts, float(rng.uniform(0.9, 3.0)), paper, 120)  # type: ignore[arg-type]
        if rng.random() < 0.5:
            canvas.text(_any(rng, "00", "000", "STOP", "A"), (0.25, 0.25, 0.75, 0.75), ink)  # type: ignore[arg-type]
        canvas.border(ink, int(rng.integers(2, 8)))  # type: ignore[arg-type]
    return np.asarray(canvas.image).copy()
