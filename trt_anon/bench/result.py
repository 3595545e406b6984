"""The result of a bench: what is in its file, checked when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trt_anon.errors import InputError, OutputError
from trt_anon.metrics.speed import Latency, Spread

SCHEMA = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Record):
    """One part of the pipeline, or all of it.

    fps: frames per second. latency: of a single frame (of a batch on a GPU) through this part; None where frames do not
    pass one by one. cpu_ms_per_frame: processor time of all threads, where it was measured.
    """

    fps: Spread
    latency: Latency | None = None
    cpu_ms_per_frame: Spread | None = None


class Memory(_Record):
    """Peaks while the whole pipeline runs, in MiB; None where it was not measured. gpu: what the run added."""

    host_rss_mib: float | None = None
    gpu_mib: float | None = None


class Traffic(_Record):
    """What the GPU pipeline asked of the device in steady state."""

    pcie_bytes_per_frame: dict[str, float]
    launches_per_batch: float
    synchronisations_per_batch: float
    allocations_per_batch: float


class Power(_Record):
    """What NVML said while the whole pipeline ran: means of watts and clocks, the highest temperature."""

    watts: float | None = None
    sm_mhz: float | None = None
    memory_mhz: float | None = None
    celsius: float | None = None
    throttled: tuple[str, ...] = ()


class Case(_Record):
    """One combination of clip and batch.

    found_per_frame: objects that were redacted. parts: by name. shares: how much of a limit was reached, by name.
    slowest: the part that bounds the pipeline. hours_per_10000: hours that this machine needs for 10,000 hours of video
    of this kind, by whether it is written. missing: what was not measured, and why.
    """

    name: str
    width_px: int
    height_px: int
    frame_rate: float
    frames: int
    faces: int | None
    batch: int
    input_sha256: str
    found_per_frame: float
    parts: dict[str, Part]
    shares: dict[str, Spread]
    slowest: str
    hours_per_10000: dict[str, float]
    memory: Memory
    traffic: Traffic | None = None
    power: Power | None = None
    missing: dict[str, str]


class BenchResult(_Record):
    """A whole bench: what was measured, on what, under which conditions."""

    kind: Literal["trt-anon bench"] = "trt-anon bench"
    schema_version: int = SCHEMA
    date: str
    trt_anon: str
    machine: dict[str, Any]
    conditions: dict[str, Any]
    configuration: dict[str, Any]
    settings: dict[str, Any]
    cases: tuple[Case, ...]


def write_result(path: Path, result: BenchResult) -> None:
    """Write a result as JSON, in the place of what is there. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def read_result(path: Path) -> BenchResult:
    """Read a result. Raises InputError where the file is none, or of another version of this library."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no result of trt-anon bench: {error}") from error
    if not isinstance(raw, dict) or raw.get("kind") != "trt-anon bench":
        raise InputError(f"{path} is no result of trt-anon bench --json")
    if raw.get("schema_version") != SCHEMA:
        raise InputError(
            f"{path} has version {raw.get('schema_version')} of the format, this reads {SCHEMA}: run it anew"
        )
    try:
        return BenchResult(**raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is no result of trt-anon bench: {place}: {first['msg']}") from error
