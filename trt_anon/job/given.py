"""Detections from a file in the place of a detector: made elsewhere, or by `trt-anon detect` and edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from trt_anon.errors import InputError
from trt_anon.label_files import box_of, checked_box, load_json, take, unique
from trt_anon.media import MediaInfo
from trt_anon.pipeline.detecting import Ready
from trt_anon.types import Detections, Frame

MAX_SIDE_PX = 1 << 20


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file says of one frame."""

    size_px: tuple[int, int]
    pts_seconds: float | None
    detections: Detections


class GivenFrames:
    """The detections of one input, frame by frame; stands where a detector stands.

    Whoever made the file has said of every frame what is to be redacted: tracks do not put back what was taken out.
    """

    complete = True

    def __init__(self, class_names: tuple[str, ...], frames: Mapping[int, _Known], where: str) -> None:
        self.class_names = class_names
        self.thresholds = (0.0,) * len(class_names)
        self._frames = frames
        self._where = where

    def prepare(self, info: MediaInfo) -> None:
        """Nothing to prepare."""

    def submit(self, frame: Frame) -> Ready:
        """The detections of a frame. Raises InputError where the file does not know it, or knows it otherwise."""
        known = self._frames.get(frame.index)
        if known is None:
            raise InputError(f"{self._where} says nothing about frame {frame.index}: nobody looked at it")
        if known.size_px != frame.upright_size_px:
            raise InputError(
                f"{self._where} is of a picture of {known.size_px[0]}x{known.size_px[1]}, but frame {frame.index} has "
                f"{frame.upright_size_px[0]}x{frame.upright_size_px[1]}"
            )
        times = known.pts_seconds, frame.pts_seconds
        if times[0] is not None and times[1] is not None and abs(times[0] - times[1]) > 0.5e-3:
            raise InputError(f"{self._where} has frame {frame.index} at another time: it was made from another file")
        return Ready(known.detections)


class GivenDetections:
    """A file of detections, by input. Holds all of it in memory, some 200 bytes a box."""

    def __init__(self, path: str | Path) -> None:
        """Read what `trt-anon detect` writes (COCO JSON; `images` names every frame that was looked at).

        An annotation has a `bbox`, and may have one polygon as `segmentation`, and a `score`. Every category is a class
        of its own, and all of them are redacted. Raises InputError, which names the entry.
        """
        self._path = Path(path)
        raw = load_json(self._path)
        if not isinstance(raw, dict) or not all(isinstance(raw.get(k), list) for k in _LISTS):
            raise InputError(f"{path}: expected what `trt-anon detect` writes: an object with {', '.join(_LISTS)}")
        ids, self.class_names = _classes(raw["categories"], self._path)
        self._files = _frames(raw, ids, self.class_names, self._path)

    def for_source(self, source: Path) -> GivenFrames:
        """The detections of one input: by its whole path, or else by as much of its end as the file names.

        Raises InputError where the file does not name it, or names several that fit.
        """
        frames = self._files.get(str(source))
        if frames is None:
            wanted = PurePath(source).parts
            fits = [name for name in self._files if _ends_alike(PurePath(name).parts, wanted)]
            if len(fits) != 1:
                problem = "does not name" if not fits else "names more than one file that could be"
                raise InputError(f"{self._path} {problem} {source}")
            frames = self._files[fits[0]]
        return GivenFrames(self.class_names, frames, str(self._path))

    def close(self) -> None:
        """Nothing to free."""


_LISTS = ("images", "annotations", "categories")


def _ends_alike(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def _classes(categories: list[Any], path: Path) -> tuple[dict[int, int], tuple[str, ...]]:
    ids: dict[int, int] = {}
    names: list[str] = []
    for place, entry in enumerate(categories):
        where = f"{path}: categories[{place}]"
        key = take(entry, "id", int, where)
        unique(ids, key, where)
        name = take(entry, "name", str, where)
        if name not in names:
            names.append(name)
        ids[key] = names.index(name)
    return ids, tuple(names)


def _frames(
    raw: Mapping[str, Any], ids: Mapping[int, int], class_names: tuple[str, ...], path: Path
) -> dict[str, dict[int, _Known]]:
    boxes: dict[int, list[tuple[tuple[float, float, float, float], float, int, Any]]] = {}
    for place, entry in enumerate(raw["images"]):
        where = f"{path}: images[{place}]"
        key = take(entry, "id", int, where)
        unique(boxes, key, where)
        boxes[key] = []
    for place, entry in enumerate(raw["annotations"]):
        where = f"{path}: annotations[{place}]"
        image, category = take(entry, "image_id", int, where), take(entry, "category_id", int, where)
        if image not in boxes or category not in ids:
            raise InputError(f"{where}: names an image or category that the file does not have")
        boxes[image].append((box_of(entry, where), _score(entry, where), ids[category], _outline(entry, where)))
    files: dict[str, dict[int, _Known]] = {}
    for place, entry in enumerate(raw["images"]):
        where = f"{path}: images[{place}]"
        size = take(entry, "width", int, where), take(entry, "height", int, where)
        if not (min(size) > 0 and max(size) <= MAX_SIDE_PX):
            raise InputError(f"{where}: width and height must be positive, at most {MAX_SIDE_PX}")
        index = entry.get("frame_index", 0)
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise InputError(f"{where}: 'frame_index' must be a whole number, 0 or more")
        pts = entry.get("pts_seconds")
        if pts is not None and (not isinstance(pts, int | float) or isinstance(pts, bool)):
            raise InputError(f"{where}: 'pts_seconds' must be a number")
        frames = files.setdefault(take(entry, "file_name", str, where), {})
        if index in frames:
            raise InputError(f"{where}: frame {index} of its file is there twice")
        frames[index] = _Known(size, pts, _detections(boxes[entry["id"]], class_names))
    return files


def _score(entry: Mapping[str, Any], where: str) -> float:
    score = entry.get("score", 1.0)
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise InputError(f"{where}: 'score' must be a number from 0 to 1")
    return float(score)


def _outline(entry: Mapping[str, Any], where: str) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """One polygon; of several, or run lengths, the box around them is taken."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or len(polygons) != 1:
        return None
    (flat,) = polygons
    numbers = isinstance(flat, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in flat)
    if not numbers or len(flat) < 6 or len(flat) % 2:
        raise InputError(f"{where}: a polygon of `segmentation` is x, y, x, y... of at least three corners")
    points = np.array(flat, np.float64).reshape(-1, 2)
    checked_box((*points.min(axis=0).tolist(), *points.max(axis=0).tolist()), where)
    return points.astype(np.float32)


def _detections(
    rows: list[tuple[tuple[float, float, float, float], float, int, Any]], class_names: tuple[str, ...]
) -> Detections:
    if not rows:
        return Detections.empty(class_names)
    rows = sorted(rows, key=lambda row: -row[1])
    none = np.zeros((0, 2), np.float32)
    outlines = tuple(none if row[3] is None else row[3] for row in rows)
    return Detections(
        np.array([row[0] for row in rows], np.float32),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int32),
        class_names,
        contours_px=outlines if any(len(o) for o in outlines) else None,
    )
