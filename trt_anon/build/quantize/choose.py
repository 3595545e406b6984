"""Choosing the range of each value by the error that it causes at the network's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.build.measure import with_outputs
from trt_anon.build.quantize import ranges
from trt_anon.build.quantize.histogram import Histogram
from trt_anon.build.quantize.network import Errors, Feeds, compared_values, opened, run_all
from trt_anon.build.quantize.placement import Placement
from trt_anon.build.quantize.write import codes_of, scale_of

if TYPE_CHECKING:
    import onnx

OnStep = Callable[[int, int], None]
"""Called with how many steps are done, and how many there are."""


def group_histograms(placement: Placement, histograms: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """The joined histogram of the values of each group, by the group's name."""
    joined = {}
    for root, values in placement.groups.items():
        whole = histograms[values[0]]
        for name in values[1:]:
            whole = whole.joined(histograms[name])
        joined[root] = whole
    return joined


def by_method(placement: Placement, histograms: Mapping[str, Histogram], method: ranges.Method) -> dict[str, float]:
    """The range of each quantized value by one method."""
    found = {root: ranges.METHODS[method](one) for root, one in group_histograms(placement, histograms).items()}
    return {name: found[root] for root, values in placement.groups.items() for name in values}


def by_error(
    model: onnx.ModelProto,
    placement: Placement,
    histograms: Mapping[str, Histogram],
    feeds: Sequence[Feeds],
    on_step: OnStep | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """The range of each quantized value that causes the least error, and the method that found it, by value.

    Each group of values is quantized alone, everything else computed exactly, with every range that a method comes to.
    feeds: a few pictures.
    """
    names = compared_values(model)
    with opened(with_outputs(model, [n for n in names if n not in {o.name for o in model.graph.output}])) as runner:
        exact = [outputs for _, outputs in run_all(runner, feeds)]
    clips: dict[str, float] = {}
    methods: dict[str, str] = {}
    groups = group_histograms(placement, histograms)
    for done, (root, histogram) in enumerate(groups.items()):
        values = placement.groups[root]
        tried = ranges.candidates(histogram)
        best = next(iter(tried))
        if len(tried) > 1:
            errors = _errors(model, placement, values, tried, feeds, exact, names)
            best = min(errors, key=lambda name: errors[name])
        for value in values:
            clips[value], methods[value] = tried[best], best
        if on_step is not None:
            on_step(done + 1, len(groups))
    return clips, methods


def _errors(
    model: onnx.ModelProto,
    placement: Placement,
    values: Sequence[str],
    tried: Mapping[str, float],
    feeds: Sequence[Feeds],
    exact: Sequence[Mapping[str, NDArray[np.generic]]],
    names: Sequence[str],
) -> dict[str, float]:
    """The network's error with these values quantized, for each range."""
    inputs = {value.name for value in model.graph.input}
    given = [value for value in values if value not in inputs]
    errors = {method: Errors(names) for method in tried}
    with opened(with_outputs(model, given)) as whole:
        ran = [outputs for _, outputs in run_all(whole, feeds)]
    ranks = {value: (ran[0][value] if value in ran[0] else feeds[0][value]).ndim for value in values}
    with opened(_cut(model, placement, ranks, names)) as rest:
        taken = {spec.name for spec in rest.inputs}
        work = [(method, place) for place in range(len(feeds)) for method in tried]

        def fed() -> Iterator[Feeds]:
            for method, place in work:
                scale = scale_of(tried[method])
                exactly = {value: ran[place][value] if value in ran[place] else feeds[place][value] for value in values}
                put_in = {_stand_in(name): codes_of(array, scale) * scale for name, array in exactly.items()}
                yield {name: array for name, array in {**feeds[place], **put_in}.items() if name in taken}

        for (method, place), (_, outputs) in zip(work, run_all(rest, fed()), strict=True):
            errors[method].add(exact[place], outputs)
    return {method: one.figure() for method, one in errors.items()}


def _cut(
    model: onnx.ModelProto, placement: Placement, ranks: Mapping[str, int], names: Sequence[str]
) -> onnx.ModelProto:
    """The network from these values on: those who read them quantized read an input of the network instead.

    ranks: of the values, how many dimensions each has.
    """
    lib = require("onnx", "quantizing a model")
    cut = with_outputs(model, names)
    kept = [output for output in cut.graph.output if output.name in names]
    del cut.graph.output[:]
    cut.graph.output.extend(kept)
    for value, rank in ranks.items():
        for node in cut.graph.node:
            if node.name in placement.readers[value]:
                for index, name in enumerate(node.input):
                    if name == value:
                        node.input[index] = _stand_in(value)
        free = lib.helper.make_tensor_value_info(_stand_in(value), lib.TensorProto.FLOAT, [None] * rank)
        cut.graph.input.append(free)
    needed = {output.name for output in cut.graph.output}
    nodes = []
    for node in reversed(cut.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    nodes.reverse()
    del cut.graph.node[:]
    cut.graph.node.extend(nodes)
    inputs = [value for value in cut.graph.input if value.name in needed]
    del cut.graph.input[:]
    cut.graph.input.extend(inputs)
    return cut


def _stand_in(value: str) -> str:
    return f"{value}/stand_in"
