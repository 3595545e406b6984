"""Tables of a bench, and of the comparison of two."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trt_anon.bench import BenchResult, Comparison
from trt_anon.bench.result import Case
from trt_anon.metrics.speed import Spread


def show(result: BenchResult) -> None:
    """Print a result: a table per case, the limits below it, and what was not measured."""
    console = Console(soft_wrap=True)
    machine = result.machine
    line = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Python {machine['python']}"
    console.print(escape(line), highlight=False)
    gpu = result.conditions.get("gpu")
    if gpu:
        console.print(escape(f"{gpu.get('name')}, driver {gpu.get('driver')}"), highlight=False)
    load = result.conditions.get("load_average")
    if load and load[0] > 0.5 * machine["cores"]:
        console.print(f"[yellow]this machine was busy: load {load[0]}; figures are lower than it can do[/]")
    for case in result.cases:
        console.print()
        _show_case(console, case)


def _show_case(console: Console, case: Case) -> None:
    title = (
        f"{case.name}, batch {case.batch}: {case.frames} frames, {case.found_per_frame:.1f} objects redacted in each"
    )
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("part", no_wrap=True)
    for heading in ("fps", "quartiles", "ms", "p95", "p99", "CPU ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in case.parts.items():
        latency, cpu = part.latency, part.cpu_ms_per_frame
        table.add_row(
            f"[bold]{name}[/]" if name.startswith("pipeline") else name,
            _number(part.fps.median),
            f"{_number(part.fps.low)} - {_number(part.fps.high)}",
            "" if latency is None else _number(latency.median_ms),
            "" if latency is None else _number(latency.p95_ms),
            "" if latency is None else _number(latency.p99_ms),
            "" if cpu is None else _number(cpu.median),
        )
    console.print(table)
    for name, share in case.shares.items():
        console.print(f"  {name}: [bold]{_percent(share)}[/] ({_percent_range(share)})", highlight=False)
    console.print(f"  slowest stage: [bold]{case.slowest}[/]", highlight=False)
    for name, hours in case.hours_per_10000.items():
        console.print(
            f"  10,000 h of such video at {case.frame_rate:g} fps, {name}: {hours:,.0f} machine-hours", highlight=False
        )
    memory = case.memory
    if memory.host_rss_mib is not None:
        console.print(f"  peak host memory: {memory.host_rss_mib:,.0f} MiB", highlight=False)
    if memory.gpu_mib is not None:
        console.print(f"  GPU memory: {memory.gpu_mib:,.0f} MiB", highlight=False)
    if case.traffic is not None:
        traffic = case.traffic
        for purpose, count in traffic.pcie_bytes_per_frame.items():
            console.print(f"  across PCIe, {purpose}: {count:,.0f} bytes/frame", highlight=False)
        console.print(
            f"  per batch: {traffic.launches_per_batch:g} launches, {traffic.synchronisations_per_batch:g} "
            f"synchronisations, {traffic.allocations_per_batch:g} allocations",
            highlight=False,
        )
    if case.power is not None and case.power.watts is not None:
        slowed = f", slowed by {', '.join(case.power.throttled)}" if case.power.throttled else ""
        console.print(f"  {case.power.watts:.0f} W, {case.power.sm_mhz or 0:.0f} MHz{slowed}", highlight=False)
    for what, why in case.missing.items():
        console.print(f"  [dim]not measured: {escape(what)}: {escape(why)}[/]", highlight=False)


def show_comparison(comparison: Comparison) -> None:
    """Print two results side by side, and what about them is not like for like."""
    console = Console(soft_wrap=True)
    table = Table("case", "part", title="Frames per second", title_justify="left")
    for heading in ("first", "second", "second / first"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for pair in comparison.pairs:
        color = "" if not pair.clear else "green" if pair.ratio > 1 else "red"
        ratio = f"{pair.ratio:.2f}"
        table.add_row(
            escape(pair.case),
            pair.part,
            _number(pair.first.median),
            _number(pair.second.median),
            f"[{color}]{ratio}[/]" if color else ratio,
            "" if pair.clear else "within the spread",
        )
    console.print(table)
    for line in comparison.unpaired:
        console.print(f"  {escape(line)}", highlight=False)
    if comparison.like_for_like:
        console.print("Like for like: same machine, versions, settings and input.", highlight=False)
        return
    console.print("[bold yellow]Not like for like:[/]", highlight=False)
    for name, (first, second) in comparison.differences.items():
        console.print(f"  {escape(name)}: {escape(str(first))} | {escape(str(second))}", highlight=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(share: Spread) -> str:
    return f"{100 * share.median:.0f}%"


def _percent_range(share: Spread) -> str:
    return f"{100 * share.low:.0f} to {100 * share.high:.0f}"
