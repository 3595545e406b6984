"""The real photographs and how they are divided: every real plate is judged by a network that has not seen its picture."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scenes import Photo

FOLDS = 3
CAR_SETS = ("carplate433", "robertlucian_train", "robertlucian107")
NEGATIVE_SETS = ("facemask853", "coco34")
_DRIVES = {"dayride_type1_001": 0, "dayride_type1_002": 1, "dayride_type1_003": 1, "nightride_type3_001": 2}


def fold_of(name: str) -> int:
    """The fold that a picture is judged in: by its drive, or by its name where it stands alone."""
    drive = re.match(r"(\w+?_type\d_\d+)", Path(name).name)
    if drive:
        return _DRIVES.get(drive.group(1), zlib.crc32(drive.group(1).encode()) % FOLDS)
    return zlib.crc32(Path(name).name.encode()) % FOLDS


def load_set(folder: Path, *, with_boxes: bool = True) -> list[Photo]:
    """The photographs of a COCO file; without boxes, those of a set that has no plates."""
    labels = json.loads((folder / "annotations.json").read_text())
    boxes: dict[int, list[list[float]]] = {}
    for entry in labels["annotations"]:
        boxes.setdefault(entry["image_id"], []).append(entry["bbox"])
    photos = []
    for image in labels["images"]:
        pixels = np.asarray(Image.open(folder / image["file_name"]).convert("RGB"))
        found = [(x, y, x + w, y + h) for x, y, w, h in boxes.get(image["id"], [])] if with_boxes else []
        photos.append(Photo(pixels, np.array(found, np.float32).reshape(-1, 4), f"{folder.name}/{image['file_name']}"))
    return photos


def load_cars(data: Path) -> list[Photo]:
    return [photo for name in CAR_SETS for photo in load_set(data / "data" / "plates" / name)]


def load_others(data: Path) -> tuple[list[Photo], list[Photo]]:
    """Pictures without plates: (for training, for counting false positives)."""
    photos = [p for name in NEGATIVE_SETS for p in load_set(data / "data" / "faces" / name, with_boxes=False)]
    judged = [photo for photo in photos if zlib.crc32(photo.name.encode()) % 2 == 0]
    return [photo for photo in photos if zlib.crc32(photo.name.encode()) % 2], judged
