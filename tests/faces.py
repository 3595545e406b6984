"""A real face in small pictures and clips: scikit-image's astronaut (NASA, public domain)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

SIZE = (384, 256)
"""(width, height) of `picture`."""

FACE = (50.0, 60.0, 142.0, 176.0)
"""A box (x0, y0, x1, y1) that holds the face of `picture`, hair left out; the face is in its middle."""

MATRICES = {
    0: None,
    90: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
}
"""Display matrices that turn the stored picture clockwise by so many degrees to show it."""


def astronaut() -> Picture:
    """The whole picture: (512, 512, 3) RGB."""
    from skimage import data

    return np.ascontiguousarray(data.astronaut())


def picture() -> Picture:
    """(256, 384, 3) RGB with the face left of the middle."""
    return np.ascontiguousarray(astronaut()[:256, 128:])


def stored(upright: Picture, degrees: int) -> Picture:
    """The stored picture that is turned clockwise by `degrees` to be shown as `upright`."""
    return np.ascontiguousarray(np.rot90(upright, degrees // 90))


def face_clip(clips: ModuleType, path: Path, *, degrees: int = 0, pix_fmt: str = "yuv420p", **options: Any) -> Path:
    """A clip of `picture`, fading a little from frame to frame; `options` are those of `clips.make_clip`."""
    import av

    rgb = stored(picture(), degrees)

    def draw(index: int) -> av.VideoFrame:
        faded = (rgb * (1 - 0.01 * (index % 10))).astype(np.uint8)
        return av.VideoFrame.from_ndarray(faded, format="rgb24").reformat(format=pix_fmt)

    height, width, _ = rgb.shape
    return clips.make_clip(
        path, size=(width, height), pix_fmt=pix_fmt, draw=draw, display_matrix=MATRICES[degrees], **options
    )


def luma(path: Path) -> list[NDArray[np.uint8]]:
    """The stored luma plane of every frame of a video."""
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        return [frame.reformat(format="gray").to_ndarray() for frame in container.decode(video=0)]


def times(path: Path) -> list[Fraction]:
    """The presentation time of every frame of a video."""
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def detail(part: NDArray[np.uint8]) -> float:
    """How much fine structure a picture has: the mean absolute difference of neighbours."""
    values = part.astype(np.float64)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())


def crop(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The part of a picture in a box."""
    x0, y0, x1, y1 = (round(v) for v in box)
    return picture[y0:y1, x0:x1]
