"""The steps of `gpu_host.sh`: GPU tests and benchmarks one after the other, within a limit of time, and their outcomes.

    python benchmarks/gpu_host.py [--name MACHINE] [--minutes 20] [--only STEP] [--list]

No step keeps another from running. What could not run is listed with the reason, in the terminal and in the result file
under `gpu_host`; the exit code is 1 then, 3 where there is no GPU at all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import write_result

from trt_anon._optional import available
from trt_anon.gpuhost import inspect_gpu_host, judge
from trt_anon.runtime.gpu import find_gpus, why_no_gpu

HERE = Path(__file__).parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Step:
    """A command, what it answers, the packages it cannot do without, and the seconds it may take.

    command: after the interpreter; RESULT stands for the machine's result file.
    """

    name: str
    question: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    limit_seconds: int


STEPS = (
    Step(
        "tests",
        "does every kernel and runtime agree with its reference on this GPU",
        ("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--timeout", "120", "tests"),
        ("cupy", "pytest"),
        300,
    ),
    Step(
        "kernels",
        "each kernel against copy bandwidth",
        ("benchmarks/kernels.py", "--result", "RESULT"),
        ("cupy",),
        240,
    ),
    Step(
        "pipeline",
        "the pipeline against decoder and engine",
        ("benchmarks/pipeline.py", "--device", "cuda", "--seconds", "0.5", "--result", "RESULT"),
        ("cupy", "av", "cv2", "psutil"),
        360,
    ),
    Step(
        "suite",
        "single operations and runners",
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks/suite", "-k", "kernels or device",
         "--benchmark-max-time", "0.5", "--benchmark-columns", "median,iqr,rounds"),
        ("cupy", "pytest", "pytest_benchmark"),
        180,
    ),
    Step(
        "pipeline on its CPU",
        "the CPU path of the same machine",
        ("benchmarks/pipeline.py", "--device", "cpu", "--seconds", "0.5", "--result", "RESULT"),
        ("openvino", "av", "cv2", "psutil"),
        180,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a step: `ran`, `failed`, `could not run` or `out of time`; why, unless it ran."""

    status: str
    seconds: float
    why: str = ""


def run_step(step: Step, result: Path, seconds_left: float) -> Outcome:
    """Run a step within its limit and the time that is left; a step that fails is an outcome, not an error."""
    missing = [module for module in step.needs if not available(module)]
    if missing:
        return Outcome("could not run", 0.0, f"not installed: {', '.join(missing)}")
    if seconds_left < 20:
        return Outcome("could not run", 0.0, "no time was left")
    limit = min(step.limit_seconds, seconds_left)
    command = [sys.executable, *(str(result) if word == "RESULT" else word for word in step.command)]
    environment = {**os.environ, "TRT_ANON_REQUIRE_GPU": "1", "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    print(f"== {step.name}: {step.question} (at most {limit:.0f} s)", flush=True)
    start, lines = time.monotonic(), []
    # A session of its own, so that what a step started ends with it.
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        timer = _Killer(process, limit)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines = [*lines[-40:], line.strip()]
        code = process.wait()
    seconds = time.monotonic() - start
    if timer.ended():
        return Outcome("out of time", seconds, f"ended after {limit:.0f} s")
    if code:
        return Outcome("failed", seconds, f"exit code {code}: {_last_words(lines)}")
    return Outcome("ran", seconds)


class _Killer:
    """Ends a process and its children when its time is over."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        self._process, self._fired = process, False
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        self._fired = True
        os.killpg(self._process.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Whether it had to be ended."""
        self._timer.cancel()
        return self._fired


def _last_words(lines: Sequence[str]) -> str:
    errors = [line for line in lines if re.search(r"\b(\w*Error|error|failed)\b", line)]
    return (errors or [line for line in lines if line] or ["no output"])[-1][:300]


def machine_name() -> str:
    """What the result file of this machine is called: after its first GPU."""
    gpus = find_gpus()
    name = gpus[0].name if gpus else "no-gpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default=None, help="of the result file; default: after the GPU")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the result file")
    parser.add_argument("--minutes", type=float, default=20.0, help="for everything, installation included")
    parser.add_argument("--spent-seconds", type=float, default=0.0, help="used already")
    parser.add_argument("--not-installed", action="append", default=[], help="a package that could not be installed")
    parser.add_argument("--only", action="append", choices=[step.name for step in STEPS], help="this step; repeatable")
    parser.add_argument("--list", action="store_true", help="name the steps and end")
    options = parser.parse_args(arguments)
    if options.list:
        for step in STEPS:
            print(f"{step.name:>20}  {step.question}; at most {step.limit_seconds} s; needs {', '.join(step.needs)}")
        return 0

    deadline = time.monotonic() + 60 * options.minutes - options.spent_seconds
    host = inspect_gpu_host()
    findings = judge(host)
    for finding in findings:
        print(f"{finding.level}: {finding.what}" + (f" -> {finding.remedy}" if finding.remedy else ""))
    if not host.gpus:
        print(f"nothing can run: {why_no_gpu()}", file=sys.stderr)
        return 3

    result = options.results.resolve() / f"{options.name or machine_name()}.json"
    outcomes = {}
    for step in STEPS:
        if options.only is None or step.name in options.only:
            outcomes[step.name] = run_step(step, result, deadline - time.monotonic())
    figures = {
        "host": json.loads(json.dumps(host.to_dict(), default=str)),
        "findings": [asdict(finding) for finding in findings],
        "not_installed": options.not_installed,
        "steps": {name: asdict(outcome) for name, outcome in outcomes.items()},
    }
    write_result(result, "gpu_host", figures)
    print("\nstep                   outcome         seconds  why")
    for name, outcome in outcomes.items():
        print(f"{name:<22} {outcome.status:<14} {outcome.seconds:8.0f}  {outcome.why}")
    for package in options.not_installed:
        print(f"not installed: {package}")
    return 0 if all(outcome.status == "ran" for outcome in outcomes.values()) and not options.not_installed else 1


if __name__ == "__main__":
    sys.exit(main())
