"""How a detector is calibrated, and how much recall that may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trt_anon.config import StageConfig

Reason = Literal["depthwise", "transposed", "head", "few channels"]
"""Why a layer starts outside of INT8."""

FEWEST_PICTURES = 32
"""Of so few pictures the ranges of a network's values say little about others."""


class CalibrateConfig(StageConfig):
    """Everything that shapes a calibration.

    images: how many pictures ranges are taken from; of labelled ones at most half, the others measure recall. seed: of
    their choice. method: of the ranges; `auto` chooses for each value by the error that it causes downstream. equalize,
    search_weights, correct_bias: measures against the error, each kept only where it helps. include: layers that start
    outside of INT8 for one of these reasons are inside after all (depthwise ones pay on CPUs, not on GPUs).
    max_recall_drop, max_bucket_drop: how many points of recall (hundredths) may be lost of all objects, and of those of
    any range of sizes. A single object never fails: sets of fewer objects cannot show less. confident: the score from
    which the float32 network's detections are labels where there are none.
    """

    images: Annotated[int, Field(ge=FEWEST_PICTURES, le=10_000)] = 128
    seed: Annotated[int, Field(ge=0)] = 0
    method: Literal["auto", "min-max", "percentile", "entropy", "mse"] = "auto"
    equalize: bool = True
    search_weights: bool = True
    correct_bias: bool = True
    include: tuple[Reason, ...] = ()
    max_recall_drop: Annotated[float, Field(ge=0, le=100)] = 0.5
    max_bucket_drop: Annotated[float, Field(ge=0, le=100)] = 1.0
    iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    confident: Annotated[float, Field(gt=0, lt=1)] = 0.5
