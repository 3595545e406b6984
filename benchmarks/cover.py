"""The share of labelled boxes that this library's redaction covers, on a folder with COCO labels."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trt_anon import Anonymizer


def measure_cover(annotations: Path, **options: Any) -> dict[str, Any]:
    """Cover of every labelled box under the final regions, by redacting black-and-white noise in the picture's place.

    Gives `covers` (one share per box), `redacted_share` (of pixels, mean over images) and `ms_per_image` (detection).
    """
    labels = json.loads(annotations.read_text())
    boxes: dict[int, list[list[float]]] = {}
    for annotation in labels["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    covers, redacted, seconds = [], [], 0.0
    rng = np.random.default_rng(0)
    with Anonymizer(**options) as anonymizer:
        for image in labels["images"]:
            picture = np.asarray(Image.open(annotations.parent / image["file_name"]).convert("RGB"))
            start = time.perf_counter()
            found = anonymizer.detect([picture])
            seconds += time.perf_counter() - start
            noise = np.repeat(rng.integers(0, 2, picture.shape[:2], np.uint8)[..., None] * 255, 3, axis=2)
            mask = (anonymizer.redact([noise], found)[0] != noise).any(axis=2)
            redacted.append(float(mask.mean()))
            for x, y, w, h in boxes.get(image["id"], []):
                x0, y0, x1, y1 = (round(v) for v in (x, y, x + w, y + h))
                inside = mask[max(y0, 0) : y1, max(x0, 0) : x1]
                covers.append(float(inside.mean()) if inside.size else 0.0)
    return {
        "covers": covers,
        "redacted_share": float(np.mean(redacted)),
        "ms_per_image": 1000 * seconds / len(labels["images"]),
    }
