"""Where equalization helps: it is tried between each pair of layers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trt_anon.build.quantize import weights as weight_ranges
from trt_anon.build.quantize.choose import OnStep, by_method
from trt_anon.build.quantize.collect import Channels, collect
from trt_anon.build.quantize.equalize import equalized, factors_for, find_pairs
from trt_anon.build.quantize.layers import Layer, find_layers
from trt_anon.build.quantize.network import Feeds, Reference
from trt_anon.build.quantize.placement import Placement
from trt_anon.build.quantize.write import Clips, write_qdq

if TYPE_CHECKING:
    import onnx

_HELPS = 0.95
"""A measure is kept if it brings the error down to this share of what it was."""


def helpful_factors(
    model: onnx.ModelProto,
    layers: Mapping[str, Layer],
    channels: Mapping[str, Channels],
    feeds: Sequence[Feeds],
    reference: Reference,
    on_step: OnStep | None = None,
) -> dict[str, tuple[float, ...]]:
    """Factors for those pairs of layers where equalization makes the error of quantizing the second smaller.

    channels: of the values that layers read.
    """
    pairs = find_pairs(model, layers)
    factors = {pair.first: factors_for(pair, layers, channels[pair.value].largest) for pair in pairs}
    factors = {name: vector for name, vector in factors.items() if (vector != 1).any()}
    pairs = [pair for pair in pairs if pair.first in factors]
    scaled = equalized(model, layers, {name: tuple(map(float, vector)) for name, vector in factors.items()})
    forms = {"plain": model, "scaled": scaled}
    layers_of = {name: find_layers(form) for name, form in forms.items()}
    values = [pair.value for pair in pairs]
    seen = {name: collect(form, values, feeds).histograms for name, form in forms.items()}
    kept: dict[str, tuple[float, ...]] = {}
    for done, pair in enumerate(pairs):
        errors = {}
        for name, form in forms.items():
            its_layers = layers_of[name]
            nodes = tuple(its_layers[one].node for one in pair.readers)
            alone = Placement({pair.value: nodes}, {pair.value: (pair.value,)})
            weights = {one: weight_ranges.largest_weights(its_layers[one]) for one in pair.readers}
            clips = Clips(by_method(alone, seen[name], "mse"), weights)
            errors[name] = reference.error(write_qdq(form, its_layers, alone, clips))
        if errors["scaled"] < _HELPS * errors["plain"]:
            kept[pair.first] = tuple(map(float, factors[pair.first]))
        if on_step is not None:
            on_step(done + 1, len(pairs))
    return kept
