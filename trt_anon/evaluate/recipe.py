"""A recipe with another threshold, as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trt_anon.errors import UsageError
from trt_anon.job.publish import atomic_output
from trt_anon.models.recipe import Recipe


def write_recipe(
    recipe: Recipe, threshold: float, path: str | Path, *, remarks: Sequence[str] = (), overwrite: bool = False
) -> None:
    """Write a copy of a recipe with this threshold; it keeps its name, by which its model is found.

    remarks: lines of comment at its top. Raises UsageError for a name that is not .toml, OutputError.
    """
    path = Path(path)
    if path.suffix.lower() != ".toml":
        raise UsageError(f"{path}: a recipe is a .toml file")
    values = recipe.model_copy(update={"threshold": threshold}).model_dump(mode="json", exclude_none=True)
    text = "".join(f"# {remark}\n" for remark in remarks) + to_toml(values)
    with atomic_output(path, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")


def to_toml(values: dict[str, Any], prefix: str = "") -> str:
    """Plain values (text, numbers, lists, tables, lists of tables) as TOML; empty tables and lists are left out."""
    lines, tables = [], []
    for key, value in values.items():
        name = prefix + _key(key)
        if isinstance(value, dict):
            if value:
                tables.append(f"\n[{name}]\n" + to_toml(value, f"{name}."))
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            tables += [f"\n[[{name}]]\n" + to_toml(v, f"{name}.") for v in value]
        elif value != []:
            lines.append(f"{_key(key)} = {_value(value)}\n")
    return "".join(lines + tables)


def _key(key: str) -> str:
    bare = bool(key) and all(c.isascii() and (c.isalnum() or c in "_-") for c in key)
    return key if bare else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
        return repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    raise TypeError(f"{type(value).__name__} has no form in TOML")


def _text(text: str) -> str:
    special = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return (
        '"' + "".join(special.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c) for c in text) + '"'
    )
