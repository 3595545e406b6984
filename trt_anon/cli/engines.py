"""`trt-anon engines`: the engines that were built."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trt_anon.cli.engine_view import facts_of_engine, print_facts
from trt_anon.errors import TrtAnonError, UsageError

app = typer.Typer(help="Engines that were built, and where they fit.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The engine's file name, or how it or its hash begins.")]
Names = Annotated[list[str] | None, typer.Argument(help="Engines by name.", show_default=False)]


@app.command("list")
def list_(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List the engines, and whether the GPU here runs them."""
    from trt_anon.models.engines import fitness
    from trt_anon.runtime.engine_store import EngineStore
    from trt_anon.runtime.gpu import find_gpus

    store, gpus = EngineStore(), find_gpus()
    engines = [(engine, fitness(engine, gpus)) for engine in store.engines()]
    if json:
        rows = [{**facts_of_engine(engine), "state": state} for engine, state in engines]
        typer.echo(json_module.dumps(rows, indent=2))
        return
    if not engines:
        typer.echo(f"no engines in {store.folder}; trt-anon build-engine makes one")
        return
    table = Table("engine", "precision", "library", "batch", "sizes", "size", "state")
    for engine, state in engines:
        key = engine.manifest.key
        shapes = [shape for profile in key.profiles for shape in profile.values()]
        batches = f"{min(s[0][0] for s in shapes)} to {max(s[2][0] for s in shapes)}"
        sizes = ", ".join(dict.fromkeys("x".join(str(side) for side in s[2][1:] if side != 3) for s in shapes))
        library = f"{key.backend} {key.library_version}"
        size = f"{engine.manifest.engine_bytes / 1e6:.1f} MB"
        table.add_row(engine.path.name, key.precision, library, batches, sizes, size, escape(state))
    Console(soft_wrap=True).print(table)


@app.command("show")
def show(
    name: Name,
    layers: Annotated[bool, typer.Option("--layers", help="Each layer and its precision, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Show what an engine is for, what shaped it, and what it takes."""
    from trt_anon.models.engines import fitness
    from trt_anon.runtime.engine_store import EngineStore

    engine = EngineStore().find(name)
    if json:
        typer.echo(engine.manifest.to_json(), nl=False)
        return
    print_facts({**facts_of_engine(engine), "state": fitness(engine)}, json=False)
    for layer in engine.manifest.layers or () if layers else ():
        typer.echo(f"{layer.precision:<6}{layer.kind:<16}{', '.join(layer.nodes) or layer.name}")


@app.command("verify")
def verify(names: Names = None) -> None:
    """Check that engines are what their manifests say; all of them, if none is named."""
    from trt_anon.runtime.engine_store import EngineStore

    store = EngineStore()
    engines = [store.find(name) for name in names] if names else list(store.engines())
    failed = 0
    for engine in engines:
        try:
            engine.read()
        except TrtAnonError as error:
            failed += 1
            typer.echo(f"{engine.path.name}: {error}", err=True)
        else:
            typer.echo(f"{engine.path.name}: intact")
    if failed:
        raise typer.Exit(1)


@app.command("clean")
def clean(
    names: Names = None,
    everything: Annotated[bool, typer.Option("--all", help="All engines.")] = False,
    unfit: Annotated[bool, typer.Option("--unfit", help="Those for other GPUs than the one here.")] = False,
) -> None:
    """Remove engines, and what builds left that were killed."""
    from trt_anon.models.engines import fitness
    from trt_anon.runtime.engine_store import EngineStore
    from trt_anon.runtime.gpu import find_gpus, why_no_gpu

    store = EngineStore()
    if everything and (names or unfit):
        raise UsageError("give names, --unfit or --all, not several of them")
    engines = [store.find(name) for name in names or ()]
    if everything:
        engines = list(store.engines())
    elif unfit:
        gpus = find_gpus()
        if not gpus:
            raise UsageError(f"{why_no_gpu()}, so none is known to be unfit; name engines, or give --all")
        engines += [engine for engine in store.engines() if fitness(engine, gpus) != "ready"]
    freed = store.remove(engines) + store.remove_leftovers()
    typer.echo(f"{len(engines)} engine{'' if len(engines) == 1 else 's'} removed, {freed / 1e6:.1f} MB freed")


@app.command("add")
def add(file: Annotated[Path, typer.Argument(help="An engine, its manifest beside it.", readable=False)]) -> None:
    """Take over an engine that was built elsewhere: make sure that you trust whoever built it, as engines are code."""
    from trt_anon.runtime.engine_store import EngineStore, StoredEngine

    added = EngineStore().add(StoredEngine.at(file))
    typer.echo(str(added.path))
