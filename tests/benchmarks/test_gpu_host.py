"""The steps of gpu_host.py: each has an outcome with its reason, whatever becomes of it; the GPU is a stand-in."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from trt_anon.runtime.gpu import Gpu

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def gpu_host(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("gpu_host", BENCHMARKS / "gpu_host.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_host", module)  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def step(module: ModuleType, name: str, code: str, *needs: str, limit: int = 60) -> object:
    return module.Step(name, "a question", ("-c", code, "RESULT"), needs, limit)


def test_every_outcome_has_its_reason(gpu_host, tmp_path):
    result = tmp_path / "m.json"

    def run(code, *needs, left=600.0, limit=60):
        return gpu_host.run_step(step(gpu_host, "s", code, *needs, limit=limit), result, left)

    ran = run("import os, sys; assert os.environ['TRT_ANON_REQUIRE_GPU'] == '1'; open(sys.argv[1], 'w').write('x')")
    assert (ran.status, ran.why) == ("ran", "")
    assert result.read_text() == "x"
    failed = run("print('all well'); raise SystemExit('an error: no memory')")
    assert (failed.status, failed.why) == ("failed", "exit code 1: an error: no memory")
    assert run("pass", "no_such_module").why == "not installed: no_such_module"
    assert run("pass", left=5).why == "no time was left"


def test_a_step_ends_with_everything_that_it_started(gpu_host, tmp_path):
    sleeper = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    start = time.monotonic()
    outcome = gpu_host.run_step(step(gpu_host, "s", sleeper, limit=1), tmp_path / "m.json", 600)
    assert outcome.status == "out of time"
    assert time.monotonic() - start < 30, "the grandchild holds the pipe open: it has to end, too"


def test_what_could_not_run_is_in_the_result(gpu_host, tmp_path, monkeypatch, capsys):
    gpu = Gpu("NVIDIA H100 80GB HBM3", "sm_90", 80 << 30)
    facts = gpu_host.inspect_gpu_host()
    monkeypatch.setattr(gpu_host, "find_gpus", lambda: (gpu,))
    monkeypatch.setattr(gpu_host, "inspect_gpu_host", lambda: type(facts)(driver="580.65", gpus=(gpu,)))
    made = (step(gpu_host, "good", "pass"), step(gpu_host, "lacking", "pass", "no_such_module"))
    monkeypatch.setattr(gpu_host, "STEPS", made)
    code = gpu_host.main(["--results", str(tmp_path), "--not-installed", "tensorrt-cu13"])
    assert code == 1
    figures = json.loads((tmp_path / "nvidia-h100-80gb-hbm3.json").read_text())["gpu_host"]
    assert {name: one["status"] for name, one in figures["steps"].items()} == {
        "good": "ran",
        "lacking": "could not run",
    }
    assert figures["not_installed"] == ["tensorrt-cu13"]
    assert figures["host"]["gpus"][0]["target"] == "sm_90"
    assert any("CuPy" in finding["what"] for finding in figures["findings"])
    shown = capsys.readouterr().out
    assert "not installed: no_such_module" in shown
    assert "not installed: tensorrt-cu13" in shown


def test_without_a_gpu_nothing_runs_and_nothing_is_written(gpu_host, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_host, "inspect_gpu_host", gpu_host.inspect_gpu_host)
    if gpu_host.find_gpus():
        pytest.skip("there is a GPU")
    assert gpu_host.main(["--results", str(tmp_path)]) == 3
    assert "nothing can run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_commands_of_all_steps_exist(gpu_host):
    for one in gpu_host.STEPS:
        words = [word for word in one.command if word.endswith(".py") or word == "benchmarks/suite"]
        assert all((BENCHMARKS.parent / word).exists() for word in words)
    assert sum(one.limit_seconds for one in gpu_host.STEPS) < 22 * 60


def test_the_script_names_its_steps():
    script = BENCHMARKS / "gpu_host.sh"
    done = subprocess.run(
        ["bash", script, "--python", sys.executable, "--list"], capture_output=True, text=True, check=True
    )
    assert "kernels" in done.stdout
    helped = subprocess.run(["bash", script, "--help"], capture_output=True, text=True, check=True)
    assert "--wheels" in helped.stdout


def test_the_suites_are_no_part_of_the_tests():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "benchmarks/suite"]
    pytest.importorskip("pytest_benchmark")
    collected = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS.parent, check=False)
    assert "test_redact" in collected.stdout
    assert "test_device" in collected.stdout
    settings = (BENCHMARKS.parent / "pyproject.toml").read_text()
    assert 'testpaths = ["tests"]' in settings
