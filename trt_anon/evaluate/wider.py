"""WIDER FACE text: an image's path, the number of its faces, then a line of ten numbers for each."""

from __future__ import annotations

from pathlib import Path

from trt_anon.errors import InputError
from trt_anon.evaluate.dataset import RawImage, RawObject, inside
from trt_anon.label_files import checked_box, read_label_text

_FIELDS = 10  # x y width height blur expression illumination invalid occlusion pose
_INVALID = 7


def read_wider(path: Path, images: Path | None) -> list[RawImage]:
    """Images with their faces; those marked invalid, or without extent, are ignored.

    images: the folder of the event folders; None looks for `images/` beside the file or one above (`WIDER_val/images`).
    Raises InputError, with the line, for anything else than the format.
    """
    lines = read_label_text(path).splitlines()
    if images is None:
        candidates = [path.parent / "images", *sorted(path.parent.parent.glob("WIDER_*/images"))]
        images = next((folder for folder in candidates if folder.is_dir()), path.parent)
    found: list[RawImage] = []
    seen: set[str] = set()
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        at += 1
        if not name:
            continue
        where = f"{path}, line {at}"
        picture = inside(images, name, where)
        if name in seen:
            raise InputError(f"{where}: this image is there twice")
        seen.add(name)
        try:
            count = int(lines[at])
        except (IndexError, ValueError) as error:
            raise InputError(f"{path}, line {at + 1}: expected the number of faces") from error
        at += 1
        # An image without faces is followed by one line of zeros.
        rows = lines[at : at + max(count, 0)]
        if count < 0 or len(rows) < count:
            raise InputError(f"{where}: says {count} faces, but only {len(rows)} lines follow")
        objects = tuple(_face(row, f"{path}, line {at + 1 + number}") for number, row in enumerate(rows))
        at += count
        if count == 0 and at < len(lines) and lines[at].split() and set(lines[at].split()) == {"0"}:
            at += 1
        found.append(RawImage(name, picture, objects))
    if not found:
        raise InputError(f"{path}: no image in it")
    return found


def _face(line: str, where: str) -> RawObject:
    words = line.split()
    if len(words) not in (4, _FIELDS):
        raise InputError(f"{where}: expected {_FIELDS} numbers (or the 4 of the box), found {len(words)} values")
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InputError(f"{where}: expected numbers") from error
    x, y, width, height = values[:4]
    box = checked_box((x, y, x + width, y + height), where)
    invalid = len(values) == _FIELDS and values[_INVALID] == 1
    return RawObject(box, "face", ignore=invalid or width == 0 or height == 0)
