"""Small networks to quantize, and ways to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class Nets:
    """Makes float32 networks of named convolutions from a list of nodes."""

    def __init__(self, networks: ModuleType) -> None:
        self.networks = networks

    def weights(self, name: str, *shape: int, seed: int = 0, spread: float = 1.0) -> Any:
        random = np.random.default_rng(seed + sum(map(ord, name)))
        scale = np.sqrt(2 / max(np.prod(shape[1:]), 1))
        by_channel = np.exp(
            random.normal(0, np.log(spread) / 2 if spread > 1 else 0, (shape[0], *[1] * (len(shape) - 1)))
        )
        return self.networks.constant(name, random.normal(0, scale, shape) * by_channel, np.float32)

    def net(self, nodes: Sequence[Any], constants: Sequence[Any], outputs: Mapping[str, Any], **options: Any) -> Any:
        from trt_anon.build.tidy import tidy

        return tidy(self.networks.network(nodes, constants, dict(outputs), **options))

    def chain(self, *, side: int = 24, spread: float = 1.0) -> Any:
        """conv a - relu - conv b - relu - depthwise c - relu - conv d - conv e, of 16 channels, e is the head."""
        from onnx import helper

        nodes = [
            helper.make_node("Conv", ["input", "wa"], ["a"], name="a", pads=[1] * 4),
            helper.make_node("Relu", ["a"], ["ra"]),
            helper.make_node("Conv", ["ra", "wb", "bb"], ["b"], name="b", pads=[1] * 4),
            helper.make_node("Relu", ["b"], ["rb"]),
            helper.make_node("Conv", ["rb", "wc"], ["c"], name="c", pads=[1] * 4, group=16),
            helper.make_node("Relu", ["c"], ["rc"]),
            helper.make_node("Conv", ["rc", "wd"], ["d"], name="d"),
            helper.make_node("Conv", ["d", "we"], ["e"], name="e"),
        ]
        constants = [
            self.weights("wa", 16, 3, 3, 3, spread=spread), self.weights("wb", 16, 16, 3, 3, spread=spread),
            self.networks.constant("bb", np.linspace(-1, 1, 16), np.float32),
            self.weights("wc", 16, 1, 3, 3, spread=spread), self.weights("wd", 16, 16, 1, 1),
            self.weights("we", 10, 16, 1, 1),
        ]  # fmt: skip
        return self.net(nodes, constants, {"e": (1, 10, side, side)}, shape=(1, 3, side, side))

    @staticmethod
    def feeds(count: int = 4, side: int = 24, seed: int = 0) -> list[dict[str, np.ndarray]]:
        random = np.random.default_rng(seed)
        return [{"input": random.normal(0, 1, (1, 3, side, side)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def nets(networks: ModuleType) -> Nets:
    pytest.importorskip("onnxruntime")
    return Nets(networks)


@pytest.fixture
def ranges_of() -> Callable[..., dict[str, float]]:
    """The largest magnitudes of all values that may be quantized."""

    def measured(model: Any, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
        from trt_anon.build.quantize.collect import collect
        from trt_anon.build.quantize.layers import find_layers
        from trt_anon.build.quantize.placement import everywhere

        placement = everywhere(model, find_layers(model))
        seen = collect(model, placement.readers, feeds)
        return {name: one.largest for name, one in seen.histograms.items()}

    return measured


@pytest.fixture
def run() -> Callable[..., dict[str, np.ndarray]]:
    """What a network gives for one feed, in ONNX Runtime."""

    def outputs(model: Any, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        from trt_anon.build.quantize.network import opened

        with opened(model) as runner:
            return runner.run(feed)

    return outputs
