"""Text files of labels, regions and detections: JSON and XML, read within bounds, their faults named by place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import numpy as np

from trt_anon.errors import InputError

MAX_LABEL_BYTES = 1 << 30
MAX_COORDINATE_PX = 1e7


def read_label_text(path: Path) -> str:
    """The text of a label file. Raises InputError for what is missing, too large or not UTF-8."""
    try:
        if path.stat().st_size > MAX_LABEL_BYTES:
            raise InputError(f"{path}: larger than {MAX_LABEL_BYTES >> 20} MiB; this is no label file")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8") from error


def load_json(path: Path) -> Any:
    """The value in a JSON file. Raises InputError."""
    try:
        return json.loads(read_label_text(path), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # JSONDecodeError quotes no contents beyond its position
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path} is not valid JSON{at}") from error


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class _Builder(ElementTree.TreeBuilder):
    """Refuses document types, and with them entities that grow without bound or name other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Called for `<!DOCTYPE`."""
        raise InputError("has a document type definition, which label files have no use for")


def load_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises InputError, also for a document type definition."""
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(read_label_text(path))
        root: ElementTree.Element = parser.close()
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not valid XML (line {error.position[0]})") from error
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    return root


def take(entry: Any, name: str, kind: type[Any], where: str) -> Any:
    """A field of an entry, of that type. Raises InputError."""
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: {name!r} is missing or not {'a whole number' if kind is int else 'text'}")
    return value


def box_of(entry: Any, where: str) -> tuple[float, float, float, float]:
    """The corners of an entry's `bbox`. Raises InputError."""
    box = entry.get("bbox") if isinstance(entry, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(_number(v) for v in box):
        raise InputError(f"{where}: 'bbox' is missing or not four numbers")
    try:
        x, y, width, height = map(float, box)
    except OverflowError as error:
        raise InputError(f"{where}: 'bbox' holds a number that is too large") from error
    return checked_box((x, y, x + width, y + height), where)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def checked_box(values: tuple[float, float, float, float], where: str) -> tuple[float, float, float, float]:
    """Corners (x0, y0, x1, y1), or InputError where they are not finite, absurdly far or in the wrong order."""
    if not all(np.isfinite(values)) or max(map(abs, values)) > MAX_COORDINATE_PX:
        raise InputError(f"{where}: a box has coordinates that are not finite or beyond {MAX_COORDINATE_PX:.0e} px")
    x0, y0, x1, y1 = map(float, values)
    if x1 < x0 or y1 < y0:
        raise InputError(f"{where}: a box has its corners in the wrong order, or a negative size")
    return x0, y0, x1, y1


def unique(known: Mapping[int, Any], key: int, where: str) -> None:
    """Raise InputError where an id was there before."""
    if key in known:
        raise InputError(f"{where}: the id {key} is there twice")
