"""The protocol that every runtime keeps: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of a model's input or output; None is a free dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]


class Pending(Protocol):
    """An inference under way."""

    def result(self) -> dict[str, Tensor]:
        """Wait for the outputs, by name. Owned by the caller. Raises ModelError if the runtime failed."""
        ...


class Runner(Protocol):
    """A loaded model.

    Thread safe: several threads may submit at once. `submit` blocks while all its requests are busy, so the work under
    way is bounded. Inputs may be reused by the caller as soon as the result has arrived, not before.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        ...

    @property
    def concurrency(self) -> int:
        """How many inferences it runs at once; more submitted ones only wait."""
        ...

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Get ready for inputs of these shapes, by name, of which many will come; later results may differ by rounding.

        What a runner gives for an input depends on what was prepared, never on which inputs came before.
        """
        ...

    def submit(self, feeds: Mapping[str, Tensor]) -> Pending:
        """Start an inference."""
        ...

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Start an inference and wait for its outputs."""
        ...

    def close(self) -> None:
        """Free the model; later calls raise."""
        ...


class DeviceRunner(Protocol):
    """A loaded model whose tensors never leave the device: CuPy arrays on a GPU, NumPy's where a CPU stands in.

    Nothing is copied, allocated or waited for between `prepare` and the last `enqueue`, so that the work may be
    captured in a CUDA graph. An instance serves one thread and one stream at a time; `another` gives one beside it.
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        ...

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured in a CUDA graph."""
        ...

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Get ready for inputs of these shapes, by name, and give the shapes of the outputs; may allocate and wait.

        Raises ModelError for shapes that the model does not take.
        """
        ...

    def enqueue(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any = None) -> None:
        """Put an inference on the stream (a CuPy stream, or None for CuPy's current one) and return without waiting.

        feeds, outputs: C-contiguous arrays by name, all of the device, of shapes that were prepared; the caller keeps
        them alive until the stream has passed. Raises ModelError where the runtime refuses.
        """
        ...

    def another(self) -> DeviceRunner:
        """A runner of the same model, sharing its weights where the runtime can, for another thread and stream."""
        ...

    def close(self) -> None:
        """Free the model; later calls raise."""
        ...
