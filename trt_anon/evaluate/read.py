"""Labels of any known format, told apart by what lies at a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from trt_anon.errors import InputError, UsageError
from trt_anon.evaluate.coco import read_coco
from trt_anon.evaluate.dataset import ClassMap, LabelSet, build
from trt_anon.evaluate.voc import read_voc
from trt_anon.evaluate.wider import read_wider
from trt_anon.evaluate.yolo import read_yolo

LabelFormat = Literal["auto", "coco", "yolo", "voc", "voc0", "wider"]


def read_labels(
    path: str | Path,
    *,
    label_format: LabelFormat = "auto",
    images: str | Path | None = None,
    classes: Sequence[str] = ("face",),
    class_map: ClassMap | None = None,
    class_names: Sequence[str] | None = None,
) -> LabelSet:
    """Read labelled images.

    path: a COCO JSON file (or the folder of an `annotations.json`), a folder of YOLO text files, a folder of Pascal VOC
    XML files, or a WIDER FACE text file. label_format: `voc0` is VOC with continuous boxes that count from 0. images:
    the folder that holds the images, where it is not the usual one. classes: what is looked for. class_map: what label
    names mean. class_names: names of YOLO's class numbers. Images are not opened, but for their size where labels are
    relative to it. Raises InputError for files that are not as their format says, UsageError for labels without any
    object of these classes.
    """
    path, folder = Path(path), None if images is None else Path(images)
    if label_format not in get_args(LabelFormat):
        raise UsageError(f"unknown label format {label_format!r}; known are {', '.join(get_args(LabelFormat))}")
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    kind = _kind(path) if label_format == "auto" else label_format
    if kind == "coco":
        file = path / "annotations.json" if path.is_dir() else path
        raw, categories = read_coco(file, folder)
        return build(raw, tuple(classes), class_map or ClassMap(), categories)
    if kind == "wider":
        raw = read_wider(path, folder)
    elif not path.is_dir():
        raise UsageError(f"{path}: labels of the format {kind} are a folder of files; name the folder")
    elif kind == "yolo":
        raw = read_yolo(path, folder, tuple(class_names) if class_names else None)
    else:
        raw = read_voc(path, folder, first_pixel=1 if kind == "voc" else 0)
    return build(raw, tuple(classes), class_map or ClassMap())


def _kind(path: Path) -> str:
    if path.is_file():
        kinds = {".json": "coco", ".txt": "wider"}
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
    elif (path / "annotations.json").is_file():
        return "coco"
    elif next(path.rglob("*.xml"), None):
        return "voc"
    elif next(path.rglob("*.txt"), None):
        return "yolo"
    raise UsageError(f"{path}: cannot tell what kind of labels these are; name it with --format")
