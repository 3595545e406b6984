"""From class scores as networks give them to probabilities, and which of them reach the threshold."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.outputs import Floats, Indices, check_finite, check_probabilities
from trt_anon.detect.yolo import sigmoid
from trt_anon.errors import ConfigError

Activation = Literal["none", "sigmoid", "softmax"]
"""What the graph left to do: nothing, a sigmoid of each score, or a softmax over the classes of a place."""

Background = Literal["none", "first", "last"]
"""Where the column for "no object" is."""


def softmax(logits: Floats, axis: int = -1) -> Floats:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    with np.errstate(over="ignore"):  # what lies beyond the range of float32 below the largest has no share
        raised = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True), np.float32)


def column_count(classes: int, background: Background) -> int:
    """How many columns a model of that many classes gives."""
    return classes + (background != "none")


def class_probabilities(
    family: str, raw: Floats, activation: Activation, background: Background, axis: int = -1
) -> Floats:
    """Probabilities of the classes along an axis, in [0, 1], the background left out.

    Raises ModelError where a score is not finite or, with activation `none`, no probability.
    """
    if activation == "none":
        check_probabilities(family, raw)
        found = raw
    else:
        check_finite(family, "scores", raw)
        found = sigmoid(raw) if activation == "sigmoid" else softmax(raw, axis)
    wanted = [slice(None)] * found.ndim
    wanted[axis] = {"none": slice(None), "first": slice(1, None), "last": slice(None, -1)}[background]
    return found[tuple(wanted)]


def reaching(probabilities: Floats, threshold: float) -> tuple[Indices, Indices, NDArray[np.int32], Floats]:
    """(images, places, class_ids, scores) of every class of every place (N, P, C) that reaches the threshold.

    A place counts for each such class, not for its best alone: a face is not lost to a helmet that scores higher.
    """
    images, places, classes = np.nonzero(probabilities >= threshold)
    return images, places, classes.astype(np.int32), probabilities[images, places, classes]


def check_classes(family: str, classes: int, activation: Activation = "none", background: Background = "none") -> None:
    """Raise ConfigError for a count of classes that no model has, or a softmax that could say only one thing."""
    if classes < 1:
        raise ConfigError(f"family {family!r}: 'classes' must be at least 1, not {classes}")
    if activation == "softmax" and column_count(classes, background) < 2:
        raise ConfigError(f"family {family!r}: a softmax over one column is always 1; set 'background' or 'activation'")
