"""CVAT's XML, for videos and for images: its shapes as regions by hand.

Labels say what is done: `keep` and `ignore` are those actions, every other label is redacted. A track's shapes are the
keyframes of one region; a video's times are numbers of frames.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from trt_anon.config import validated
from trt_anon.errors import InputError
from trt_anon.regions.schema import RegionsConfig, labelled
from trt_anon.regions.timeline import only_file

_SHAPES = ("box", "polygon", "ellipse")


def regions_of_cvat(root: ElementTree.Element, path: Path) -> RegionsConfig:
    """The regions in an export `CVAT for video` or `CVAT for images`. Raises InputError, ConfigError."""
    if root.tag != "annotations":
        raise InputError(f"{path}: expected CVAT's <annotations>, found <{root.tag[:40]}>")
    regions = [_track(track, f"{path}, track {n}") for n, track in enumerate(root.iter("track"))]
    for image in root.iter("image"):
        name = image.get("name")
        if not name:
            raise InputError(f"{path}: an <image> has no name")
        regions += [
            {**_labelled(element), "files": [only_file(name)], **_shape(element, f"{path}, image {name}")}
            for element in image
            if _known(element, f"{path}, image {name}")
        ]
    if not regions:
        raise InputError(f"{path}: no boxes, polygons or ellipses; export as `CVAT for video` or `CVAT for images`")
    return validated(RegionsConfig, {"time_unit": "frames", "regions": regions}, str(path))


def _labelled(element: ElementTree.Element) -> dict[str, str]:
    return labelled((element.get("label") or "").strip())


def _known(element: ElementTree.Element, where: str) -> bool:
    if element.tag in _SHAPES:
        return True
    if element.tag in ("tag", "attribute"):
        return False
    raise InputError(f"{where}: <{element.tag[:40]}> is no area; boxes, polygons and ellipses are")


def _track(track: ElementTree.Element, where: str) -> dict[str, Any]:
    keys: list[dict[str, Any]] = []
    for element in track:
        if not _known(element, where):
            continue
        at = _number(element, "frame", where)
        if element.get("outside") == "1":
            keys.append({"at": at, "outside": True})
        else:
            keys.append({"at": at, **_shape(element, where)})
    if not keys:
        raise InputError(f"{where}: has no shapes")
    keys.sort(key=lambda key: float(key["at"]))
    for before, after in pairwise(keys):
        # between polygons of other numbers of corners, CVAT's own way is not written in the file
        if not (before.get("outside") or after.get("outside")) and _corners(before) != _corners(after):
            before["hold"] = True
    return {**_labelled(track), "keyframes": keys}


def _corners(key: dict[str, Any]) -> tuple[str, int]:
    return next((name, len(key[name]) if name == "polygon" else 0) for name in _SHAPES if name in key)


def _shape(element: ElementTree.Element, where: str) -> dict[str, Any]:
    if _number(element, "rotation", where, default=0.0) % 360:
        return {"polygon": _turned(element, where)}
    if element.tag == "box":
        return {"box": [_number(element, name, where) for name in ("xtl", "ytl", "xbr", "ybr")]}
    if element.tag == "ellipse":
        x, y, rx, ry = (_number(element, name, where) for name in ("cx", "cy", "rx", "ry"))
        return {"ellipse": [x - rx, y - ry, x + rx, y + ry]}
    try:
        points = [[float(v) for v in pair.split(",")] for pair in (element.get("points") or "").split(";")]
    except ValueError as error:
        raise InputError(f"{where}: a polygon's points are not numbers") from error
    if any(len(point) != 2 for point in points):
        raise InputError(f"{where}: a polygon's points are not pairs")
    return {"polygon": points}


def _turned(element: ElementTree.Element, where: str) -> list[list[float]]:
    """A turned box, or the box around a turned ellipse, as a polygon."""
    if element.tag == "polygon":
        raise InputError(f"{where}: a polygon with a rotation; CVAT writes none")
    shape = _shape(_unturned(element), where)
    x0, y0, x1, y1 = shape.get("box") or shape["ellipse"]
    angle = math.radians(_number(element, "rotation", where))
    cx, cy, cos, sin = (x0 + x1) / 2, (y0 + y1) / 2, math.cos(angle), math.sin(angle)
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return [
        [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos] for x, y in corners
    ]  # y runs down: clockwise, as CVAT turns


def _unturned(element: ElementTree.Element) -> ElementTree.Element:
    return ElementTree.Element(element.tag, {k: v for k, v in element.attrib.items() if k != "rotation"})


def _number(element: ElementTree.Element, name: str, where: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError as error:
        raise InputError(f"{where}: <{element.tag}> has no number {name!r}") from error
    if not math.isfinite(value):
        raise InputError(f"{where}: <{element.tag}> has a {name!r} that is not finite")
    return value
