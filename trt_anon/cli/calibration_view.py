"""A calibration in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from trt_anon.calibrate import Outcome
    from trt_anon.calibrate.recall import Verdict


def show_outcome(outcome: Outcome, console: Console) -> None:
    """Print what a calibration came to, and what to try where recall does not hold."""
    from trt_anon.calibrate import advice

    report = outcome.report
    int8, source = report["int8"], report["recall_from"]
    console.print(
        f"[bold]{escape(report['detector'])}[/]: ranges of {report['ranges_from']['images']} pictures; recall of "
        f"{source['objects']} objects in {source['images']} others, labels: {escape(source['labels'])}",
        highlight=False,
    )
    console.print(
        f"{int8['layers']} of {int8['of_layers']} layers in INT8, {int8['share_of_multiply_adds']:.0%} of the "
        f"multiply-adds; {len(int8['kept_for_recall'])} kept in high precision for recall's sake",
        highlight=False,
    )
    show_verdict(outcome.verdict, console)
    if not outcome.verdict.holds:
        console.print("No layer can run in INT8 at that price. What to try:", highlight=False)
        for line in advice(outcome.verdict, report):
            console.print(f"  - {escape(line)}", highlight=False)


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print recall before and after, and whether it holds."""
    table = Table(title="Recall", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("height", no_wrap=True)
    for name in ("objects", "float32", "INT8", "points lost", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    for drop in verdict.drops:
        name = drop.name if drop.name == "all" else f"{drop.name} px"
        lost = f"{drop.points:+.2f}"
        table.add_row(
            name,
            str(drop.objects),
            f"{drop.before / drop.objects:.1%}",
            f"{drop.after / drop.objects:.1%}",
            f"[red]{lost}[/]" if drop.fails else lost,
            f"{drop.most:g}",
        )
    console.print(table)
    console.print(
        f"Boxes on nothing labelled: {verdict.wrong_before} in float32, {verdict.wrong_after} in INT8", highlight=False
    )
    if verdict.holds:
        console.print("[green]Recall holds.[/]", highlight=False)
    else:
        failed = ", ".join(
            drop.name if drop.name == "all" else f"{drop.name} px" for drop in verdict.drops if drop.fails
        )
        console.print(f"[red]Recall does not hold:[/] too much is lost of {failed}", highlight=False)
