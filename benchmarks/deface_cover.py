"""Runs inside deface's own environment: the share of every labelled box that its default redaction covers.

    python deface_cover.py ANNOTATIONS.json RESULT.json

Detection and drawing are deface's own functions with its default arguments. Its drawing is applied to black-and-white
noise, where every redacted pixel turns grey: that is the mask.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import imageio.v2 as iio
import numpy as np
from deface.centerface import CenterFace
from deface.deface import anonymize_frame


def main(annotations: Path, result: Path) -> None:
    labels = json.loads(annotations.read_text())
    boxes: dict[int, list[list[float]]] = {}
    for annotation in labels["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    centerface = CenterFace(in_shape=None, backend="onnxrt")
    covers, redacted, seconds = [], [], 0.0
    rng = np.random.default_rng(0)
    for image in labels["images"]:
        picture = np.ascontiguousarray(iio.imread(annotations.parent / image["file_name"])[..., :3])
        start = time.perf_counter()
        detections, _ = centerface(picture, threshold=0.2)
        seconds += time.perf_counter() - start
        noise = np.repeat(rng.integers(0, 2, picture.shape[:2], np.uint8)[..., None] * 255, 3, axis=2)
        drawn = noise.copy()
        anonymize_frame(
            detections, drawn, mask_scale=1.3, replacewith="blur", ellipse=True, draw_scores=False, replaceimg=None,
            mosaicsize=20,
        )  # fmt: skip
        mask = (drawn != noise).any(axis=2)
        redacted.append(float(mask.mean()))
        for x, y, w, h in boxes.get(image["id"], []):
            x0, y0, x1, y1 = (round(v) for v in (x, y, x + w, y + h))
            inside = mask[max(y0, 0) : y1, max(x0, 0) : x1]
            covers.append(float(inside.mean()) if inside.size else 0.0)
    figures = {
        "covers": covers,
        "redacted_share": float(np.mean(redacted)),
        "ms_per_image": 1000 * seconds / len(labels["images"]),
    }
    result.write_text(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
