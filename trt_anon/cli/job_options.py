"""Options of `anonymize` about a job that goes on after an interruption."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trt_anon.errors import UsageError

if TYPE_CHECKING:
    from trt_anon.job import resume as resuming

JOB = "Long jobs"
DEFAULT_KEEP_FREE_MIB = 256

Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="Go on with what an earlier run of this job left.  \\[default: for folders and several inputs]",
        rich_help_panel=JOB,
        show_default=False,
    ),
]
Retry = Annotated[
    bool, typer.Option("--retry", help="Try inputs again that failed before.", rich_help_panel=JOB, show_default=False)
]
Journal = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Where the job's books are kept.  \\[default: in your state folder]",
        rich_help_panel=JOB,
        show_default=False,
    ),
]
KeepFree = Annotated[
    int,
    typer.Option("--keep-free", metavar="MIB", min=0, help="Room to leave on the disk.", rich_help_panel=JOB),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=1024,
        help="Processes side by side, each with its own detectors.  \\[default: 1]",
        rich_help_panel=JOB,
        show_default=False,
    ),
]
Segment = Annotated[
    float | None,
    typer.Option(
        "--segment",
        metavar="SECONDS",
        min=0,
        help="Cut videos into segments of at least this length, done apart; 0: never.  \\[default: 120]",
        rich_help_panel=JOB,
        show_default=False,
    ),
]


def resume(
    inputs: Sequence[Path],
    output: str,
    *,
    resume: bool | None,
    retry: bool,
    journal: Path | None,
    keep_free_mib: int,
    workers: int | None,
    segment_seconds: float | None,
) -> resuming.Resume | None:
    """How the job goes on, None if it does not. Raises UsageError for options that contradict each other."""
    from trt_anon.job import resume as resuming
    from trt_anon.job.segments import DEFAULT_SEGMENT_SECONDS

    asked = retry or journal is not None or workers is not None or segment_seconds is not None
    if resume is False and asked:
        raise UsageError("--retry, --journal, --workers, --segment need a job that goes on; leave out --no-resume")
    wanted = resume or asked
    if not wanted and (resume is False or (len(inputs) == 1 and not os.path.isdir(inputs[0]))):  # noqa: PTH112
        return None
    length = DEFAULT_SEGMENT_SECONDS if segment_seconds is None else segment_seconds
    made = resuming.Resume(journal, retry, keep_free_mib, segment_seconds=length, workers=workers or 1)
    return made.of(Path(output))
