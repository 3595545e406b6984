"""YOLO labels: one text file per image, a line per object: class number, centre and size as shares of the picture."""

from __future__ import annotations

import re
from pathlib import Path

from trt_anon.errors import InputError, UsageError
from trt_anon.evaluate.dataset import RawImage, RawObject, upright_size
from trt_anon.evaluate.folder import pictures_in
from trt_anon.label_files import checked_box, read_label_text

_NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "data.yml", "dataset.yaml")
_SLACK = 0.01  # rounding in label tools lets boxes reach a little beyond the picture


def read_yolo(path: Path, images: Path | None, class_names: tuple[str, ...] | None) -> list[RawImage]:
    """Every image of a folder with its objects; an image without a label file has none.

    path: the data set's folder (with `labels/` and `images/`, or text files beside images), or its `labels` folder.
    class_names: names by class number; None reads classes.txt, obj.names or data.yaml near the labels. Raises
    InputError, with file and line, for anything else than the format; UsageError where class names are not known.
    """
    labels = path / "labels" if (path / "labels").is_dir() else path
    if images is None:
        candidates = (path / "images", Path(*_swapped(labels.parts)), labels.parent / "images", labels)
        images = next((folder for folder in candidates if folder != labels and folder.is_dir()), labels)
    names = class_names or _names([labels, path, labels.parent, images, images.parent])
    found, labelled = [], 0
    for picture in pictures_in(images):
        relative = picture.relative_to(images)
        text = labels / relative.with_suffix(".txt")
        size = upright_size(picture)
        objects: tuple[RawObject, ...] = ()
        if text.is_file():
            labelled += 1
            objects = _objects(text, names, size)
        found.append(RawImage(relative.as_posix(), picture, objects, size))
    if not labelled:
        raise InputError(
            f"{labels}: no label file belongs to an image of {images}; name the images' folder with --images"
        )
    return found


def _swapped(parts: tuple[str, ...]) -> tuple[str, ...]:
    places = [i for i, part in enumerate(parts) if part == "labels"]
    return (*parts[: places[-1]], "images", *parts[places[-1] + 1 :]) if places else parts


def _objects(path: Path, names: tuple[str, ...], size: tuple[int, int]) -> tuple[RawObject, ...]:
    width, height = size
    objects = []
    for number, line in enumerate(read_label_text(path).splitlines(), start=1):
        where = f"{path}, line {number}"
        words = line.split()
        if not words:
            continue
        if len(words) != 5:
            raise InputError(f"{where}: expected class, x, y, width, height; found {len(words)} values")
        try:
            category = int(words[0])
            x, y, w, h = map(float, words[1:])
        except ValueError as error:
            raise InputError(f"{where}: expected a class number and four numbers") from error
        if not 0 <= category < len(names):
            raise InputError(f"{where}: class {category}, but there are {len(names)} class names")
        shares = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        if not (min(shares) >= -_SLACK and max(shares) <= 1 + _SLACK):
            raise InputError(f"{where}: the box leaves the picture; YOLO labels are shares of its size, 0 to 1")
        x0, y0, x1, y1 = shares
        box = checked_box((x0 * width, y0 * height, x1 * width, y1 * height), where)
        objects.append(RawObject(box, names[category]))
    return tuple(objects)


def _names(folders: list[Path]) -> tuple[str, ...]:
    for folder in dict.fromkeys(folders):
        for name in _NAME_FILES:
            path = folder / name
            if path.is_file():
                text = read_label_text(path)
                names = _yaml_names(text) if path.suffix.startswith(".y") else tuple(text.split("\n"))
                names = tuple(name.strip() for name in names if name.strip())
                if not names:
                    raise InputError(f"{path}: no class names in it; give them with --class-names")
                return names
    raise UsageError(
        f"YOLO labels number their classes; give their names with --class-names face,plate, or a file "
        f"{' or '.join(_NAME_FILES[:3])} beside the labels"
    )


def _yaml_names(text: str) -> tuple[str, ...]:
    """The list or map under `names:` of a data.yaml, in the two ways that these files write it."""
    flow = re.search(r"^names:\s*[\[{](.*?)[\]}]", text, re.MULTILINE | re.DOTALL)
    if flow:
        entries = flow[1].replace("\n", " ").split(",")
    else:
        block = re.search(
            r"^names:[ \t]*(?:#.*)?\n((?:[ \t]*(?:-|\d+[ \t]*:).*\n?|[ \t]*(?:#.*)?\n)*)", text, re.MULTILINE
        )
        entries = block[1].splitlines() if block else []
    names = []
    for entry in entries:
        plain = re.sub(r"\s#.*$", "", entry).strip()
        plain = re.sub(r"^(?:-\s*|\d+\s*:\s*)", "", plain).strip().strip("'\"")
        if plain:
            names.append(plain)
    return tuple(names)
