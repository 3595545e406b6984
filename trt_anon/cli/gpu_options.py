"""Options of `anonymize` about GPUs."""

from __future__ import annotations

from typing import Annotated

import typer

from trt_anon.errors import UsageError

GPU = "On GPUs"

Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="0,1,...",
        help="The GPUs to use, each for videos of its own; what one fails at goes to the others.  \\[default: 0]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]
Decoder = Annotated[
    str | None,
    typer.Option(
        "--decoder",
        metavar="auto|nvcodec|dali|pyav",
        help="What decodes videos: NVDEC, NVIDIA DALI, or FFmpeg on the CPU.  \\[default: NVDEC where it can]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="auto|cpu|nvenc",
        help="What encodes videos that went through a GPU.  \\[default: NVENC where it can]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        help="Frames that are worked on together.  \\[default: 16, or what fits]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]
GpuMemory = Annotated[
    int | None,
    typer.Option(
        "--gpu-memory",
        metavar="MIB",
        help="Memory for frames and what is found in them; models come on top.  \\[default: what is there]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]
VideosAtOnce = Annotated[
    int | None,
    typer.Option(
        "--videos-at-once",
        metavar="N",
        help="Videos at the same time on each GPU.  \\[default: 4]",
        rich_help_panel=GPU,
        show_default=False,
    ),
]


def devices(text: str | None) -> tuple[int, ...] | None:
    """`0,1` as numbers; None stays None. Raises UsageError for anything else."""
    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) != len(words):
        raise UsageError(f"--devices: expected numbers of GPUs, each once, as in 0,1; got {text!r}")
    return tuple(int(word) for word in words)
