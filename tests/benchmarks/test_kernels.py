"""The kernel benchmark runs, checks itself, and writes what it says; its figures need a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def cases() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel_cases", BENCHMARKS / "kernel_cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kernel_cases"] = module  # its dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["kernel_cases"]
    return module


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("result") / "machine.json"
    command = [sys.executable, BENCHMARKS / "kernels.py", "--host", "--rounds", "3", "--batches", "1,3"]
    done = subprocess.run([*command, "--result", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def test_every_kernel_is_there_with_its_spread_and_its_machine(result):
    figures = result["kernels_host"]
    assert result["machine"]["cores"] >= 1
    assert figures["device"] == "none: the host build on a CPU"
    assert figures["copy_gb_per_second"] > 0
    assert set(figures["kernels"]) == {
        *("preprocess nv12", "preprocess rgb24", "preprocess p010le", "decode yunet", "decode yolov8", "nms"),
        *("merge of 4 lists", "redact gaussian", "redact pixelate", "redact solid"),
    }
    for by_batch in figures["kernels"].values():
        assert set(by_batch) == {"1", "3"}
        for images, one in by_batch.items():
            assert one["images"] == int(images)
            assert one["graph_us"] is None
            spread = one["eager_us"]
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
            assert spread["runs"] == 3
            assert one["share_of_copy_bandwidth"] == pytest.approx(
                one["bytes"] / (spread["median"] * 1e-6) / (figures["copy_gb_per_second"] * 1e9)
            )
    assert set(figures["blur_by_sigma"]) == {"2", "4", "8", "16", "32", "64"}


def test_what_could_not_be_compared_says_why(result):
    figures = result["kernels_host"]
    assert figures["blur_by_sigma"]["8"]["cupyx"] == "skipped: CuPy is not installed"
    if importlib.util.find_spec("torch") is None:
        assert figures["nms_against_torch"]["torch"] == "skipped: PyTorch is not installed"
    assert figures["targets"]["NMS of 64 x 1024: milliseconds"]["target"] == 0.1
    assert figures["targets"]["preprocess: share of copy bandwidth at batch 32"]["found"] is None


def test_nothing_wrong_is_timed(cases):
    broken = cases.redact_case(np, cases.Sizes.tiny(), 1, "solid")
    broken.peer_arrays[0][...] ^= 3
    with pytest.raises(RuntimeError, match="redact solid disagrees with its reference: nothing is timed"):
        broken.check()


# ---- What needs no clock: launches and bytes -------------------------------------------------------------------------


def traffic(case):
    case.accounting.by_kernel.clear()
    case.work()
    return case.accounting.total


@pytest.mark.parametrize("images", [1, 8, 32])
def test_launches_do_not_grow_with_the_batch(cases, images):
    found = {case.name: traffic(case).launches for case in cases.all_cases(np, cases.Sizes.tiny(), images)}
    assert found == {
        "preprocess nv12": 1,
        "preprocess rgb24": 1,
        "preprocess p010le": 1,
        "decode yunet": 1,
        "decode yolov8": 1,
        "nms": 1,
        "merge of 4 lists": 3,
        "redact gaussian": 2,  # cells of small regions are summed and blurred by one block
        "redact pixelate": 2,
        "redact solid": 2,
    }


def test_bytes_grow_with_the_batch_alone(cases):
    tiny = cases.Sizes.tiny()
    one, four = ({c.name: traffic(c).bytes_moved for c in cases.all_cases(np, tiny, n)} for n in (1, 4))
    assert {name: 4 * moved for name, moved in one.items()} == pytest.approx(four, rel=0.02)


@pytest.mark.parametrize(("name", "per_source_px"), [("nv12", 1.5), ("p010le", 3.0), ("rgb24", 3.0)])
def test_preprocessing_reads_every_sample_once(cases, name, per_source_px):
    case = cases.preprocess_case(np, cases.Sizes(), 1, name, "nchw")
    written = 3 * 2 * 384 * 640  # float16
    assert traffic(case).bytes_moved == per_source_px * 1920 * 1080 + written


def test_decoding_reads_every_score_once(cases):
    places = (640 // 8) * (384 // 8) + (640 // 16) * (384 // 16) + (640 // 32) * (384 // 32)
    for family, columns in (("decode yunet", 2), ("decode yolov8", 80)):
        kind = cases.YuNet() if family == "decode yunet" else cases.YoloV8()
        moved = traffic(cases.decode_case(np, cases.Sizes(), 2, family, kind)).bytes_moved
        assert 1.0 <= moved / (2 * places * columns * 4) < 1.02


def test_blurring_costs_no_more_where_it_is_stronger(cases):
    moved = {s: traffic(case).bytes_moved for s, case in cases.blur_cases(np, cases.Sizes(), (8, 16, 32, 64))}
    assert moved[8] >= moved[16] >= moved[32] >= moved[64]
    assert moved[8] <= 12 * 1920 * 1080
