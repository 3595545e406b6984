"""A random sample of redacted frames for a person to look at, and what their count of misses says about all of them."""

from __future__ import annotations

import html
import json
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import InputError, OutputError, UsageError
from trt_anon.geometry import turn_upright
from trt_anon.job.inputs import Kind, Task, plan
from trt_anon.job.segments import scan
from trt_anon.metrics.intervals import lower_bound
from trt_anon.source.base import Source
from trt_anon.source.images import ImageSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.source.span import Span, SpanSource
from trt_anon.types import Frame

FORMAT = "trt-anon sample 1"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A frame of the sample: its file, number in it, and time in seconds, None in a picture."""

    file: str
    index: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Bound:
    """What was seen and what follows: `rate` is the share of sampled frames with a miss, `upper` the bound of all."""

    sampled: int
    misses: int
    confidence: float
    rate: float
    upper: float


@dataclass(frozen=True, slots=True)
class _Known:
    """A file, how many frames it has, and where they can be decoded from: times and key frames, empty if unknown."""

    task: Task
    frames: int
    shown: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()


def draw_sample(
    job: Path, folder: Path, *, size: int, seed: int = 0, on_frame: Callable[[int], None] | None = None
) -> tuple[int, int]:
    """Draw frames of a redacted file or folder and write a contact sheet; gives (frames drawn, frames there are).

    All frames, file after file in time, are parted into `size` strata of equal length, but for rounding, and one frame
    of each is drawn at random: so each is as likely as any other, and the sample is spread over all files and times.
    folder: is made for the user alone, and gets `index.html`, `sample.json` and the pictures. Raises UsageError,
    InputError, OutputError.
    """
    known = [_count(task) for task in plan([job], job, detect_only=True).tasks]
    population = sum(each.frames for each in known)
    chosen = _strata(population, min(size, population), random.Random(seed))
    _make_folder(folder)
    drawn: list[Drawn] = []
    first = 0
    for each in known:
        wanted = [number - first for number in chosen if first <= number < first + each.frames]
        first += each.frames
        for frame in _frames(each, wanted):
            _save(frame, folder / f"{len(drawn):04}.jpg")
            drawn.append(Drawn(str(each.task.source), frame.index, frame.pts_seconds))
            if on_frame is not None:
                on_frame(len(drawn))
    if len(drawn) != len(chosen):
        raise InputError(f"{job}: only {len(drawn)} of {len(chosen)} frames could be decoded")
    values = {"format": FORMAT, "seed": seed, "population": population, "frames": [asdict(each) for each in drawn]}
    _write(folder / "sample.json", json.dumps(values, indent=1) + "\n")
    _write(folder / "index.html", _sheet(drawn, population, folder))
    return len(drawn), population


def bound_of(folder: Path, misses: int, confidence: float = 0.95) -> Bound:
    """What a reviewer's count of frames with a miss says: the one-sided exact bound of Clopper and Pearson.

    Raises InputError where `folder` holds no sample, UsageError for impossible numbers.
    """
    path = folder / "sample.json" if folder.is_dir() else folder
    try:
        values: Any = json.loads(path.read_bytes())
        sampled = len(values["frames"]) if values["format"] == FORMAT else 0
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no sample of this program") from error
    if not sampled:
        raise InputError(f"{path} is no sample of this program")
    if not 0 <= misses <= sampled:
        raise UsageError(f"--misses {misses}: the sample has {sampled} frames")
    return Bound(sampled, misses, confidence, misses / sampled, 1 - lower_bound(sampled - misses, sampled, confidence))


def _strata(population: int, size: int, chance: random.Random) -> list[int]:
    edges = [population * number // size for number in range(size + 1)] if size else []
    return [chance.randrange(low, high) for low, high in pairwise(edges)]


def _count(task: Task) -> _Known:
    if task.kind == "video":
        found = scan(task.source)
        if found is not None:
            return _Known(task, len(found[0]), tuple(found[0]), tuple(found[1]))
    source = _open(task.source, task.kind)
    try:
        return _Known(task, sum(1 for _ in source))
    finally:
        source.close()


def _frames(known: _Known, wanted: Sequence[int]) -> Iterator[Frame]:
    """The frames of these numbers, decoded from the key frame before each where that is known."""
    if not wanted:
        return
    if not known.shown:
        source = _open(known.task.source, known.task.kind)
        try:
            yield from (frame for frame in source if frame.index in set(wanted))
        finally:
            source.close()
        return
    for index in wanted:
        before = bisect_right(known.keys, known.shown[index]) - 2  # one further back, as for segments
        seek = known.keys[before] if before > 0 else None
        first = 0 if seek is None else known.shown.index(seek)
        spanned = SpanSource(known.task.source, Span(seek, known.shown[index], first))
        try:
            yield from (frame for frame in spanned if frame.index == index)
        finally:
            spanned.close()


def _open(path: Path, kind: Kind) -> Source:
    return ImageSource(path) if kind == "image" else PyAVSource(path)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; name a new folder for the sample")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error


def _save(frame: Frame, path: Path) -> None:
    image = require("PIL.Image", "writing a contact sheet")
    native = frame.native
    stored: NDArray[np.uint8]
    if native is not None:
        stored = native.to_ndarray(format="rgb24")
    else:
        plane = frame.planes[0]
        stored = (plane >> 8 if plane.dtype == np.uint16 else plane).astype(np.uint8)
        stored = stored[..., 0] if stored.ndim == 3 and stored.shape[2] < 3 else stored
    upright = np.ascontiguousarray(turn_upright(stored, frame.orientation))
    picture = image.fromarray(upright[..., :3] if upright.ndim == 3 else upright)
    try:
        picture.save(path, "JPEG", quality=92)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Release sample</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file: data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<style>
body {{ font: 15px sans-serif; margin: 1em; background: #eee }}
header {{ position: sticky; top: 0; background: #eee; padding: .5em 0 }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(30em, 1fr)); gap: .6em }}
figure {{ margin: 0; padding: .3em; background: #fff; border: 4px solid #fff; cursor: pointer }}
figure.miss {{ border-color: #c00 }}
img {{ width: 100% }} figcaption {{ overflow-wrap: anywhere; color: #555 }}
</style>
<header><b>{count} frames of {population}.</b> Click each frame in which somebody can be recognised, or a plate read.
<b>Frames with a miss: <span id="misses">0</span></b>; then run: <code>trt-anon sample {folder} --misses
<span id="again">0</span></code></header>
<main>
{figures}
</main>
<script>
document.querySelectorAll("figure").forEach(figure => figure.addEventListener("click", () => {{
  figure.classList.toggle("miss");
  const count = document.querySelectorAll("figure.miss").length;
  document.getElementById("misses").textContent = document.getElementById("again").textContent = count;
}}));
</script></html>
"""


def _sheet(drawn: Sequence[Drawn], population: int, folder: Path) -> str:
    figures = []
    for number, each in enumerate(drawn):
        where = "" if each.seconds is None else f", {each.seconds:.3f} s"
        text = html.escape(f"{each.file}, frame {each.index}{where}")
        figures.append(
            f'<figure><img loading="lazy" src="{number:04}.jpg" alt=""><figcaption>{text}</figcaption></figure>'
        )
    return _PAGE.format(
        count=len(drawn), population=population, folder=html.escape(str(folder)), figures="\n".join(figures)
    )
