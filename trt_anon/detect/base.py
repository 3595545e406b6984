"""The protocol of detector families, and what they exchange with the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trt_anon.types import InputSpec as InputSpec


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Boxes of one image above the score threshold, in pixels of the network's input, before suppression.

    boxes_xyxy: (N, 4) float32. scores: (N,) float32. class_ids: (N,) int32 in the detector's own numbering.
    landmarks: (N, K, 2) float32 or None. contours: for each candidate the closed outline (K, 2) float32 of its mask, as
    in `types.Detections`, or None. distinct: these are different objects already, because the model suppresses for
    itself or they are parts of one map; suppression leaves them to each other.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    landmarks: NDArray[np.float32] | None = None
    contours: tuple[NDArray[np.float32], ...] | None = None
    distinct: bool = False

    def __repr__(self) -> str:  # boxes are personal data
        return f"Candidates({len(self.scores)} boxes)"


class Family(Protocol):
    """One way of turning a network's outputs into boxes."""

    @property
    def name(self) -> str:
        """The name that recipes use."""
        ...

    @property
    def input_spec(self) -> InputSpec:
        """How the detector wants its picture."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads; empty: it wants all of them and finds its own by their shapes."""
        ...

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image of the batch, scores >= threshold.

        Raises ModelError where outputs are missing, shaped otherwise than the family expects (found against
        expected), or hold values that are not finite: a broken detector must not pass for an empty street.
        """
        ...
