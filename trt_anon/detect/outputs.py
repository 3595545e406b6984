"""What all families share: outputs that are checked before they are believed, and candidates split by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.errors import ModelError

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


def take_output(
    outputs: Mapping[str, NDArray[Any]], name: str, shape: Sequence[int | None], family: str, batch: int | None = None
) -> Floats:
    """The output of that name as float32, shaped (N, *shape) with N == batch where given; None is any length.

    Raises ModelError where it is missing or shaped otherwise.
    """
    if name not in outputs:
        raise ModelError(f"{family}: the model has no output {name!r}; it has {', '.join(sorted(outputs)) or 'none'}")
    array = outputs[name]
    expected = (batch, *shape)
    if array.ndim != len(expected) or any(e not in (None, f) for e, f in zip(expected, array.shape, strict=True)):
        wanted = ", ".join("any" if e is None else str(e) for e in expected)
        raise ModelError(f"{family}: output {name!r} has shape {array.shape}, expected ({wanted})")
    return array.astype(np.float32, copy=False)


def cells(input_hw_px: tuple[int, int], stride_px: int) -> tuple[int, int]:
    """(rows, columns) of the grid that a stride leaves of the input; partial cells count."""
    height, width = input_hw_px
    return -(-height // stride_px), -(-width // stride_px)


def check_finite(family: str, what: str, *arrays: NDArray[Any]) -> None:
    """Raise ModelError where an array holds NaN or infinity: a broken detector must not pass for an empty street."""
    for array in arrays:
        if not np.isfinite(array).all():
            raise ModelError(f"{family}: the model gave {what} that are not finite; do not trust this model or device")


def check_no_nan(family: str, outputs: Mapping[str, NDArray[Any]]) -> None:
    """Raise ModelError where any output holds NaN: even what a family would skip says that the device or model broke.

    Infinities are left to the family: a size that overflows where nothing is found is no fault.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array.min(initial=np.inf)):  # min hands NaN on
            raise ModelError(f"{family}: output {name!r} holds values that are no numbers; do not trust this model")


def check_probabilities(family: str, scores: NDArray[Any]) -> None:
    """Raise ModelError where scores are not finite or not probabilities, as of a model whose last layer was cut off."""
    check_finite(family, "scores", scores)
    if scores.size and not (scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise ModelError(f"{family}: the model gave scores outside [0, 1]; its last activation seems to be missing")


def split_by_image(
    family: str,
    batch: int,
    images: Indices,
    boxes_xyxy: Floats,
    scores: Floats,
    class_ids: NDArray[np.int32] | None = None,
    landmarks: Floats | None = None,
) -> list[Candidates]:
    """Candidates of each image; `images` (N,) says whose each one is. Within an image the order is kept.

    Raises ModelError where a box or landmark is not finite.
    """
    check_finite(family, "boxes", boxes_xyxy, *([] if landmarks is None else [landmarks]))
    classes = np.zeros(len(scores), np.int32) if class_ids is None else class_ids
    split = []
    for image in range(batch):
        mine = images == image
        split.append(
            Candidates(
                boxes_xyxy=boxes_xyxy[mine].astype(np.float32),
                scores=np.clip(scores[mine], 0.0, 1.0).astype(np.float32),
                class_ids=classes[mine],
                landmarks=None if landmarks is None else landmarks[mine].astype(np.float32),
            )
        )
    return split
