"""Detections from a file instead of a detector: COCO results, or what `trt-anon detect` writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from trt_anon.errors import InputError
from trt_anon.evaluate.dataset import ClassMap, LabelledImage, LabelSet
from trt_anon.label_files import box_of, load_json, take, unique
from trt_anon.types import Detections

_Row = tuple[tuple[float, float, float, float], float, int]


def read_detections(path: str | Path, labels: LabelSet, class_map: ClassMap | None = None) -> list[Detections]:
    """The detections of each labelled image, in the labels' order, best score first.

    A list is COCO's results format: its image and category ids are those of COCO labels, and an image without an entry
    has no detection. An object with `images`, `annotations` and `categories` is what `trt-anon detect` writes: its
    images are found by file name, and a labelled image that it does not name is an error, since nobody looked at it.
    Raises InputError, which names the entry.
    """
    path = Path(path)
    raw = load_json(path)
    if isinstance(raw, list):
        rows = _results(raw, labels, path)
    elif isinstance(raw, dict) and all(isinstance(raw.get(k), list) for k in ("images", "annotations", "categories")):
        rows = _detected(raw, labels, class_map or ClassMap(), path)
    else:
        raise InputError(f"{path}: expected a list of COCO results, or what `trt-anon detect` writes")
    return [_detections(rows.get(number, ()), labels.class_names) for number in range(len(labels.images))]


def _results(raw: list[Any], labels: LabelSet, path: Path) -> dict[int, list[_Row]]:
    numbers = {image.key: number for number, image in enumerate(labels.images) if image.key is not None}
    if not numbers:
        raise InputError(f"{path}: COCO results name images by the ids of COCO labels, and these labels have none")
    rows: dict[int, list[_Row]] = defaultdict(list)
    taken = 0
    for place, entry in enumerate(raw):
        where = f"{path}: [{place}]"
        image = take(entry, "image_id", int, where)
        if image not in numbers:
            raise InputError(f"{where}: the labels have no image with the id {image}")
        class_id = labels.categories.get(take(entry, "category_id", int, where), -1)
        row = (box_of(entry, where), _score(entry, where), class_id)
        if class_id >= 0:
            rows[numbers[image]].append(row)
            taken += 1
    if raw and not taken:
        raise InputError(f"{path}: none of its category ids is one of the labels' {', '.join(labels.class_names)}")
    return rows


def _detected(raw: Mapping[str, Any], labels: LabelSet, class_map: ClassMap, path: Path) -> dict[int, list[_Row]]:
    classes: dict[int, int] = {}
    for place, entry in enumerate(raw["categories"]):
        where = f"{path}: categories[{place}]"
        key = take(entry, "id", int, where)
        unique(classes, key, where)
        meaning = class_map(take(entry, "name", str, where))
        classes[key] = labels.class_names.index(meaning) if meaning in labels.class_names else -1
    files: dict[int, str] = {}
    for place, entry in enumerate(raw["images"]):
        where = f"{path}: images[{place}]"
        key = take(entry, "id", int, where)
        unique(files, key, where)
        if entry.get("frame_index", 0) != 0:
            raise InputError(f"{where}: is a later frame of a video or animation; labels are of single images")
        files[key] = take(entry, "file_name", str, where)
    numbers = _pair(files, labels.images, path)
    rows: dict[int, list[_Row]] = defaultdict(list)
    for place, entry in enumerate(raw["annotations"]):
        where = f"{path}: annotations[{place}]"
        image, category = take(entry, "image_id", int, where), take(entry, "category_id", int, where)
        if image not in files or category not in classes:
            raise InputError(f"{where}: names an image or category that the file does not have")
        row = (box_of(entry, where), _score(entry, where), classes[category])
        if image in numbers and classes[category] >= 0:
            rows[numbers[image]].append(row)
    return rows


def _pair(files: Mapping[int, str], images: Sequence[LabelledImage], path: Path) -> dict[int, int]:
    """The labelled image of each detected one: by the same file, else by a name that ends in the labels' name."""
    by_path = {str(Path(name).resolve()): key for key, name in files.items()}
    by_name: dict[str, list[int]] = defaultdict(list)
    for key, name in files.items():
        by_name[PurePath(name).name].append(key)
    numbers: dict[int, int] = {}
    for number, image in enumerate(images):
        found = by_path.get(str(image.path.resolve()))
        if found is None:
            wanted = PurePath(image.name).parts
            fits = [k for k in by_name[wanted[-1]] if PurePath(files[k]).parts[-len(wanted) :] == wanted]
            if len(fits) != 1:
                problem = "does not name" if not fits else "names more than once"
                raise InputError(f"{path}: {problem} the labelled image {image.name}")
            found = fits[0]
        if found in numbers:
            raise InputError(f"{path}: one of its images is that of several labelled ones: {image.name}")
        numbers[found] = number
    return numbers


def _score(entry: Any, where: str) -> float:
    score = entry.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise InputError(f"{where}: 'score' is missing or not a number from 0 to 1")
    return float(score)


def _detections(rows: Sequence[_Row], class_names: tuple[str, ...]) -> Detections:
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float32)
    class_ids = np.array([row[2] for row in rows], np.int32)
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order], class_ids[order], class_names)
