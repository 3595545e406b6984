"""Regions by hand from a file: our own JSON, CVAT's XML or COCO's JSON, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trt_anon._optional import require
from trt_anon.config import validated
from trt_anon.detect.contours import outline
from trt_anon.errors import ConfigError, InputError
from trt_anon.job.regions_coco import regions_of_coco
from trt_anon.job.regions_cvat import regions_of_cvat
from trt_anon.label_files import load_json, load_xml
from trt_anon.regions.schema import RegionsConfig

MAX_MASK_PX = 1 << 26
"""A mask may have this many pixels: more than an 8K frame."""


def read_regions(path: str | Path) -> RegionsConfig:
    """The regions in a file. Masks become the outlines of what is in them, holes filled.

    Raises InputError where the file cannot be read, ConfigError where it says what makes no sense, naming the place.
    """
    path = Path(path)
    if path.suffix.lower() == ".xml":
        return regions_of_cvat(load_xml(path), path)
    raw = load_json(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected an object with `regions`, found {type(raw).__name__}")
    if "annotations" in raw and "images" in raw:
        return regions_of_coco(raw, path)
    return validated(RegionsConfig, _with_outlines(raw, path), str(path))


def _with_outlines(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """The file's contents with every `mask` replaced by its outline."""
    regions = raw.get("regions")
    if not isinstance(regions, list):
        return raw
    relative = raw.get("coordinates") == "relative"
    replaced = []
    for number, region in enumerate(regions):
        where = f"{path}: regions[{number}]"
        if isinstance(region, dict):
            region = _outlined(region, path, where, relative=relative)
            keys = region.get("keyframes")
            if isinstance(keys, list):
                region["keyframes"] = [
                    _outlined(key, path, f"{where}.keyframes[{place}]", relative=relative)
                    if isinstance(key, dict)
                    else key
                    for place, key in enumerate(keys)
                ]
        replaced.append(region)
    return {**raw, "regions": replaced}


def _outlined(entry: dict[str, Any], path: Path, where: str, *, relative: bool) -> dict[str, Any]:
    if "mask" not in entry:
        return dict(entry)
    name = entry["mask"]
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"{where}: `mask` is the name of an image file")
    if any(shape in entry for shape in ("box", "ellipse", "polygon", "polygons")):
        raise ConfigError(f"{where}: give a mask or a shape, not both")
    points, (height, width) = _mask_outline(path.parent / name, where)
    scale = (1 / width, 1 / height) if relative else (1.0, 1.0)
    rest = {key: value for key, value in entry.items() if key != "mask"}
    return {**rest, "polygon": [[x * scale[0], y * scale[1]] for x, y in points]}


def _mask_outline(file: Path, where: str) -> tuple[list[list[float]], tuple[int, int]]:
    """The outline of what is white, or opaque, in an image; and the image's (height, width)."""
    image = require("PIL.Image", "reading a mask")
    try:
        with image.open(file) as picture:
            if picture.width * picture.height > MAX_MASK_PX:
                raise ConfigError(f"{where}: the mask {file.name} is larger than {MAX_MASK_PX >> 20} million pixels")
            channel = picture.getchannel("A") if "A" in picture.getbands() else picture.convert("L")
            mask = np.asarray(channel) >= 128
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise InputError(f"{where}: the mask {file.name} cannot be read") from error
    if not mask.any():
        raise ConfigError(f"{where}: nothing is white (or opaque) in the mask {file.name}")
    return outline(mask).tolist(), mask.shape


def json_schema() -> dict[str, Any]:
    """The JSON schema of our own format; `mask`, the name of an image file, may stand for a shape."""
    return RegionsConfig.model_json_schema()
