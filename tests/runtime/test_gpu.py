"""GPUs as the driver tells them: a driver of a few lines stands in for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from trt_anon.runtime.gpu import Gpu, find_gpus, why_no_gpu

_DRIVER = r"""
#include <string.h>
#include <stddef.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 40; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "NVIDIA L4" : "NVIDIA H100", length);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? (device == 40 ? 8 : 9) : attribute == 76 ? (device == 40 ? 9 : 0) : -1;
    return ATTRIBUTE;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = device == 40 ? 24ull << 30 : 80ull << 30; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    compiler = shutil.which(os.environ.get("CC", "gcc"))
    if compiler is None:
        pytest.skip("there is no C compiler to make a stand-in for the driver with")
    source, library = tmp_path / "driver.c", tmp_path / "libdriver.so"
    source.write_text(_DRIVER)
    defines = [
        f"-D{key}={value}" for key, value in {"INIT": 0, "ATTRIBUTE": 0, **getattr(request, "param", {})}.items()
    ]
    subprocess.run([compiler, "-shared", "-fPIC", *defines, "-o", str(library), str(source)], check=True)
    return str(library)


def test_name_architecture_and_memory(driver: str) -> None:
    assert find_gpus(driver) == (Gpu("NVIDIA L4", "sm_89", 24 << 30), Gpu("NVIDIA H100", "sm_90", 80 << 30))


@pytest.mark.parametrize("driver", [{"INIT": 100}, {"ATTRIBUTE": 1}], indirect=True)
def test_a_driver_that_refuses_has_no_gpus(driver: str) -> None:
    assert find_gpus(driver) == ()


def test_no_driver(tmp_path: Path) -> None:
    assert find_gpus(str(tmp_path / "none.so")) == ()
    assert find_gpus("libc.so.6") == ()


def test_the_reason_names_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/driver/nvidia/version").exists():
        assert why_no_gpu() == "there is no NVIDIA driver on this machine"
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert "not within reach" in why_no_gpu(str(tmp_path / "none.so"))


@pytest.mark.parametrize(
    ("driver", "reason"), [({"INIT": 100}, "refuses (error 100)"), ({}, "shows no GPU")], indirect=["driver"]
)
def test_the_reason_names_what_the_driver_says(driver: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert reason in why_no_gpu(driver)
