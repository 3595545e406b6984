"""Draws the pictures of the documentation from public-domain photographs.

    python docs/make_pictures.py

The face is Eileen Collins, NASA astronaut: the portrait that scikit-image ships (public domain).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut

from trt_anon import Anonymizer

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write `before-after.jpg`: the photograph, and each way of redacting it."""
    picture = np.ascontiguousarray(astronaut())
    panels = [picture]
    for method, shape in (("gaussian", "ellipse"), ("pixelate", "rounded"), ("solid", "box")):
        with Anonymizer(method=method, shape=shape) as anonymizer:
            found = anonymizer.detect([picture])
            panels.append(anonymizer.redact([picture], found)[0])
    gap = np.full((picture.shape[0], 8, 3), 255, np.uint8)
    row = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    Image.fromarray(row).resize((row.shape[1] // 2, row.shape[0] // 2), Image.Resampling.LANCZOS).save(
        IMAGES / "before-after.jpg", quality=85, optimize=True
    )


if __name__ == "__main__":
    main()
