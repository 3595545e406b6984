"""What a run takes beside time: memory of the process, memory, watts and clocks of a GPU, sampled while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from trt_anon._optional import available, require
from trt_anon.bench.result import Memory, Power
from trt_anon.errors import PackageMissing

_EVERY_SECONDS = 0.02
_THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""NVML's clock event reasons that mean slower than usual; idle and application settings are none."""


class Watch:
    """Samples while its context is open; figures are there afterwards. gpu: the PCI bus id of a GPU, None for none.

    missing: what could not be watched, and why.
    """

    def __init__(self, gpu: str | None = None) -> None:
        self.missing: dict[str, str] = {}
        self._process: Any = None
        if available("psutil"):
            self._process = require("psutil", "measuring memory").Process()
        else:
            self.missing["host memory"] = "psutil is not installed: pip install 'trt-anon[bench]'"
        self._nvml: NvmlDevice | None = None
        if gpu is not None:
            try:
                self._nvml = NvmlDevice(gpu)
            except (PackageMissing, OSError) as error:
                self.missing["watts, clocks, GPU memory"] = str(error)
        self._rss_bytes = 0
        self._gpu_before = self._gpu_peak = 0
        self._samples: list[dict[str, float]] = []
        self._throttled: set[str] = set()
        self._stop = threading.Event()

    def __enter__(self) -> Watch:
        if self._nvml:
            self._gpu_before = self._gpu_peak = self._nvml.used_bytes()
        self._stop.clear()
        self._sample()
        self._thread = threading.Thread(target=self._loop, name="trt-anon-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _loop(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            self._sample()

    def _sample(self) -> None:
        if self._process is not None:
            self._rss_bytes = max(self._rss_bytes, self._process.memory_info().rss)
        if self._nvml is not None:
            self._gpu_peak = max(self._gpu_peak, self._nvml.used_bytes())
            self._samples.append(self._nvml.state())
            self._throttled |= self._nvml.throttles()

    @property
    def memory(self) -> Memory:
        """Peaks."""
        return Memory(
            host_rss_mib=None if self._process is None else self._rss_bytes / 2**20,
            gpu_mib=None if self._nvml is None else (self._gpu_peak - self._gpu_before) / 2**20,
        )

    @property
    def power(self) -> Power | None:
        """Means over the samples; None without NVML."""
        if self._nvml is None or not self._samples:
            return None

        def of(name: str) -> list[float]:
            return [sample[name] for sample in self._samples if name in sample]

        means = {
            name: sum(of(name)) / len(of(name)) if of(name) else None for name in ("watts", "sm_mhz", "memory_mhz")
        }
        return Power(**means, celsius=max(of("celsius"), default=None), throttled=tuple(sorted(self._throttled)))


class NvmlDevice:
    """One GPU through NVML, by its PCI bus id, as NVML numbers GPUs otherwise than CUDA.

    Raises PackageMissing without nvidia-ml-py, OSError where NVML does not answer.
    """

    def __init__(self, bus_id: str) -> None:
        self._nvml: Any = require("pynvml", "reading a GPU's watts and clocks")
        try:
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByPciBusId(bus_id)
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML does not answer: {error}") from error

    def used_bytes(self) -> int:
        """Memory in use on the whole GPU, whoever uses it."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def state(self) -> dict[str, float]:
        """Watts, clocks and temperature now; what a GPU does not tell is left out."""
        n = self._nvml
        asked: dict[str, Callable[[], Any]] = {
            "watts": lambda: n.nvmlDeviceGetPowerUsage(self._handle) / 1000,
            "sm_mhz": lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_SM),
            "memory_mhz": lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_MEM),
            "celsius": lambda: n.nvmlDeviceGetTemperature(self._handle, n.NVML_TEMPERATURE_GPU),
        }
        found = {}
        for name, ask in asked.items():
            try:
                found[name] = float(ask())
            except n.NVMLError:  # not every GPU has every sensor
                continue
        return found

    def throttles(self) -> set[str]:
        """Why the clocks are lower than they could be."""
        try:
            bits = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
        except self._nvml.NVMLError:
            return set()
        return {name for bit, name in _THROTTLES.items() if bits & bit}

    def describe(self) -> dict[str, Any]:
        """Name, driver, highest clocks and power limit."""
        n = self._nvml
        asked: dict[str, Callable[[], Any]] = {
            "name": lambda: _text(n.nvmlDeviceGetName(self._handle)),
            "driver": lambda: _text(n.nvmlSystemGetDriverVersion()),
            "max_sm_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(self._handle, n.NVML_CLOCK_SM),
            "max_memory_mhz": lambda: n.nvmlDeviceGetMaxClockInfo(self._handle, n.NVML_CLOCK_MEM),
            "power_limit_watts": lambda: n.nvmlDeviceGetPowerManagementLimit(self._handle) / 1000,
        }
        found: dict[str, Any] = {}
        for name, ask in asked.items():
            try:
                found[name] = ask()
            except n.NVMLError:
                found[name] = None
        return found


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def conditions(gpu: str | None = None) -> dict[str, Any]:
    """What the machine was doing before anything was measured: load, clocks, and of a GPU its driver and limits."""
    found: dict[str, Any] = {}
    if available("psutil"):
        psutil = require("psutil", "measuring memory")
        frequency = psutil.cpu_freq()
        found["load_average"] = [round(value, 2) for value in psutil.getloadavg()]
        found["cpu_mhz"] = round(frequency.current) if frequency else None
        found["memory_available_gib"] = round(psutil.virtual_memory().available / 2**30, 1)
    if gpu is not None:
        try:
            device = NvmlDevice(gpu)
        except (PackageMissing, OSError) as error:
            found["gpu"] = {"missing": str(error)}
        else:
            found["gpu"] = {**device.describe(), **device.state()}
    return found
