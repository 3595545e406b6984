"""`trt-anon doctor`: what this machine has, and what is missing for what."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False) -> None:
    """Show what this machine has, and what is missing for what."""
    from trt_anon.machine import inspect_machine
    from trt_anon.models.registry import Registry

    machine = inspect_machine()
    registry = Registry()
    states = {recipe.name: registry.state(recipe) for recipe in registry.recipes()}
    if json:
        typer.echo(json_module.dumps({**machine.to_dict(), "models": states}, indent=2))
        return

    console = Console(soft_wrap=True)
    features = ", ".join(machine.cpu_features) or "none of those that matter"
    console.print(f"[bold]Machine[/]  {machine.system}, Python {machine.python}", highlight=False)
    console.print(
        f"[bold]CPU[/]      {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB; {features}", highlight=False
    )
    gpu = "an NVIDIA driver is here" if machine.cuda_driver else "no NVIDIA driver"
    console.print(f"[bold]GPU[/]      {gpu}; this version runs on the CPU only", highlight=False)

    table = Table("package", "version", "for", "remedy", title="Packages", title_justify="left")
    for package in machine.packages:
        missing = package.version is None
        remedy = f"pip install 'trt-anon[{package.extra}]'" if missing else ""
        table.add_row(
            package.name, "[red]missing[/]" if missing else package.version, package.purpose, remedy.replace("[", r"\[")
        )
    console.print(table)

    table = Table("video codec", "encoder", title="Encoders", title_justify="left")
    for family, present in machine.encoders.items():
        table.add_row(family, "ready" if present else "[red]missing[/]")
    console.print(table)

    table = Table("model", "state", "remedy", title="Models", title_justify="left")
    for name, state in states.items():
        ready = state == "ready"
        table.add_row(name, state if ready else f"[yellow]{state}[/]", "" if ready else f"trt-anon models fetch {name}")
    console.print(table)
