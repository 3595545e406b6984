"""Pascal VOC: one XML file per image, with `object` elements of `name` and `bndbox`."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from trt_anon.errors import InputError
from trt_anon.evaluate.dataset import RawImage, RawObject, inside
from trt_anon.evaluate.folder import SUFFIXES
from trt_anon.label_files import checked_box, load_xml


def read_voc(path: Path, images: Path | None, *, first_pixel: int = 1) -> list[RawImage]:
    """One image for each XML file.

    path: a folder of XML files, or one with `Annotations/` and `JPEGImages/`. first_pixel: 1 as in the VOC kit, whose
    pixels count from 1 and whose xmax and ymax are the last pixels inside; 0 where boxes are continuous from 0, as many
    tools write them. Objects marked `difficult` are ignored. Raises InputError that names the file.
    """
    labels = path / "Annotations" if (path / "Annotations").is_dir() else path
    files = sorted(labels.rglob("*.xml"))
    if not files:
        raise InputError(f"{labels}: no XML files in it")
    if images is None:
        candidates = (path / "JPEGImages", path / "images", labels.parent / "JPEGImages", labels.parent / "images")
        images = next((folder for folder in candidates if folder.is_dir()), labels)
    return [_image(file, file.relative_to(labels), images, first_pixel) for file in files]


def _image(file: Path, relative: Path, images: Path, first_pixel: int) -> RawImage:
    root = load_xml(file)
    if root.tag != "annotation":
        raise InputError(f"{file}: expected an <annotation>, found <{root.tag[:40]}>")
    size = None
    if root.find("size") is not None:
        size = (_whole(root, "size/width", file), _whole(root, "size/height", file))
        size = size if min(size) > 0 else None  # some tools write zeros
    objects = []
    for number, element in enumerate(root.iter("object"), start=1):
        where = f"{file}, object {number}"
        name = (element.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no name")
        x0, y0, x1, y1 = (_number(element, f"bndbox/{k}", where) for k in ("xmin", "ymin", "xmax", "ymax"))
        box = checked_box((x0 - first_pixel, y0 - first_pixel, x1, y1), where)
        difficult = (element.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            raise InputError(f"{where}: <difficult> must be 0 or 1")
        objects.append(RawObject(box, name, ignore=difficult == "1"))
    picture = _picture(root, file, relative, images)
    return RawImage(picture.relative_to(images).as_posix(), picture, tuple(objects), size)


def _picture(root: ElementTree.Element, file: Path, relative: Path, images: Path) -> Path:
    """The image that the file names, or the one of the file's own name."""
    name = (root.findtext("filename") or "").strip()
    if name:
        named = inside(images, name, str(file))
        if named.is_file():
            return named
    for suffix in sorted(SUFFIXES):
        for ending in (suffix, suffix.upper()):
            path = images / relative.with_suffix(ending)
            if path.is_file():
                return path
    raise InputError(f"{file}: neither {name or 'a named image'} nor an image of its own name is in {images}")


def _number(element: ElementTree.Element, path: str, where: str) -> float:
    try:
        return float(element.findtext(path) or "")
    except ValueError as error:
        raise InputError(f"{where}: <{path}> is missing or not a number") from error


def _whole(element: ElementTree.Element, path: str, file: Path) -> int:
    value = _number(element, path, str(file))
    if value != int(value) if abs(value) < 1e9 else True:
        raise InputError(f"{file}: <{path}> is not a whole number")
    return int(value)
