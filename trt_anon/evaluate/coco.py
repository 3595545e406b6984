"""COCO JSON: `images`, `annotations` with `bbox` [x, y, width, height], `categories`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trt_anon.errors import InputError
from trt_anon.evaluate.dataset import RawImage, RawObject, inside
from trt_anon.label_files import box_of, load_json, take, unique


def read_coco(path: Path, images: Path | None) -> tuple[list[RawImage], dict[int, tuple[str, str]]]:
    """Images, and the categories' names and supercategories by id.

    images: the folder that file names are relative to; None is the label file's. Raises InputError, which names the
    entry, for anything that is not as the format says.
    """
    raw = load_json(path)
    folder = path.parent if images is None else images
    if not isinstance(raw, dict) or not all(
        isinstance(raw.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise InputError(f"{path}: COCO labels are an object with the lists images, annotations and categories")
    categories: dict[int, tuple[str, str]] = {}
    for number, entry in enumerate(raw["categories"]):
        where = f"{path}: categories[{number}]"
        key = take(entry, "id", int, where)
        unique(categories, key, where)
        supercategory = entry.get("supercategory")
        categories[key] = (
            take(entry, "name", str, where),
            supercategory if isinstance(supercategory, str) else "",
        )
    objects: dict[int, list[RawObject]] = {}
    heads: dict[int, tuple[str, tuple[int, int] | None]] = {}
    for number, entry in enumerate(raw["images"]):
        where = f"{path}: images[{number}]"
        key = take(entry, "id", int, where)
        unique(heads, key, where)
        size = None
        if entry.get("width") is not None or entry.get("height") is not None:
            size = (take(entry, "width", int, where), take(entry, "height", int, where))
            if min(size) < 1:
                raise InputError(f"{where}: width and height must be positive")
        heads[key] = (take(entry, "file_name", str, where), size)
        objects[key] = []
    for number, entry in enumerate(raw["annotations"]):
        where = f"{path}: annotations[{number}]"
        image = take(entry, "image_id", int, where)
        category = take(entry, "category_id", int, where)
        if image not in objects:
            raise InputError(f"{where}: there is no image with the id {image}")
        if category not in categories:
            raise InputError(f"{where}: there is no category with the id {category}")
        name, supercategory = categories[category]
        identity = entry.get("id")
        objects[image].append(
            RawObject(
                box_of(entry, where),
                name,
                supercategory,
                ignore=_flag(entry, "ignore", where),
                crowd=_flag(entry, "iscrowd", where),
                key=identity if isinstance(identity, int) else None,
            )
        )
    found = [
        RawImage(name, inside(folder, name, f"{path}: images"), tuple(objects[key]), size, key)
        for key, (name, size) in heads.items()
    ]
    return found, categories


def _flag(entry: Mapping[str, Any], name: str, where: str) -> bool:
    value = entry.get(name, 0)
    if value not in (0, 1):
        raise InputError(f"{where}: {name!r} must be 0 or 1")
    return bool(value)
