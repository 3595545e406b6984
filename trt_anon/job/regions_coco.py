"""COCO JSON as regions by hand: every annotation is an area of its image, or of one frame of its video.

The category says what is done: `keep` and `ignore` are those actions, every other category is redacted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trt_anon.config import validated
from trt_anon.errors import InputError
from trt_anon.label_files import box_of, take, unique
from trt_anon.regions.schema import RegionsConfig, labelled
from trt_anon.regions.timeline import only_file


def regions_of_coco(raw: dict[str, Any], path: Path) -> RegionsConfig:
    """The regions of a COCO file; images with a `frame_index` are frames of the video that they name.

    Polygons of `segmentation` are taken before `bbox`; run lengths are not, since `bbox` holds what they say. Raises
    InputError, ConfigError.
    """
    for name in ("images", "annotations", "categories"):
        if not isinstance(raw.get(name), list):
            raise InputError(f"{path}: COCO JSON has a list `{name}`")
    names: dict[int, str] = {}
    for place, entry in enumerate(raw["categories"]):
        where = f"{path}: categories[{place}]"
        key = take(entry, "id", int, where)
        unique(names, key, where)
        names[key] = take(entry, "name", str, where)
    images: dict[int, dict[str, Any]] = {}
    for place, entry in enumerate(raw["images"]):
        where = f"{path}: images[{place}]"
        key = take(entry, "id", int, where)
        unique(images, key, where)
        images[key] = {"files": [only_file(take(entry, "file_name", str, where))]}
        if entry.get("frame_index") is not None:
            frame = take(entry, "frame_index", int, where)
            images[key] |= {"start": frame, "end": frame}
    regions = []
    for place, entry in enumerate(raw["annotations"]):
        where = f"{path}: annotations[{place}]"
        image, category = take(entry, "image_id", int, where), take(entry, "category_id", int, where)
        if image not in images or category not in names:
            raise InputError(f"{where}: names an image or category that the file does not have")
        regions.append({**labelled(names[category]), **images[image], **_shape(entry, where)})
    return validated(RegionsConfig, {"time_unit": "frames", "regions": regions}, str(path))


def _shape(entry: dict[str, Any], where: str) -> dict[str, Any]:
    outlines = entry.get("segmentation")
    if isinstance(outlines, list) and outlines:
        polygons = []
        for flat in outlines:
            if not isinstance(flat, list) or len(flat) < 6 or len(flat) % 2:
                raise InputError(f"{where}: a polygon of `segmentation` is x, y, x, y... of at least three corners")
            polygons.append(list(zip(flat[::2], flat[1::2], strict=True)))
        return {"polygons": polygons}
    return {"box": list(box_of(entry, where))}
