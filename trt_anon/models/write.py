"""Writing a recipe as the TOML file that reads back as the same recipe."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping

from trt_anon.config import validated
from trt_anon.errors import ConfigError
from trt_anon.models.recipe import Recipe


def recipe_toml(recipe: Recipe) -> str:
    """The TOML text of a recipe, without what is as by default.

    Raises ConfigError where it would not read back as the same recipe.
    """
    text = "\n".join(_lines(recipe.model_dump(mode="json", exclude_defaults=True, exclude_none=True), "")) + "\n"
    if validated(Recipe, tomllib.loads(text), recipe.name) != validated(Recipe, recipe.model_dump(mode="json"), ""):
        raise ConfigError(f"{recipe.name}: cannot be written as TOML")
    return text


def _lines(table: Mapping[str, object], path: str) -> list[str]:
    """Values first, then tables, then lists of tables, as TOML wants."""
    lines, tables = [], []
    for key, value in table.items():
        name = f"{path}{_key(key)}"
        if isinstance(value, Mapping):
            tables += ["", f"[{name}]", *_lines(value, f"{name}.")]
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                tables += ["", f"[[{name}]]", *_lines(item, f"{name}.")]
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + tables


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _text(key)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float):
        return json.dumps(value, allow_nan=False)
    raise ConfigError(f"a value of type {type(value).__name__} cannot be written as TOML")


def _text(text: str) -> str:
    # The escapes of JSON are TOML's too; one character more must be escaped here.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
