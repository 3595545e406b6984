"""Options that several commands share, and how they become a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trt_anon.errors import UsageError

if TYPE_CHECKING:
    from trt_anon.config import AnonymizeConfig

DETECTION = "What to find"
REDACTION = "How to redact"
OUTPUT = "What to write"
MACHINE = "Where to run"

_CLASSES = {
    "face": "face",
    "faces": "face",
    "plate": "license_plate",
    "plates": "license_plate",
    "license_plate": "license_plate",
}

Inputs = Annotated[
    list[Path],
    typer.Argument(help="Images, videos or folders.", show_default=False, metavar="INPUT...", readable=False),
]
Detect = Annotated[
    str | None,
    typer.Option(
        "--detect",
        metavar="faces|plates|faces,plates",
        help="The objects to look for.  \\[default: faces]",
        rich_help_panel=DETECTION,
    ),
]
Detector = Annotated[
    list[str] | None,
    typer.Option(
        "--detector",
        metavar="NAME|RECIPE.toml",
        help="A detector by name (see [bold]trt-anon models list[/]) or recipe file; repeat to merge several.",
        rich_help_panel=DETECTION,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="fast|balanced|thorough",
        help="How much time to spend on missing less.  \\[default: fast]",
        rich_help_panel=DETECTION,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", help="Minimum score, 0 to 1.  \\[default: the detector's]", rich_help_panel=DETECTION),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        metavar="PIXELS",
        help="Look also at overlapping parts of this side, for large pictures with small objects.",
        show_default=False,
        rich_help_panel=DETECTION,
    ),
]
TileOverlap = Annotated[
    float | None,
    typer.Option(
        "--tile-overlap",
        help="Share of a part that it has in common with the next.  \\[default: 0.2]",
        rich_help_panel=DETECTION,
    ),
]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip",
        help="Look also at the mirror image; twice the time.  \\[default: the detector's]",
        show_default=False,
        rich_help_panel=DETECTION,
    ),
]
Fusion = Annotated[
    str | None,
    typer.Option(
        "--fusion",
        metavar="nms|weighted",
        help="Of several boxes of an object keep the best, or their mean.  \\[default: the detector's]",
        rich_help_panel=DETECTION,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML file with any of these options; the command line wins.", show_default=False),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda",
        help="auto: a GPU if there is one.  \\[default: auto]",
        rich_help_panel=MACHINE,
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="auto|openvino|onnxruntime|tensorrt|tensorrt-rtx|onnxruntime-tensorrt|null",
        help="What runs the detectors.  \\[default: auto]",
        rich_help_panel=MACHINE,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="auto|f32|bf16|fp16|int8|fp8",
        help="Arithmetic of the detectors; auto: bf16 where the CPU has it, fp16 on a GPU.  \\[default: auto]",
        rich_help_panel=MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Threads for inference, decoding and encoding, each.  \\[default: all cores]",
        rich_help_panel=MACHINE,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def classes(detect: str | None) -> tuple[str, ...] | None:
    """`faces,plates` as class names; None stays None."""
    if detect is None:
        return None
    wanted = []
    for word in detect.split(","):
        name = _CLASSES.get(word.strip().lower())
        if name is None:
            raise UsageError(f"--detect: unknown {word.strip()!r}; use faces, plates, or faces,plates")
        if name not in wanted:
            wanted.append(name)
    return tuple(wanted)


def views(
    tile: int | None, tile_overlap: float | None, flip: bool | None, fusion: str | None
) -> dict[str, int | float | bool | str | None]:
    """How to look at a picture, as options of a configuration."""
    if tile_overlap is not None and tile is None:
        raise UsageError("--tile-overlap is about parts; add --tile PIXELS")
    return {"tile_px": tile, "tile_overlap": tile_overlap, "flip": flip, "fusion": fusion}


def configuration(config: Path | None, **options: Any) -> AnonymizeConfig:
    """The configuration file, if any, with single options replaced."""
    from trt_anon.api import make_config
    from trt_anon.config import AnonymizeConfig

    base = AnonymizeConfig.from_toml(config) if config else None
    return make_config(base, **options)
