from __future__ import annotations

import pytest

from trt_anon.bench.result import BenchResult, Case, Memory, Part
from trt_anon.config import AnonymizeConfig
from trt_anon.metrics.speed import Latency, Spread


def make_case(fps: float = 100.0, **changes: object) -> Case:
    values = {
        "name": "1080p, 5 faces",
        "width_px": 1920,
        "height_px": 1080,
        "frame_rate": 30.0,
        "frames": 60,
        "faces": 5,
        "batch": 1,
        "input_sha256": "ab" * 32,
        "found_per_frame": 5.0,
        "parts": {
            "decode": Part(fps=Spread(300, 290, 310, 5)),
            "pipeline": Part(
                fps=Spread(fps, 0.98 * fps, 1.02 * fps, 5),
                latency=Latency(10.0, 20.0, 30.0, 60),
                cpu_ms_per_frame=Spread(20, 19, 21, 5),
            ),
        },
        "shares": {"pipeline of decoder": Spread(0.33, 0.3, 0.35, 5)},
        "slowest": "decode",
        "hours_per_10000": {"pipeline": 3000.0},
        "memory": Memory(host_rss_mib=300.0),
        "missing": {"watts": "NVML measures GPUs only"},
    }
    return Case(**{**values, **changes})


def make_result(*cases: Case, **changes: object) -> BenchResult:
    values = {
        "date": "2026-01-02T03:04:05+00:00",
        "trt_anon": "0.1.0",
        "machine": {
            "cpu": "A CPU",
            "cores": 2,
            "memory_gib": 8.0,
            "python": "3.12.0",
            "system": "Linux x86_64",
            "packages": [{"name": "openvino", "version": "2026.1"}],
        },
        "conditions": {"load_average": [0.1, 0.1, 0.1]},
        "configuration": AnonymizeConfig().model_dump(mode="json"),
        "settings": {"device": "cpu", "seconds": 3.0},
        "cases": cases or (make_case(),),
    }
    return BenchResult(**{**values, **changes})


@pytest.fixture
def case():
    return make_case


@pytest.fixture
def result():
    return make_result
