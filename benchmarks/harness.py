"""What every benchmark shares: interleaved rounds, medians and spread, the machine beside the figures."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trt_anon
from trt_anon.machine import inspect_machine
from trt_anon.metrics.speed import Spread


@dataclass(frozen=True)
class Run:
    """One finished command: wall seconds, processor seconds and peak resident memory of the process."""

    wall_seconds: float
    cpu_seconds: float
    peak_rss_mib: float


# Runs between this process and the command: a child's peak memory counts what its parent held when it forked.
_LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
figures = [time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]
open(sys.argv[1], "w").write(json.dumps(figures))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run_command(command: Sequence[str]) -> Run:
    """Run a command to its end; raises with its output if it fails, so that no failure is timed."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as figures:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, figures.name, *command]
        process = subprocess.run(launcher, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} exited {process.returncode}:\n{process.stdout.decode()[-2000:]}")
        return Run(*json.load(figures))


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
