"""Watching memory and a GPU; NVML stands in for itself."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from trt_anon.bench import watch as watch_module
from trt_anon.bench.watch import Watch, conditions

BUS = "0000:01:00.0"


class NVMLError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A GPU that uses 100 MiB more each time it is asked, draws 250 W, has no memory clock and is power capped."""
    fake = types.ModuleType("pynvml")
    asked = iter(range(100, 10**6, 100))
    fake.NVMLError = NVMLError
    fake.NVML_CLOCK_SM, fake.NVML_CLOCK_MEM, fake.NVML_TEMPERATURE_GPU = 1, 2, 0
    fake.nvmlInit = lambda: None
    fake.nvmlDeviceGetHandleByPciBusId = lambda bus_id: bus_id
    fake.nvmlDeviceGetMemoryInfo = lambda _h: types.SimpleNamespace(used=next(asked) << 20)
    fake.nvmlDeviceGetPowerUsage = lambda _h: 250_000

    def clock(_handle, which):
        if which == 2:
            raise NVMLError("not supported")
        return 1500

    fake.nvmlDeviceGetClockInfo = fake.nvmlDeviceGetMaxClockInfo = clock
    fake.nvmlDeviceGetTemperature = lambda _h, _which: 61
    fake.nvmlDeviceGetCurrentClocksThrottleReasons = lambda _h: 0x4 | 0x1
    fake.nvmlDeviceGetName = lambda _h: b"A GPU"
    fake.nvmlSystemGetDriverVersion = lambda: "580.65"
    fake.nvmlDeviceGetPowerManagementLimit = lambda _h: 300_000
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_peaks_of_this_process():
    pytest.importorskip("psutil")
    watch = Watch()
    with watch:
        held = np.ones(64 << 20, np.uint8)
    assert held.nbytes / 2**20 < watch.memory.host_rss_mib
    assert watch.memory.gpu_mib is None
    assert watch.power is None
    assert not watch.missing


def test_a_gpu(nvml):
    watch = Watch(gpu=BUS)
    with watch:
        pass
    assert watch.memory.gpu_mib >= 100
    assert (watch.power.watts, watch.power.sm_mhz, watch.power.celsius) == (250, 1500, 61)
    assert watch.power.memory_mhz is None
    assert watch.power.throttled == ("power cap",)
    found = conditions(gpu=BUS)["gpu"]
    assert found["name"] == "A GPU"
    assert found["driver"] == "580.65"
    assert found["power_limit_watts"] == 300
    assert found["max_memory_mhz"] is None


def test_what_cannot_be_watched_is_said(nvml, monkeypatch):
    def fails():
        raise NVMLError("no driver")

    nvml.nvmlInit = fails
    monkeypatch.setattr(watch_module, "available", lambda name: name != "psutil")
    watch = Watch(gpu=BUS)
    with watch:
        pass
    assert watch.missing == {
        "host memory": "psutil is not installed: pip install 'trt-anon[bench]'",
        "watts, clocks, GPU memory": "NVML does not answer: no driver",
    }
    assert watch.memory.host_rss_mib is None
    assert conditions(gpu=BUS) == {"gpu": {"missing": "NVML does not answer: no driver"}}
