"""A device's runner that can keep what a network gave, and give it again without computing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from trt_anon.cuda.memory import DeviceMemory
from trt_anon.runtime.base import DeviceRunner, TensorSpec

Mode = Literal["pass", "record", "echo"]


class DeviceTap:
    """A `DeviceRunner` around another.

    mode `pass`: as if it were not there. `record`: notes which arrays the outputs of each inference lie in, for `keep`.
    `echo`: copies what was kept, inference by inference, instead of computing it; so what is left is the time of what
    is around the engine, and these copies.
    """

    def __init__(self, runner: DeviceRunner, memory: DeviceMemory) -> None:
        self._runner, self._memory = runner, memory
        self.mode: Mode = "pass"
        self._seen: list[dict[str, Any]] = []
        self._kept: list[dict[str, Any]] = []
        self._next = 0

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        return self._runner.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        return self._runner.outputs

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured in a CUDA graph."""
        return self._runner.capturable

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Get ready for inputs of these shapes."""
        return self._runner.prepare(shapes)

    def enqueue(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any = None) -> None:
        """Put an inference on the stream, or the copy of an earlier one's outputs."""
        if self.mode == "echo":
            kept = self._kept[self._next % len(self._kept)]
            self._next += 1
            for name, target in outputs.items():
                self._memory.copy(target.reshape(1, -1), kept[name].reshape(1, -1), stream)
            return
        self._runner.enqueue(feeds, outputs, stream)
        if self.mode == "record":
            self._seen.append(dict(outputs))

    def keep(self) -> None:
        """Copy the outputs of the recorded inferences, which must have run, for echoes."""
        self._kept = [{name: array.copy() for name, array in outputs.items()} for outputs in self._seen]
        self._seen.clear()

    def rewind(self) -> None:
        """The next echo is the first."""
        self._next = 0

    def another(self) -> DeviceRunner:
        """A runner of the same model, without a tap."""
        return self._runner.another()

    def close(self) -> None:
        """Free the model."""
        self._runner.close()
