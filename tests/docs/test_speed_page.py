"""docs/speed.md is what the results say, whichever results there are."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from trt_anon.bench.result import BenchResult, Case, Memory, Part, Traffic
from trt_anon.metrics.speed import Latency, Spread

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def make_speed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_speed", DOCS / "make_speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_results_say(make_speed):
    assert (DOCS / "speed.md").read_text() == make_speed.drawn(), "stale: run python docs/make_speed.py"


def result(load: float, batch: int, traffic: Traffic | None = None) -> dict[str, object]:
    part = Part(fps=Spread(1234.5, 1200, 1300, 5), latency=Latency(1.5, 2.5, 3.5, 60))
    case = Case(
        name="1080p, 5 faces",
        width_px=1920,
        height_px=1080,
        frame_rate=30,
        frames=60,
        faces=5,
        batch=batch,
        input_sha256="0" * 64,
        found_per_frame=5.0,
        parts={"decode": part, "pipeline": part},
        shares={"pipeline of decoder": Spread(0.91, 0.9, 0.92, 5)},
        slowest="decode",
        hours_per_10000={"pipeline": 243.0},
        memory=Memory(),
        traffic=traffic,
        missing={"watts": "no NVML"},
    )
    made = BenchResult(
        date="2026-01-01",
        trt_anon="0.1.0",
        machine={},
        conditions={"load_average": [load, 0, 0]},
        configuration={},
        settings={},
        cases=(case, case.model_copy(update={"batch": 2 * batch})),
    )
    return json.loads(made.model_dump_json())


def test_a_gpu_with_everything(make_speed):
    traffic = Traffic(
        pcie_bytes_per_frame={"regions to the device": 1234.0},
        launches_per_batch=9.0,
        synchronisations_per_batch=1.0,
        allocations_per_batch=0.0,
    )
    machine = {"cpu": "A CPU", "cores": 16}
    steps = {"tests": {"status": "failed", "seconds": 12.0, "why": "exit code 1: a | b"}}
    figures = {
        "machine": machine,
        "pipeline_cuda": {"date": "2026-01-01", "drawn": result(0.2, 8, traffic)},
        "gpu_host": {"steps": steps, "not_installed": ["tensorrt-cu13"]},
    }
    text = make_speed.page({"a-gpu": figures}, [])
    for line in (
        "## `a-gpu`: A CPU, 16 cores",
        "| frames per second | 1080p, 5 faces, batch 8 | 1080p, 5 faces, batch 16 |",
        "| decode | 1,234 | 1,234 |",
        "| pipeline of decoder | 91% (90 to 92) | 91% (90 to 92) |",
        "| allocations per batch | 0.0 | 0.0 |",
        "| bytes across PCIe per frame, regions to the device | 1,234 | 1,234 |",
        "| latency of a frame, ms: median / p95 / p99 | 1.50 / 2.50 / 3.50 | 1.50 / 2.50 / 3.50 |",
        "Not measured: watts (no NVML).",
        "| tests | failed | 12 | exit code 1: a / b |",
        "Could not be installed: tensorrt-cu13.",
    ):
        assert line in text
    assert "busy machine" not in text


def test_a_busy_machine_is_named(make_speed):
    figures = {"machine": {"cpu": "A CPU", "cores": 2}, "pipeline": {"drawn": result(9.0, 1)}}
    text = make_speed.page({"small": figures}, [])
    assert "Taken on a busy machine (load 9 to 9 on 2 cores" in text


def test_what_others_publish_is_named_as_such(make_speed):
    text = make_speed.page({}, make_speed.json.loads((DOCS.parent / "benchmarks/published.json").read_text()))
    assert "nothing of them was measured here" in text
    assert "| Savant |" in text
    assert "| DeepStream |" in text
