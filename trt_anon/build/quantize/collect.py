"""Collecting what the values of a network look like, in one pass over pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.measure import float_values, with_outputs
from trt_anon.build.quantize.histogram import Histogram
from trt_anon.build.quantize.network import Feeds, opened, run_all
from trt_anon.errors import ModelError

if TYPE_CHECKING:
    import onnx

OnPicture = Callable[[int], None]
"""Called with the number of feeds that are done."""


@dataclass(slots=True, eq=False)
class Seen:
    """What was seen: histograms of the values asked for, and the largest magnitude of every float value."""

    histograms: dict[str, Histogram]
    largest: dict[str, float]
    feeds: int = 0


@dataclass(slots=True, eq=False)
class Channels:
    """Of one value: for each of its channels the largest magnitude, and the means of its numbers and their squares."""

    largest: NDArray[np.float64]
    mean: NDArray[np.float64]
    mean_square: NDArray[np.float64]


def collect(
    model: onnx.ModelProto,
    values: Iterable[str],
    feeds: Iterable[Feeds],
    on_picture: OnPicture | None = None,
    where: str = "model",
) -> Seen:
    """Run a tidied network on feeds, one by one; histograms of `values`.

    Memory is that of a few pictures' values, however many there are. Raises ModelError where a value is not finite.
    """
    seen = Seen({name: Histogram() for name in values}, dict.fromkeys(float_values(model), 0.0))
    names = dict.fromkeys((*seen.largest, *seen.histograms))
    with opened(with_outputs(model, _made(model, names))) as runner:
        for feed, outputs in run_all(runner, feeds):
            for name in names:
                tensor = outputs[name] if name in outputs else feed[name]
                if name in seen.histograms:
                    try:
                        seen.histograms[name].add(tensor)
                    except ValueError as error:
                        raise ModelError(f"{where}: {name!r} takes values that are not finite") from error
                    seen.largest[name] = seen.histograms[name].largest
                elif tensor.size:
                    seen.largest[name] = float(np.maximum(seen.largest[name], np.abs(tensor).max()))
            seen.feeds += 1
            if on_picture is not None:
                on_picture(seen.feeds)
    wrong = [name for name, value in seen.largest.items() if not np.isfinite(value)]
    if wrong:
        raise ModelError(f"{where}: {wrong[0]!r} takes values that are not finite")
    return seen


def collect_channels(model: onnx.ModelProto, axes: Mapping[str, int], feeds: Iterable[Feeds]) -> dict[str, Channels]:
    """Run a tidied network on feeds, and look at each channel of some values; `axes`: where these have channels."""
    names = list(axes)
    sums: dict[str, list[NDArray[np.float64]]] = {}
    counts = dict.fromkeys(names, 0)
    with opened(with_outputs(model, _made(model, names))) as runner:
        for feed, outputs in run_all(runner, feeds):
            for name in names:
                numbers = (outputs[name] if name in outputs else feed[name]).astype(np.float64)
                rows = np.moveaxis(numbers, axes[name], 0).reshape(numbers.shape[axes[name]], -1)
                news = [np.abs(rows).max(axis=1), rows.sum(axis=1), np.square(rows).sum(axis=1)]
                olds = sums.setdefault(name, [np.zeros_like(new) for new in news])
                sums[name] = [np.maximum(olds[0], news[0]), olds[1] + news[1], olds[2] + news[2]]
                counts[name] += rows.shape[1]
    return {name: Channels(a, b / counts[name], c / counts[name]) for name, (a, b, c) in sums.items()}


def _made(model: onnx.ModelProto, names: Iterable[str]) -> list[str]:
    """Those of the values that nodes give; inputs of the network are at hand."""
    taken = {value.name for value in model.graph.input}
    return [name for name in names if name not in taken]
