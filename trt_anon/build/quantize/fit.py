"""Fitting a network to INT8: everything but which of its layers shall run in it.

Ranges of values come from one pass over all pictures. What shall make the error smaller (ranges by value, ranges of
weights by search, equalization, corrected biases) is held against the network in float32 on a few pictures, and kept
where it helped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.quantize import weights as weight_ranges
from trt_anon.build.quantize.choose import by_error, by_method
from trt_anon.build.quantize.collect import Channels, collect, collect_channels
from trt_anon.build.quantize.equalize import equalized
from trt_anon.build.quantize.layers import Layer, find_layers
from trt_anon.build.quantize.network import Feeds, Reference
from trt_anon.build.quantize.placement import everywhere
from trt_anon.build.quantize.plan import Plan
from trt_anon.build.quantize.ranges import METHODS, Method
from trt_anon.build.quantize.tune import helpful_factors
from trt_anon.build.quantize.write import Clips

if TYPE_CHECKING:
    import onnx

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are, and how many there are."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """How to fit. Each measure is tried, and kept where it helps; False leaves it out."""

    method: Method | Literal["auto"] = "auto"
    equalize: bool = True
    search_weights: bool = True
    correct_bias: bool = True


@dataclass(frozen=True, slots=True)
class Fitted:
    """The outcome.

    factors: of equalization. methods: what found the range of each value. errors: of each layer alone in INT8,
    everything else exact. largest: the largest magnitude of each value, equalized or not.
    """

    plan: Plan
    factors: Mapping[str, tuple[float, ...]]
    methods: Mapping[str, str]
    errors: Mapping[str, float]
    largest: Mapping[str, float]
    reference: Reference


def fit(
    model: onnx.ModelProto,
    feeds: Callable[[], Iterable[Feeds]],
    few: Sequence[Feeds],
    total: int,
    fitting: Fitting,
    on_progress: OnProgress,
    *,
    given: Mapping[str, float] | None = None,
    where: str = "model",
) -> Fitted:
    """Fit a tidied network.

    feeds: gives all pictures, `total` of them, anew. few: those on which measures are tried. given: ranges of values
    that are known already, as from a calibration cache. Raises ModelError where a value is not finite.
    """
    layers = find_layers(model)
    reference = Reference(model, few)
    channels = _channels(model, layers, few)
    largest = dict(collect(model, (), few, where=where).largest)
    factors: dict[str, tuple[float, ...]] = {}
    if fitting.equalize and not given:
        factors = helpful_factors(
            model, layers, channels, few, reference, lambda done, all_: on_progress("equalization", done, all_)
        )
    changed = equalized(model, layers, factors, where) if factors else model
    layers = find_layers(changed)
    if factors:
        channels = _channels(changed, layers, few)
    placement = everywhere(changed, layers)
    seen = collect(changed, placement.readers, feeds(), lambda done: on_progress("pictures", done, total), where=where)
    for name, value in seen.largest.items():
        largest[name] = max(largest.get(name, 0.0), value)

    weights = {name: weight_ranges.largest_weights(layer) for name, layer in layers.items()}
    uniform: dict[str, dict[str, float]] = {method: by_method(placement, seen.histograms, method) for method in METHODS}
    if fitting.method == "auto":
        values, methods = by_error(
            changed, placement, seen.histograms, few, lambda done, all_: on_progress("ranges", done, all_)
        )
        tried = {**uniform, "auto": values}
        inside = [name for name, layer in layers.items() if layer.outside is None] or list(layers)
        figures = {
            name: reference.error(Plan(changed, layers, Clips(one, weights), {}).quantized(inside))
            for name, one in tried.items()
        }
        best = min(figures, key=lambda name: figures[name])
        if best != "auto":  # each value alone is not all of them together
            values, methods = tried[best], dict.fromkeys(values, best)
    else:
        values = uniform[fitting.method]
        methods = dict.fromkeys(values, str(fitting.method))
    if given:
        known = {name: clip for name, clip in given.items() if name in values}
        values, methods = {**values, **known}, {**methods, **dict.fromkeys(known, "given")}
    fitter = _LayerFitter(changed, layers, values, channels, reference)
    bias: dict[str, NDArray[np.float64]] = {}
    errors = {}
    for done, name in enumerate(layers):
        weights[name], shift, errors[name] = fitter.fit(name, fitting)
        if shift is not None:
            bias[name] = shift
        on_progress("layers", done + 1, len(layers))
    return Fitted(Plan(changed, layers, Clips(values, weights), bias), factors, methods, errors, largest, reference)


class _LayerFitter:
    """Tries ways to quantize one layer alone."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Mapping[str, Layer],
        values: Mapping[str, float],
        channels: Mapping[str, Channels],
        reference: Reference,
    ) -> None:
        self._model, self._layers, self._values = model, layers, values
        self._channels, self._reference = channels, reference

    def fit(self, name: str, fitting: Fitting) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, float]:
        """The ranges of its weights, what to add to its bias (None for nothing), and its error."""
        layer, seen = self._layers[name], self._channels.get(self._layers[name].data)
        weights = weight_ranges.largest_weights(layer)
        error = self._error(name, weights, None)
        if fitting.search_weights:
            searched = weight_ranges.searched(layer, None if seen is None else seen.mean_square)
            found = self._error(name, searched, None)
            if found < error:
                weights, error = searched, found
        if fitting.correct_bias and seen is not None:
            shift = -weight_ranges.shift(layer, weights, seen.mean)
            found = self._error(name, weights, shift)
            if found < error:
                return weights, shift, found
        return weights, None, error

    def _error(self, name: str, weights: NDArray[np.float64], shift: NDArray[np.float64] | None) -> float:
        bias = {} if shift is None else {name: shift}
        plan = Plan(self._model, self._layers, Clips(self._values, {name: weights}), bias)
        return self._reference.error(plan.quantized([name]))


def _channels(model: onnx.ModelProto, layers: Mapping[str, Layer], feeds: Sequence[Feeds]) -> dict[str, Channels]:
    return collect_channels(model, {layer.data: layer.data_axis for layer in layers.values()}, feeds)
