"""A tap changes nothing, records what passes, and gives it back."""

from __future__ import annotations

import numpy as np

from trt_anon.bench.tap import RunnerTap
from trt_anon.runtime.base import TensorSpec


class Doubler:
    """Gives twice what it gets, and counts."""

    inputs = (TensorSpec("x", np.dtype(np.float32), (None,)),)
    outputs = (TensorSpec("y", np.dtype(np.float32), (None,)),)
    concurrency = 1

    def __init__(self):
        self.runs = 0
        self.prepared = None
        self.closed = False

    def prepare(self, shapes):
        self.prepared = shapes

    def submit(self, feeds):
        self.runs += 1
        y = 2 * feeds["x"]

        class Done:
            def result(self):
                return {"y": y}

        return Done()

    def close(self):
        self.closed = True


def feed(value: float) -> dict[str, np.ndarray]:
    return {"x": np.array([value], np.float32)}


def test_modes():
    runner = Doubler()
    tap = RunnerTap(runner)
    assert tap.run(feed(1))["y"].item() == 2
    assert not tap.feeds

    tap.mode = "record"
    first, second = tap.submit(feed(3)), tap.submit(feed(4))
    assert second.result()["y"].item() == 8
    assert first.result()["y"].item() == 6
    assert [f["x"].item() for f in tap.feeds] == [3, 4]
    assert runner.runs == 3

    tap.mode = "echo"
    assert [tap.run(feed(99))["y"].item() for _ in range(3)] == [6, 8, 6]
    tap.rewind()
    assert tap.run(feed(99))["y"].item() == 6
    assert runner.runs == 3, "an echo computes nothing"
    assert tap.submit_bare(feed(5)).result()["y"].item() == 10

    tap.prepare({"x": (1,)})
    assert runner.prepared == {"x": (1,)}
    assert (tap.inputs, tap.outputs, tap.concurrency) == (runner.inputs, runner.outputs, 1)
    tap.close()
    assert runner.closed
