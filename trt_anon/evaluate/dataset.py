"""Labelled images: what every reader of labels gives, and how label names become classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.config import ClassName
from trt_anon.errors import InputError, UsageError

CLASS_NAMES: tuple[str, ...] = get_args(ClassName)
IGNORE = "ignore"
"""What a class map calls objects that neither count nor make a detection wrong."""


_ALIASES = {
    "face": "face",
    "faces": "face",
    "head_face": "face",
    "plate": "license_plate",
    "plates": "license_plate",
    "license_plate": "license_plate",
    "license-plate": "license_plate",
    "license plate": "license_plate",
    "licence_plate": "license_plate",
    "licence-plate": "license_plate",
    "licence plate": "license_plate",
    "licence": "license_plate",
    "numberplate": "license_plate",
    "number_plate": "license_plate",
    "number plate": "license_plate",
}


@dataclass(frozen=True, slots=True, eq=False)
class RawObject:
    """A labelled object as its file says, before class names are mapped.

    key: COCO's annotation id, None elsewhere. ignore: the file says that it does not count (difficult, invalid).
    """

    box_xyxy_px: tuple[float, float, float, float]
    category: str
    supercategory: str = ""
    ignore: bool = False
    crowd: bool = False
    key: int | None = None

    def __repr__(self) -> str:  # boxes are personal data
        return f"RawObject({self.category})"


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image with its objects; size_px: (width, height) as the labels say, None where they do not."""

    name: str
    path: Path
    objects: tuple[RawObject, ...]
    size_px: tuple[int, int] | None = None
    key: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image and its objects (N).

    boxes_xyxy_px: (N, 4) float64. class_ids index `LabelSet.class_names`, category_ids `LabelSet.category_names`.
    ignore, crowd: (N,) bool, a crowd is ignored too. keys: COCO's annotation ids, -1 where there are none. key: COCO's
    image id.
    """

    name: str
    path: Path
    size_px: tuple[int, int] | None
    boxes_xyxy_px: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    keys: NDArray[np.int64]
    key: int | None = None

    def __repr__(self) -> str:  # boxes are personal data
        return f"LabelledImage({len(self.boxes_xyxy_px)} objects)"


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Labelled images of the classes asked for.

    category_names: the labels' own names. left_out: how many objects of which name belong to no class asked for.
    categories: COCO's category ids by class id, for detections that name them.
    """

    images: tuple[LabelledImage, ...]
    class_names: tuple[str, ...]
    category_names: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Which class each label name means; names not given are known by common spellings, else by supercategory."""

    given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, words: Iterable[str]) -> ClassMap:
        """`name=class` words; class is face, license_plate (or plate) or ignore. Raises UsageError."""
        given = {}
        for word in words:
            name, equals, meaning = word.rpartition("=")
            target = IGNORE if meaning == IGNORE else _ALIASES.get(meaning.strip().lower())
            if not equals or not name.strip() or target is None:
                raise UsageError(f"class map {word!r}: write NAME=face, NAME=plate or NAME={IGNORE}")
            given[name.strip()] = target
        return cls(given)

    def __call__(self, name: str, supercategory: str = "") -> str | None:
        """The class, IGNORE, or None for a name that means nothing here."""
        if name in self.given:
            return self.given[name]
        return _ALIASES.get(name.strip().lower()) or _ALIASES.get(supercategory.strip().lower())


def build(
    raw: Iterable[RawImage],
    class_names: tuple[str, ...],
    class_map: ClassMap,
    categories: Mapping[int, tuple[str, str]] | None = None,
) -> LabelSet:
    """Map names to the classes asked for; objects of other classes are left out and counted.

    categories: COCO's ids with (name, supercategory). Raises UsageError where nothing is left to be found.
    """
    images: list[LabelledImage] = []
    names: dict[str, int] = {}
    left_out: Counter[str] = Counter()
    counted = 0
    for image in raw:
        kept: list[tuple[RawObject, int]] = []
        for one in image.objects:
            meaning = class_map(one.category, one.supercategory)
            if meaning == IGNORE:
                # It may be of any class: it is ignored in each.
                kept += [(_ignored(one), k) for k in range(len(class_names))]
            elif meaning in class_names:
                kept.append((one, class_names.index(meaning)))
                counted += not (one.ignore or one.crowd)
            else:
                left_out[one.category] += 1
        images.append(_labelled(image, kept, names))
    if not images:
        raise UsageError("the labels name no image")
    if not counted:
        seen = ", ".join(repr(name) for name in sorted({*left_out, *names})) or "none"
        raise UsageError(
            f"the labels have no object of {', '.join(class_names)}; the names in them: {seen}; "
            "say what they mean with --class-map NAME=face or NAME=plate"
        )
    meanings = {key: class_map(*names_of) for key, names_of in (categories or {}).items()}
    ids = {key: class_names.index(meaning) for key, meaning in meanings.items() if meaning in class_names}
    return LabelSet(tuple(images), class_names, tuple(names), dict(sorted(left_out.items())), ids)


def _ignored(one: RawObject) -> RawObject:
    return RawObject(one.box_xyxy_px, one.category, one.supercategory, True, one.crowd, one.key)


def _labelled(image: RawImage, kept: list[tuple[RawObject, int]], names: dict[str, int]) -> LabelledImage:
    crowd = np.array([one.crowd for one, _ in kept], np.bool_)
    return LabelledImage(
        name=image.name,
        path=image.path,
        size_px=image.size_px,
        boxes_xyxy_px=np.array([one.box_xyxy_px for one, _ in kept], np.float64).reshape(-1, 4),
        class_ids=np.array([k for _, k in kept], np.int64),
        category_ids=np.array([names.setdefault(one.category, len(names)) for one, _ in kept], np.int64),
        ignore=np.array([one.ignore for one, _ in kept], np.bool_) | crowd,
        crowd=crowd,
        keys=np.array([-1 if one.key is None else one.key for one, _ in kept], np.int64),
        key=image.key,
    )


def inside(folder: Path, name: str, where: str) -> Path:
    """The image that a label file names; a name that leaves the images' folder is refused."""
    if not name or "\0" in name or "\n" in name:
        raise InputError(f"{where}: an image has no usable file name")
    path = folder / name
    # By the names alone: a folder of images that is a link is the user's own doing.
    if not Path(os.path.normpath(path.absolute())).is_relative_to(os.path.normpath(folder.absolute())):
        raise InputError(f"{where}: the image {name!r} lies outside {folder}; name its folder with --images")
    return path


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file as a viewer shows it, from its header. Raises InputError."""
    image = require("PIL.Image", "reading an image's size")
    try:
        with image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except FileNotFoundError as error:
        raise InputError(f"{path}: the labels name this image, but it is not here") from error
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot read this image's size") from error
    return (height, width) if turned else (width, height)
