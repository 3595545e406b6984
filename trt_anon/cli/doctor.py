"""`trt-anon doctor`: what this machine has, and what is missing for what."""

from __future__ import annotations

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trt_anon.gpuhost import Finding, GpuHost


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False) -> None:
    """Show what this machine has, and what is missing for what."""
    from trt_anon.gpuhost import inspect_gpu_host, judge
    from trt_anon.machine import inspect_machine
    from trt_anon.models.registry import Registry

    machine, gpu_host = inspect_machine(), inspect_gpu_host()
    findings = judge(gpu_host)
    registry = Registry()
    states = {recipe.name: registry.state(recipe) for recipe in registry.recipes()}
    if json:
        typer.echo(
            json_module.dumps({**machine.to_dict(), **_gpu_json(gpu_host, findings), "models": states}, indent=2)
        )
        return

    console = Console(soft_wrap=True)
    features = ", ".join(machine.cpu_features) or "none of those that matter"
    console.print(f"[bold]Machine[/]  {machine.system}, Python {machine.python}", highlight=False)
    console.print(
        f"[bold]CPU[/]      {machine.cpu}, {machine.cores} cores, {machine.memory_gib} GiB; {features}", highlight=False
    )
    _show_gpu(console, gpu_host, findings)

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


def _gpu_json(host: GpuHost, findings: Sequence[Finding]) -> dict[str, object]:
    said = [{"level": f.level, "what": f.what, "remedy": f.remedy} for f in findings]
    return {"gpu_host": host.to_dict(), "findings": said}


def _show_gpu(console: Console, host: GpuHost, findings: Sequence[Finding]) -> None:
    driver = "no NVIDIA driver" if host.driver is None else f"driver {host.driver}"
    if host.driver_cuda:
        driver += f", CUDA up to {host.driver_cuda[0]}.{host.driver_cuda[1]}"
    where = f"; in a container ({host.container})" if host.container and host.driver else ""
    console.print(f"[bold]GPU[/]      {escape(driver + where)}", highlight=False)
    for gpu in host.gpus:
        console.print(f"         {escape(gpu.name)}, {gpu.target}, {gpu.memory_bytes / 2**30:.0f} GiB", highlight=False)
    if host.decoder and not host.decoder.error:
        codecs = ", ".join(f"{name} to {size}" for name, size in host.decoder.codecs.items())
        console.print(f"         decodes on {host.decoder.engines} engines: {codecs}", highlight=False)
    if host.encoder and not host.encoder.error:
        console.print(f"         encodes {', '.join(host.encoder.codecs) or 'nothing'}", highlight=False)
    if host.gpus:
        said = ", ".join(f"{name} {version}" for name, version in host.packages.items())
        console.print(f"         {escape(said)}", highlight=False)
    for finding in findings:
        color = "red" if finding.level == "problem" else "dim"
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        console.print(f"[{color}]{finding.level}[/]: {escape(finding.what + remedy)}", highlight=False)
