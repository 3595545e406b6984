"""Options of `anonymize` for how objects are followed through a video."""

from __future__ import annotations

from typing import Annotated

import typer

TRACKING = "How to follow objects"

Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="on|off",
        help="Follow objects through a video; off: each frame by itself.  \\[default: on]",
        rich_help_panel=TRACKING,
    ),
]
LookAhead = Annotated[
    float | None,
    typer.Option(
        "--look-ahead",
        help="Seconds that a frame waits for what comes after it.  \\[default: 1]",
        rich_help_panel=TRACKING,
    ),
]
TwoPass = Annotated[
    bool | None,
    typer.Option(
        "--two-pass/--one-pass",
        help="Look through the whole file first, then redact: the longest look-ahead.  \\[default: one pass]",
        rich_help_panel=TRACKING,
        show_default=False,
    ),
]
DetectEvery = Annotated[
    str | None,
    typer.Option(
        "--detect-every",
        metavar="N|auto",
        help="Detect in every N-th frame, follow in between; auto: ten times a second.  \\[default: 1]",
        rich_help_panel=TRACKING,
    ),
]
MaxGap = Annotated[
    float | None,
    typer.Option(
        "--max-gap",
        help="Seconds for which an object may be lost and is hidden all the same.  \\[default: 1]",
        rich_help_panel=TRACKING,
    ),
]


def detect_every(given: str | None) -> int | str | None:
    """`--detect-every` as the configuration takes it."""
    return int(given) if given is not None and given.isdigit() else given
