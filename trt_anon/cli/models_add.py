"""`trt-anon models add`: a detector from an ONNX file, recognised, checked and described by a recipe."""

from __future__ import annotations

import re
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from trt_anon.errors import UsageError

WHAT = "What it is"
WHERE = "Where it goes"


def add(
    file: Annotated[Path, typer.Argument(help="An ONNX detector.", metavar="FILE.onnx", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What to call it.  \\[default: the file's name]", rich_help_panel=WHERE),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option("--family", help="How its outputs are read.  \\[default: recognised]", rich_help_panel=WHAT),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            metavar="face,person,...",
            help="Its classes, in its own numbering.  \\[default: the names in the file]",
            rich_help_panel=WHAT,
        ),
    ] = None,
    redact_as: Annotated[
        list[str] | None,
        typer.Option(
            "--redact-as",
            metavar="CLASS=face",
            help="Redact a class, by name or number, as face or license_plate; repeat for several.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="An option of the family, as in TOML; repeat.", rich_help_panel=WHAT
        ),
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="KEY=VALUE",
            help="How it wants pictures, unlike its family: channels, mean, scale, fit, size_px, stride_px, pad_value.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Minimum score.  \\[default: 0.3]", rich_help_panel=WHAT)
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="SPDX", help="The terms its weights are under.", rich_help_panel=WHAT),
    ] = None,
    free_size: Annotated[
        bool,
        typer.Option(
            "--free-size", help="Let it see pictures of any size, though the file fixes one.", rich_help_panel=WHAT
        ),
    ] = False,
    copy: Annotated[
        bool,
        typer.Option("--copy/--no-copy", help="Keep a copy of the file, or use it where it is.", rich_help_panel=WHERE),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="A folder for the recipe and the model.  \\[default: where detectors go by name]",
            rich_help_panel=WHERE,
        ),
    ] = None,
) -> None:
    """Add a detector of your own: recognise its family, try it out, and write its recipe."""
    from trt_anon.models.add import UNKNOWN_LICENCE, Wish, add_model, summary
    from trt_anon.models.registry import Registry

    wish = Wish(
        name=name,
        family=family,
        classes=tuple(word.strip() for word in classes.split(",")) if classes else (),
        redact_as=dict(_pair(text, "--redact-as") for text in redact_as or ()),
        options={key: _value(text) for key, text in (_pair(text, "--option") for text in option or ())},
        input={key: _value(text) for key, text in (_pair(text, "--input") for text in input_ or ())},
        threshold=threshold,
        licence=licence,
        free_size=free_size,
        copy=copy,
        output=output,
    )
    added = add_model(file, wish, Registry())
    for label, text in summary(added):
        typer.echo(f"{label:<11}{text}")
    spdx = added.recipe.licence.spdx
    if spdx == UNKNOWN_LICENCE:
        typer.echo(
            "licence    not known: make sure that you may use these weights, and state it with --licence", err=True
        )
    else:
        typer.echo(
            f"licence    {spdx}: make sure that its terms, and those of its training data, allow your use", err=True
        )
    detector = added.recipe.name if output is None else str(added.recipe_path)
    typer.echo(f"use it     trt-anon anonymize INPUT --output PATH --detector {detector}")


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip()):
        raise UsageError(f"{option} {text}: expected KEY=VALUE")
    return key.strip(), value.strip()


def _value(text: str) -> object:
    """A value as in TOML; without brackets and quotes, a word, a fraction (1/255), or several of either with commas."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        words = [_word(word.strip()) for word in text.split(",")]
        return words if len(words) > 1 else words[0]


def _word(text: str) -> object:
    if re.fullmatch(r"\d+(\.\d+)?/\d*[1-9]\d*", text):
        above, below = text.split("/")
        return float(Fraction(above) / Fraction(below))
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
