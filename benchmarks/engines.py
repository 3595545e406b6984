"""Which detectors does TensorRT-RTX build engines of, for which GPUs, in which precision? Needs no GPU.

Every recipe whose file is here and every file in the folder of models is prepared, parsed, and built for each
architecture in each precision, for batches of 1 to 8 where the network takes any; the build log tells in which
precision each convolution computes. INT8 is quantized here as the library does, but with the ranges of pictures of
noise: it shows what builds, not what is found. Writes a table to docs/engines/, with the operator at fault where it
fails.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trt_anon.build.calibration import Calibration
from trt_anon.build.load import parse_model
from trt_anon.build.measure import probe_feeds
from trt_anon.build.precision import Precision
from trt_anon.build.quantize.choose import by_method
from trt_anon.build.quantize.collect import collect
from trt_anon.build.quantize.layers import find_layers
from trt_anon.build.quantize.placement import place
from trt_anon.build.quantize.weights import largest_weights
from trt_anon.build.tidy import network_sha256, tidy
from trt_anon.errors import EngineError, TrtAnonError
from trt_anon.machine import inspect_machine
from trt_anon.models.networks import file_network, operators_of, recipe_network
from trt_anon.models.registry import Registry
from trt_anon.runtime.engines import EngineShapes
from trt_anon.runtime.select import DeviceNetwork
from trt_anon.runtime.trt.building import BuildSettings, build_engine, check_network
from trt_anon.runtime.trt.library import Library, open_library

HERE = Path(__file__).parent
TARGETS = ("sm_75", "sm_86", "sm_89", "sm_120")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
BATCH = (1, 4, 8)
FREE_HW_PX = (384, 640)

Maker = Callable[[Precision], DeviceNetwork]


@dataclass(frozen=True)
class Outcome:
    """What came of one build. convolutions: how many compute in which precision; meant_int8: how many have their values
    and weights quantized in the file.
    """

    name: str
    precision: str
    target: str
    built: bool
    input: str = ""
    convolutions: dict[str, int] | None = None
    meant_int8: int = 0
    seconds: float = 0.0
    engine_bytes: int = 0
    stage: str = ""
    operator: str | None = None
    node: str | None = None
    reason: str = ""


def detectors(registry: Registry, models: Path | None) -> Iterator[tuple[str, Maker]]:
    """A name and what makes the network, for every recipe whose file is here and every file in the folder."""

    def maker(make: Callable[..., DeviceNetwork]) -> Maker:
        def made(precision: Precision) -> DeviceNetwork:
            exact = make("fp32")
            return exact if precision == "fp32" else make(precision, of_noise(exact))

        return made

    for recipe in registry.recipes():
        if registry.state(recipe) == "ready":
            yield recipe.name, maker(functools.partial(recipe_network, registry, recipe))
    for path in sorted(models.glob("*.onnx")) if models else ():
        yield path.name, maker(functools.partial(file_network, registry, path))


def of_noise(network: DeviceNetwork) -> Calibration:
    """The largest values on two pictures of noise, for every layer that INT8 is for; it quantizes badly, and builds."""
    model = tidy(parse_model(network.path.read_bytes(), network.name), where=network.name)
    layers = {name: layer for name, layer in find_layers(model).items() if layer.outside is None}
    placement = place(model, layers, set(layers))
    seen = collect(model, placement.readers, probe_feeds(model), where=network.name)
    return Calibration(
        model_sha256="0" * 64,
        network_sha256=network_sha256(model),
        data_sha256="0" * 64,
        images=seen.feeds,
        settings={},
        ranges=by_method(placement, seen.histograms, "min-max"),
        largest=seen.largest,
        weights={name: tuple(largest_weights(layer)) for name, layer in layers.items()},
    )


def attempt(library: Library, name: str, make: Maker, precision: Precision, targets: Sequence[str]) -> list[Outcome]:
    """Prepare and parse once, and build for each target."""
    stage = "prepare"
    try:
        network = make(precision)
        data = network.path.read_bytes()
        stage = "parse"
        (source, *_), _outputs = check_network(library, data, network.name)
    except TrtAnonError as error:
        return [Outcome(name, precision, target, built=False, stage=stage, **_fault(error)) for target in targets]
    text = f"{source.dtype.name} {'x'.join('N' if side is None else str(side) for side in source.shape)}"
    batch, *sides = source.shape
    fixed = tuple(side for side in (sides[:2] if sides[2] == 3 else sides[1:]) if side is not None)
    shapes = EngineShapes(BATCH if batch is None else (batch,) * 3, (fixed if len(fixed) == 2 else FREE_HW_PX,))
    meant = meant_int8(data)
    found = []
    for target in targets:
        settings = BuildSettings(shapes.profiles(source, name), (target,), exact_float32=precision == "fp32")
        started = time.perf_counter()
        try:
            built = build_engine(library, data, settings, model=name, operators=operators_of(network.path))
        except EngineError as error:
            found.append(Outcome(name, precision, target, built=False, input=text, stage="build", **_fault(error)))
        else:
            counted = Counter(layer.precision for layer in built.layers or () if layer.convolves)
            seconds = time.perf_counter() - started
            found.append(Outcome(name, precision, target, True, text, dict(counted), meant, seconds, len(built.data)))
    return found


def meant_int8(data: bytes) -> int:
    """Convolutions whose values and weights both come out of a DequantizeLinear."""
    model = parse_model(data, "network")
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return sum(node.input[0] in dequantized and node.input[1] in dequantized for node in convolutions)


def _fault(error: TrtAnonError) -> dict[str, Any]:
    if isinstance(error, EngineError):
        return {"operator": ", ".join(error.operators) or None, "node": error.node, "reason": error.reason}
    return {"reason": str(error)}


def table(outcomes: Sequence[Outcome], targets: Sequence[str], title: str) -> str:
    """The outcomes in Markdown: a row for each detector and precision, and a row for each failure."""
    what = f"Built with {title}, without a GPU, for batches of {BATCH[0]} to {BATCH[2]} where the network takes any."
    lines = [
        what,
        "The cells say how many convolutions compute in which precision, by the build log, where some became one; for",
        "int8 also how many the file means to: dense ones without the first and the heads. Its ranges are of noise.",
        "",
        f"| detector | input | precision | {' | '.join(targets)} | seconds | MB |",
        f"|---|---|---|{'---|' * len(targets)}---|---|",
    ]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.name, outcome.precision), []).append(outcome)
    for (name, precision), group in groups.items():
        by_target = {outcome.target: outcome for outcome in group}
        cells = [_cell(by_target[target]) for target in targets]
        done = [outcome for outcome in group if outcome.built]
        figures = ["", ""]
        if done:
            figures = [f"{max(o.seconds for o in done):.1f}", f"{max(o.engine_bytes for o in done) / 1e6:.1f}"]
        lines.append(f"| {name} | {group[0].input} | {precision} | {' | '.join([*cells, *figures])} |")
    failures: dict[tuple[str, ...], list[str]] = {}
    for o in outcomes:
        if not o.built:
            what = (o.name, o.precision, o.stage, o.operator or "", o.node or "", " ".join(o.reason.split())[:160])
            failures.setdefault(what, []).append(o.target)
    built = sum(outcome.built for outcome in outcomes)
    lines += ["", f"{built} of {len(outcomes)} engines were built."]
    for target in targets:
        quantized = [o for o in outcomes if o.target == target and o.built and o.precision == "int8"]
        if quantized:
            whole = sum((o.convolutions or {}).get("int8", 0) >= o.meant_int8 for o in quantized)
            lines.append(
                f"For {target}, all convolutions meant to be int8 are in {whole} of {len(quantized)} int8 engines."
            )
    if failures:
        lines += ["", "| not built | precision | for | fails to | operators | first node | reason |", "|" + "---|" * 7]
        for (name, precision, *rest), failed in failures.items():
            where = "all" if len(failed) == len(targets) else ", ".join(failed)
            cells = [text.replace("|", "/") for text in rest]
            lines.append(f"| {name} | {precision} | {where} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome) -> str:
    if not outcome.built:
        return "no"
    counted = outcome.convolutions or {}
    text = ", ".join(f"{count} {precision}" for precision, count in sorted(counted.items()))
    return f"{text} ({outcome.meant_int8} meant)" if outcome.precision == "int8" else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, default=HERE.parents[1] / "shared" / "models", help="folder of ONNX files"
    )
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--only", help="detectors whose name has this in it")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "engines")
    arguments = parser.parse_args()
    targets, precisions = arguments.targets.split(","), arguments.precisions.split(",")
    library = open_library("tensorrt-rtx")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as cache:
        registry = Registry(cache_dir=Path(cache))
        for name, make in detectors(registry, arguments.models if arguments.models.is_dir() else None):
            if arguments.only and arguments.only not in name:
                continue
            for precision in precisions:
                outcomes += attempt(library, name, make, precision, targets)
                print(name, precision, [_cell(o) for o in outcomes[-len(targets) :]], file=sys.stderr, flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "machine": inspect_machine().to_dict(),
        "library": library.title,
        "batch": BATCH,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    (arguments.out / "tensorrt-rtx.json").write_text(json.dumps(figures, indent=1) + "\n")
    (arguments.out / "tensorrt-rtx.md").write_text(table(outcomes, targets, library.title))
    print(table(outcomes, targets, library.title))


if __name__ == "__main__":
    main()
