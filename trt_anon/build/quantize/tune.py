"""Measures against the error of quantization, each of which is kept only where it was seen to help."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trt_anon.build.measure import with_outputs
from trt_anon.build.quantize import weights as weight_ranges
from trt_anon.build.quantize.choose import OnStep, by_method
from trt_anon.build.quantize.collect import Channels, collect
from trt_anon.build.quantize.equalize import equalized, factors_for, find_pairs
from trt_anon.build.quantize.layers import Layer, find_layers
from trt_anon.build.quantize.network import Errors, Feeds, compared_values, opened, run_all
from trt_anon.build.quantize.placement import place
from trt_anon.build.quantize.write import Clips, write_qdq
from trt_anon.runtime.base import Tensor

if TYPE_CHECKING:
    import onnx

_HELPS = 0.95
"""A measure is kept if it brings the error down to this share of what it was."""


class Reference:
    """What a network gives in float32 for a few pictures, to hold others against."""

    def __init__(self, model: onnx.ModelProto, feeds: Sequence[Feeds]) -> None:
        self._feeds = tuple(feeds)
        self._names = compared_values(model)
        with opened(with_outputs(model, self._names)) as runner:
            self._exact: list[dict[str, Tensor]] = [outputs for _, outputs in run_all(runner, self._feeds)]

    def error(self, model: onnx.ModelProto) -> float:
        """That of another form of the network; see `network.Errors`."""
        errors = Errors(self._names)
        with opened(with_outputs(model, self._names)) as runner:
            for (_, found), exact in zip(run_all(runner, self._feeds), self._exact, strict=True):
                errors.add(exact, found)
        return errors.figure()


def helpful_factors(
    model: onnx.ModelProto,
    layers: Mapping[str, Layer],
    candidates: Collection[str],
    channels: Mapping[str, Channels],
    feeds: Sequence[Feeds],
    reference: Reference,
    on_step: OnStep | None = None,
) -> dict[str, tuple[float, ...]]:
    """Factors for those pairs of layers where equalization makes the error of quantizing the second smaller.

    candidates: layers that may be quantized. channels: of the values that they read.
    """
    placement = place(model, layers, candidates)
    pairs = [
        pair
        for pair in find_pairs(model, layers)
        if pair.value in placement.readers and set(pair.readers).intersection(candidates)
    ]
    factors = {pair.first: factors_for(pair, layers, channels[pair.value].largest) for pair in pairs}
    factors = {name: vector for name, vector in factors.items() if (vector != 1).any()}
    pairs = [pair for pair in pairs if pair.first in factors]
    scaled = equalized(model, layers, {name: tuple(map(float, vector)) for name, vector in factors.items()})
    forms = {"plain": model, "scaled": scaled}
    values = [pair.value for pair in pairs]
    seen = {name: collect(form, values, feeds).histograms for name, form in forms.items()}
    kept: dict[str, tuple[float, ...]] = {}
    for done, pair in enumerate(pairs):
        readers = [name for name in pair.readers if name in candidates]
        errors = {}
        for name, form in forms.items():
            its_layers = find_layers(form)
            alone = place(form, its_layers, readers)
            alone = replace(
                alone,
                readers={k: v for k, v in alone.readers.items() if k == pair.value},
                groups={pair.value: (pair.value,)},
            )
            weights = {one: weight_ranges.searched(its_layers[one]) for one in readers}
            clips = Clips(by_method(alone, seen[name], "mse"), weights)
            errors[name] = reference.error(write_qdq(form, its_layers, alone, clips))
        if errors["scaled"] < _HELPS * errors["plain"]:
            kept[pair.first] = tuple(map(float, factors[pair.first]))
        if on_step is not None:
            on_step(done + 1, len(pairs))
    return kept
