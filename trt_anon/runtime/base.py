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
