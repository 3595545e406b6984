"""Runtimes on the default face detector: latency of one picture, throughput of many, on the CPU and on a GPU."""

from __future__ import annotations

from collections import deque
from types import ModuleType

import numpy as np
import pytest

from trt_anon.config import RuntimeConfig
from trt_anon.detect.families import get_family
from trt_anon.models.networks import recipe_network
from trt_anon.models.registry import Registry
from trt_anon.runtime.runner_memory import CudaRunnerMemory
from trt_anon.runtime.select import open_device_runner, open_runner

HW = (544, 960)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *HW, 3)).astype(np.uint8)


@pytest.fixture(params=[("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32")], ids=lambda p: "-".join(p))
def runner(request):
    from trt_anon.errors import TrtAnonError

    name, precision = request.param
    registry = Registry()
    recipe = registry.get("yunet")
    path = registry.prepared(recipe, get_family(recipe.family).input_spec)
    try:
        opened = open_runner(path, RuntimeConfig(device="cpu", runtime=name, precision=precision))
    except TrtAnonError as error:
        pytest.skip(str(error))
    opened.prepare({opened.inputs[0].name: (1, *HW, 3)})
    yield opened
    opened.close()


def test_latency(benchmark, runner) -> None:
    feeds = {runner.inputs[0].name: pictures(1)}
    benchmark(lambda: runner.run(feeds))


def test_throughput_of_16(benchmark, runner) -> None:
    feeds = [{runner.inputs[0].name: pictures(1)} for _ in range(16)]

    def work() -> None:
        waiting = deque()
        for one in feeds:
            waiting.append(runner.submit(one))
            if len(waiting) > 2 * runner.concurrency:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()

    benchmark(work)


@pytest.mark.parametrize("batch", [1, 8, 32])
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx", "onnxruntime"])
def test_device(benchmark, cupy: ModuleType, on_gpu, runtime: str, batch: int) -> None:
    from trt_anon.errors import TrtAnonError

    registry = Registry()
    network = recipe_network(registry, registry.get("yunet"), "fp16" if runtime != "onnxruntime" else "fp32")
    try:
        opened = open_device_runner(network, RuntimeConfig(device="cuda", runtime=runtime), memory=CudaRunnerMemory())  # type: ignore[arg-type]
    except TrtAnonError as error:
        pytest.skip(str(error))
    name = opened.inputs[0].name
    shapes = opened.prepare({name: (batch, *HW, 3)})
    source = cupy.asarray(pictures(batch))
    dtypes = {spec.name: spec.dtype for spec in opened.outputs}
    outputs = {output: cupy.empty(shape, dtypes[output]) for output, shape in shapes.items()}
    benchmark(on_gpu(lambda: opened.enqueue({name: source}, outputs)))
    opened.close()
