"""A runner between detector and runtime that can record what passes, and give it back without computing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trt_anon.runtime.base import Pending, Runner, Tensor, TensorSpec

Mode = Literal["pass", "record", "echo"]


@dataclass(frozen=True, slots=True)
class _Echo:
    outputs: dict[str, Tensor]

    def result(self) -> dict[str, Tensor]:
        return self.outputs


@dataclass(frozen=True, slots=True)
class _Recorded:
    pending: Pending
    outputs: list[dict[str, Tensor]]
    place: int

    def result(self) -> dict[str, Tensor]:
        self.outputs[self.place] = self.pending.result()
        return self.outputs[self.place]


class RunnerTap:
    """A `Runner` around another.

    mode `pass`: as if it were not there. `record`: keeps every input, and every output that is asked for. `echo`: gives
    the recorded outputs in the order of recording, over and over, at once; so what is left of a detector's time is its
    own. Modes other than `pass` are for one submitting thread.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.mode: Mode = "pass"
        self.feeds: list[dict[str, Tensor]] = []
        self._outputs: list[dict[str, Tensor]] = []
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
    def concurrency(self) -> int:
        """How many inferences run at once."""
        return self._runner.concurrency

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Get ready for inputs of these shapes."""
        self._runner.prepare(shapes)

    def submit(self, feeds: Mapping[str, Tensor]) -> Pending:
        """Start an inference, or answer from what was recorded."""
        if self.mode == "echo":
            place = self._next % len(self._outputs)
            self._next = place + 1
            return _Echo(self._outputs[place])
        pending = self._runner.submit(feeds)
        if self.mode == "record":
            self.feeds.append(dict(feeds))
            self._outputs.append({})
            return _Recorded(pending, self._outputs, len(self._outputs) - 1)
        return pending

    def submit_bare(self, feeds: Mapping[str, Tensor]) -> Pending:
        """Start an inference, whatever the mode: the engine alone."""
        return self._runner.submit(feeds)

    def rewind(self) -> None:
        """The next echo is the first recorded output."""
        self._next = 0

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Start an inference and wait for its outputs."""
        return self.submit(feeds).result()

    def close(self) -> None:
        """Free the model."""
        self._runner.close()
