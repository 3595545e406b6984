"""What every benchmark shares: interleaved rounds, medians and spread, the machine beside the figures."""

from __future__ import annotations

import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trt_anon
from trt_anon.machine import inspect_machine


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)
        if len(ordered) == 1:
            return cls(ordered[0], ordered[0], ordered[0], 1)
        low, _, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(statistics.median(ordered), low, high, len(ordered))


@dataclass(frozen=True)
class Run:
    """One finished command: wall seconds, processor seconds and peak resident memory of the process."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_mib: float


def run_command(command: Sequence[str], env: Mapping[str, str] | None = None) -> Run:
    """Run a command to its end; raises with its output if it fails, so that no failure is timed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env or dict(os.environ)
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} exited {process.returncode}:\n{output.decode()[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def interleaved(commands: Mapping[str, Callable[[], Run]], *, rounds: int, warmup: int = 1) -> dict[str, list[Run]]:
    """Run every command once per round, in turn, so that a change of the machine's speed hits all alike."""
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(warmup + rounds):
        for name, command in commands.items():
            run = command()
            counted = number >= warmup
            print(f"  {'' if counted else '(warm-up) '}{name}: {run.wall_seconds:.2f} s", file=sys.stderr, flush=True)
            if counted:
                results[name].append(run)
    return results


def peak_rss_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_result(path: Path, benchmark: str, figures: Mapping[str, Any]) -> None:
    """Put a benchmark's figures into the machine's result file, beside those of the other benchmarks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = json.loads(path.read_text()) if path.exists() else {}
    result["machine"] = inspect_machine().to_dict()
    result[benchmark] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "trt_anon": trt_anon.__version__,
        **figures,
    }
    path.write_text(json.dumps(result, indent=2, default=_plain) + "\n")
    print(f"written to {path}", file=sys.stderr)


def _plain(value: object) -> object:
    if isinstance(value, Spread | Run):
        return asdict(value)
    raise TypeError(type(value).__name__)
