"""Groups of people or objects, from a CSV file: whom a detector misses more often than others."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from trt_anon.errors import InputError, UsageError
from trt_anon.evaluate.dataset import LabelSet
from trt_anon.label_files import read_label_text

_FILE_KEYS = ("file", "file_name", "image")
_OBJECT_KEY = "annotation_id"
MAX_GROUPS = 40
"""More values than this in a column are no groups."""


@dataclass(frozen=True, slots=True)
class Groups:
    """For each column, the value of every labelled object, in the labels' order; None where the file has none."""

    columns: dict[str, tuple[str | None, ...]]


def read_groups(path: str | Path, labels: LabelSet, columns: Sequence[str] = ()) -> Groups:
    """Read a CSV file whose first row names its columns.

    Its rows belong to all objects of an image (a column `file`, `file_name` or `image`, as the labels or the end of a
    path name it) or to one object (a column `annotation_id` of COCO labels). columns: those that hold groups; empty
    takes all others. Raises InputError for a file that is not so, UsageError for an unknown column or one that is no
    group.
    """
    path = Path(path)
    try:
        rows = list(csv.DictReader(io.StringIO(read_label_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV: {error}") from error
    if not rows:
        raise InputError(f"{path}: expected a row of column names and at least one more")
    names = [name for name in rows[0] if name is not None]
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: a row has more or fewer values than there are columns")
    key = next((name for name in (_OBJECT_KEY, *_FILE_KEYS) if name in names), None)
    if key is None:
        raise InputError(f"{path}: needs a column {_OBJECT_KEY}, or one of {', '.join(_FILE_KEYS)}")
    wanted = list(columns) or [name for name in names if name != key]
    for name in wanted:
        if name not in names or name == key:
            raise UsageError(
                f"{path}: has no group column {name!r}; there are {', '.join(n for n in names if n != key)}"
            )
        values = {row[name] for row in rows}
        if len(values) > MAX_GROUPS:
            raise UsageError(
                f"{path}: {name!r} has {len(values)} values; name those that are groups with --group-column"
            )
    by_key: dict[str, dict[str, str]] = {}
    for row in rows:
        name = row[key] if key == _OBJECT_KEY else PurePath(row[key]).as_posix()
        if name in by_key:
            raise InputError(f"{path}: {key} {name} is there twice")
        by_key[name] = row
    matched = [
        by_key.get(str(object_key)) if key == _OBJECT_KEY else _of_file(image.name, by_key)
        for image in labels.images
        for object_key in image.keys.tolist()
    ]
    if not any(matched):
        raise InputError(f"{path}: none of its rows belongs to a labelled object; see its column {key}")
    return Groups({name: tuple(row[name].strip() or None if row else None for row in matched) for name in wanted})


def _of_file(name: str, rows: dict[str, dict[str, str]]) -> dict[str, str] | None:
    """The row of an image: of its name in the labels, or of the end of that name."""
    parts = PurePath(name).parts
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((rows[end] for end in ends if end in rows), None)
