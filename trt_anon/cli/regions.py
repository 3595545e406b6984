"""`trt-anon regions`: check a file of regions by hand, see them in a frame, and print the file's schema."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from trt_anon.cli import options

app = typer.Typer(help="Check and look at regions drawn by hand.", no_args_is_help=True)

RegionsFile = Annotated[
    Path, typer.Argument(help="JSON, CVAT XML or COCO JSON.", show_default=False, metavar="REGIONS")
]


@app.command("validate")
def validate(
    regions: RegionsFile,
    media: Annotated[
        list[Path] | None, typer.Argument(help="Inputs, to see which regions apply to each.", show_default=False)
    ] = None,
) -> None:
    """Check a regions file; an error names what is wrong and where."""
    from trt_anon.job.regions_file import read_regions
    from trt_anon.regions.timeline import Timeline

    found = read_regions(regions)
    actions = Counter(region.action for region in found.regions)
    counts = ", ".join(f"{actions[action]} to {action}" for action in ("redact", "keep", "ignore") if actions[action])
    treated = f"; treated by class: {', '.join(sorted(found.treatments))}" if found.treatments else ""
    typer.echo(f"{len(found.regions)} regions{f' ({counts})' if counts else ''}, times in {found.time_unit}{treated}")
    for source in media or ():
        typer.echo(f"{source}: {Timeline(found, source).count} regions apply")


@app.command("draw")
def draw(
    regions: RegionsFile,
    media: Annotated[Path, typer.Argument(help="An image or video.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.", show_default=False)],
    at: Annotated[
        float | None,
        typer.Option("--at", help="Time of the frame, in the file's unit.  \\[default: the first with a region]"),
    ] = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write one frame with the outlines of its regions: red is redacted, green kept, blue ignored.

    The picture shows people as they are.
    """
    from trt_anon.job.regions_draw import draw_regions
    from trt_anon.job.regions_file import read_regions

    count = draw_regions(read_regions(regions), media, output, at=at, overwrite=overwrite)
    typer.echo(f"{count} regions drawn, written to {output}")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of the file."""
    from trt_anon.job.regions_file import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
