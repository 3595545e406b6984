"""A result of `trt-anon bench` finds its way into a machine's file, with the command that it came from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("av")

from trt_anon.bench.result import write_result

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_bench_is_taken_over(result, tmp_path):
    settings = {"device": "cuda", "seconds": 0.2, "batches": [8, 32], "stages": True, "encode": False}
    configuration = {"runtime": {"runtime": "onnxruntime"}, "track": {"track": "off"}}
    write_result(tmp_path / "bench.json", result(settings=settings, configuration=configuration))
    command = [sys.executable, BENCHMARKS / "pipeline.py", "--device", "cuda", "--bench", tmp_path / "bench.json"]
    done = subprocess.run(
        [*command, "--result", tmp_path / "machine.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "machine.json").read_text())["pipeline_cuda"]
    assert figures["drawn"]["cases"][0]["parts"]["pipeline"]["fps"]["median"] == 100
    assert figures["command"] == (
        "trt-anon bench --device cuda --runtime onnxruntime --batch 8,32 --track off --stages --no-encode --seconds 0.2"
    )
