"""How engines and their building are shown."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from trt_anon.runtime.engine_store import StoredEngine
    from trt_anon.runtime.trt.progress import Progress as BuildProgress

_LINE_EVERY_SECONDS = 5.0


def print_facts(facts: dict[str, Any], *, json: bool) -> None:
    """A line for each fact that is known, or JSON of them all."""
    if json:
        typer.echo(json_module.dumps(facts, indent=2))
        return
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, shown)) + 2
    for name, value in shown.items():
        text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        typer.echo(f"{name:<{width}}{text}")


def facts_of_engine(engine: StoredEngine) -> dict[str, Any]:
    """What a manifest says, in the order in which it matters."""
    manifest = engine.manifest
    key = manifest.key
    convolutions = manifest.convolutions()
    return {
        "file": str(engine.path),
        "model": key.model,
        "precision": key.precision,
        "convolutions": ", ".join(f"{n} in {p}" for p, n in convolutions.items()) if convolutions else None,
        "library": f"{key.backend} {key.library_version}",
        "for": ", ".join(key.targets) + (f" ({key.gpu})" if key.gpu else ""),
        "inputs": ", ".join(f"{t.name} {t.dtype} {shape_in_words(t.shape)}" for t in manifest.inputs),
        "outputs": ", ".join(f"{t.name} {t.dtype} {shape_in_words(t.shape)}" for t in manifest.outputs),
        "profiles": "; ".join(
            ", ".join(f"{name} {' '.join(map(shape_in_words, shapes))}" for name, shapes in profile.items())
            for profile in key.profiles
        ),
        "size": f"{manifest.engine_bytes / 1e6:.1f} MB",
        "device memory": _device_memory(manifest.weights_bytes, manifest.scratch_bytes),
        "built in": f"{manifest.build_seconds:.1f} s",
        "host memory": f"{manifest.build_peak_memory_bytes / 1e6:.0f} MB at most, of the process that built",
        "built by": manifest.built_by,
        "engine sha256": manifest.engine_sha256,
        "network sha256": key.onnx_sha256,
        "source sha256": key.source_sha256,
        "calibration sha256": key.calibration_sha256,
    }


def shape_in_words(shape: Sequence[int | None]) -> str:
    """A shape as 8x384x640x3, free dimensions as N."""
    return "x".join("N" if side is None else str(side) for side in shape)


@contextmanager
def build_progress(name: str, *, quiet: bool) -> Iterator[BuildProgress | None]:
    """How far a build is: a bar in a terminal, a line now and then elsewhere, nothing when quiet."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(escape(name), total=1.0)
            yield lambda share, phase: bar.update(task, completed=share, description=escape(f"{name}: {phase}"))
    else:
        yield _Lines(name)


class _Lines:
    def __init__(self, name: str) -> None:
        self._name = name
        self._last = time.monotonic()

    def __call__(self, share: float, phase: str) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_SECONDS:
            self._last = now
            print(f"{self._name}: {share:.0%} {phase}", file=sys.stderr, flush=True)  # noqa: T201


def _device_memory(weights_bytes: int | None, scratch_bytes: int | None) -> str | None:
    known = [(weights_bytes, "weights"), (scratch_bytes, "scratch")]
    return ", ".join(f"{size / 1e6:.1f} MB {what}" for size, what in known if size is not None) or None
