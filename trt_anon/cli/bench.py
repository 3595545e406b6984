"""`trt-anon bench`: how fast the pipeline is here, stage by stage, and against what could be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from trt_anon.cli import options, track_options
from trt_anon.cli.options import DETECTION, OUTPUT, REDACTION
from trt_anon.errors import UsageError

MEASURES = "What to measure"


def bench(
    source: Annotated[
        Path | None,
        typer.Argument(help="A video; without one, clips are drawn.", metavar="[INPUT]", show_default=False),
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution",
            metavar="720p,1080p,4k|WxH",
            help="Of drawn clips.  \\[default: 1080p]",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    faces: Annotated[
        str | None,
        typer.Option("--faces", metavar="0,5,20", help="In drawn clips.  \\[default: 5]", rich_help_panel=MEASURES),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="1,8,32",
            help="Frames in a batch on a GPU; a CPU takes one at a time.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    stages: Annotated[bool, typer.Option("--stages", help="Every stage alone, too.", rich_help_panel=MEASURES)] = False,
    encode: Annotated[
        bool, typer.Option("--encode/--no-encode", help="Measure writing, too.", rich_help_panel=MEASURES)
    ] = True,
    seconds: Annotated[
        float, typer.Option("--seconds", help="Time for each part of each clip.", rich_help_panel=MEASURES)
    ] = 3.0,
    frames: Annotated[
        int | None,
        typer.Option("--frames", help="At most this many.  \\[default: what fits]", rich_help_panel=MEASURES),
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--recipe",
            "--detector",
            metavar="NAME|RECIPE.toml",
            help="A detector; repeatable.",
            rich_help_panel=DETECTION,
        ),
    ] = None,
    detect: options.Detect = None,
    preset: options.Preset = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="gaussian|pixelate|solid", help="Of redaction.", rich_help_panel=REDACTION),
    ] = None,
    track: track_options.Track = None,
    config: options.Config = None,
    device: options.Device = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result.", rich_help_panel=OUTPUT)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="DIR", help="Draw it, as PNG files.", rich_help_panel=OUTPUT)
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A.json B.json",
            help="Compare two results instead of measuring.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure the pipeline on this machine: every stage, the whole, and how much of each limit it reaches."""
    from trt_anon.bench import BenchSettings, read_result, run_bench, write_plots, write_result
    from trt_anon.bench import compare as compare_results
    from trt_anon.bench.settings import parse_numbers, parse_sizes
    from trt_anon.cli.bench_view import show, show_comparison
    from trt_anon.config import validated

    if compare is not None:
        if source is not None or json is not None or plot is not None:
            raise UsageError("--compare takes two results and measures nothing: leave INPUT, --json and --plot out")
        show_comparison(compare_results(read_result(compare[0]), read_result(compare[1])))
        return
    if source is not None and (resolution or faces):
        raise UsageError("--resolution and --faces are for drawn clips: leave INPUT out")

    wanted = options.configuration(
        config,
        classes=options.classes(detect),
        detectors=tuple(recipe) if recipe else None,
        preset=preset,
        method=method,
        track=track,
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
    )
    where = chosen_device(wanted.runtime.device)
    given = {
        "source": source,
        "device": where,
        "sizes_px": parse_sizes(resolution) if resolution else None,
        "faces": parse_numbers("--faces", faces) if faces else None,
        "batches": parse_numbers("--batch", batch) if batch else ((1, 8, 32) if where == "cuda" else (1,)),
        "seconds": seconds,
        "stages": stages,
        "encode": encode,
        "frames": frames,
    }
    settings = validated(BenchSettings, {name: value for name, value in given.items() if value is not None}, "bench")
    console = Console(stderr=True)

    def say(line: str) -> None:
        if not quiet:
            console.print(line, style="dim", highlight=False, markup=False)

    result = run_bench(settings, wanted, say=say)
    if not quiet:
        show(result)
    if json is not None:
        write_result(json, result)
        say(f"written to {json}")
    if plot is not None:
        say(f"drawn: {', '.join(path.name for path in write_plots(result, plot))}")


def chosen_device(asked: str) -> str:
    """`auto` is the CPU: a GPU is measured only if it is asked for."""
    return "cuda" if asked == "cuda" else "cpu"
