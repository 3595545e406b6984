"""Running networks that are made on the way: values come out, values go in, errors are told."""

from __future__ import annotations

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.build.measure import with_outputs
from trt_anon.build.quantize.layers import find_layers
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Pending, Runner, Tensor
from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner

if TYPE_CHECKING:
    import onnx

Feeds = Mapping[str, Tensor]

_PICKS = frozenset({"NonMaxSuppression", "TopK", "RoiAlign", "NonZero"})


@contextlib.contextmanager
def opened(model: onnx.ModelProto) -> Iterator[Runner]:
    """The network in ONNX Runtime, which takes any number of shapes and any changed network without compiling."""
    with tempfile.TemporaryDirectory(prefix="trt-anon-calibrate-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString(deterministic=True))
        runner = OnnxRuntimeRunner(path)
        try:
            yield runner
        finally:
            runner.close()


def run_all(runner: Runner, feeds: Iterable[Feeds]) -> Iterator[tuple[Feeds, dict[str, Tensor]]]:
    """Each feed with its outputs, in order; as many at a time as the runner runs at once."""
    waiting: deque[tuple[Feeds, Pending]] = deque()
    for feed in feeds:
        waiting.append((feed, runner.submit(feed)))
        if len(waiting) >= runner.concurrency:
            done, pending = waiting.popleft()
            yield done, pending.result()
    for done, pending in waiting:
        yield done, pending.result()


def compared_values(model: onnx.ModelProto) -> tuple[str, ...]:
    """The values by which two precisions of a tidied network are compared.

    They are its float outputs; where the network picks some rows of them, so that rows are not comparable, the results
    of its last layers.
    """
    lib = require("onnx", "quantizing a model")
    if any(node.op_type in _PICKS for node in model.graph.node):
        return tuple(layer.name for layer in find_layers(model).values() if layer.last)
    return tuple(
        output.name for output in model.graph.output if output.type.tensor_type.elem_type == lib.TensorProto.FLOAT
    )


class Errors:
    """Sums up by how much values differ from what they are in float32.

    The figure of one value is the mean squared difference relative to its variance; that of a network is the mean over
    the values compared.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._squares = dict.fromkeys(names, 0.0)
        self._spread = dict.fromkeys(names, 0.0)

    def add(self, exact: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
        """Another picture. Raises ModelError where shapes differ."""
        for name in self._squares:
            a, b = exact[name].astype(np.float64), found[name].astype(np.float64)
            if a.shape != b.shape:
                raise ModelError(f"{name!r} has the shape {b.shape} in another precision, {a.shape} in float32")
            self._squares[name] += float(np.square(b - a).sum())
            self._spread[name] += float(np.square(a - a.mean()).sum())

    def figure(self) -> float:
        """The network's."""
        figures = [
            self._squares[name] / self._spread[name] if self._spread[name] else float(self._squares[name] > 0)
            for name in self._squares
        ]
        return float(np.mean(figures)) if figures else 0.0


class Reference:
    """What a network gives in float32 for a few pictures, to hold others against."""

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feeds]) -> None:
        self._feeds = tuple(feeds)
        self._names = compared_values(model)
        with opened(with_outputs(model, self._names)) as runner:
            self._exact: list[dict[str, Tensor]] = [outputs for _, outputs in run_all(runner, self._feeds)]

    def error(self, model: onnx.ModelProto) -> float:
        """That of another form of the network; see `network.Errors`."""
        errors = Errors(self._names)
        with opened(with_outputs(model, self._names)) as runner:
            for (_, found), exact in zip(run_all(runner, self._feeds), self._exact, strict=True):
                errors.add(exact, found)
        return errors.figure()
