"""`trt-anon detect`: boxes as COCO JSON, for those who want them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trt_anon.cli import options
from trt_anon.cli.options import OUTPUT


def detect(
    inputs: options.Inputs,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file to write.", show_default=False, rich_help_panel=OUTPUT)
    ],
    detect: options.Detect = None,
    detector: options.Detector = None,
    preset: options.Preset = None,
    threshold: options.Threshold = None,
    tile: options.Tile = None,
    tile_overlap: options.TileOverlap = None,
    flip: options.Flip = None,
    fusion: options.Fusion = None,
    tracks: Annotated[
        bool,
        typer.Option(
            "--tracks",
            help="In videos, objects as they are followed, each with its track_id and the box that would hide it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Write the boxes found in images and videos as COCO JSON.

    The file holds personal data: where people and cars are. Nothing is redacted.
    """
    from trt_anon.api import Anonymizer

    settings = options.configuration(
        config,
        classes=options.classes(detect),
        detectors=tuple(detector) if detector else None,
        preset=preset,
        threshold=threshold,
        **options.views(tile, tile_overlap, flip, fusion),
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
    )
    with Anonymizer(settings) as anonymizer:
        frames, boxes = anonymizer.write_detections(inputs, output, tracks=tracks, overwrite=overwrite)
    if not quiet:
        typer.echo(f"{boxes} boxes in {frames} frames, written to {output}")
