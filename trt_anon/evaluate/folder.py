"""The image files of a folder."""

from __future__ import annotations

from pathlib import Path

from trt_anon.errors import InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


def pictures_in(folder: Path) -> list[Path]:
    """Image files below a folder, sorted, by their suffixes.

    Raises InputError where there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of images; name it with --images")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{folder}: no images in it; name their folder with --images")
    return found
