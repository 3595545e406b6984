"""Engines of detectors: what is to be built, said before it is done, and done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from trt_anon.build.calibration import Calibration
from trt_anon.build.precision import Precision
from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError, UsageError
from trt_anon.files import write_atomically
from trt_anon.models.networks import file_network, operators_of, recipe_network
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.preprocess.views import plan_views
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.engine_manifest import EngineKey
from trt_anon.runtime.engine_store import EngineStore, StoredEngine
from trt_anon.runtime.engines import EngineShapes, Place, choose_place, find_or_build, make_key
from trt_anon.runtime.gpu import Gpu, find_gpus
from trt_anon.runtime.select import DeviceNetwork
from trt_anon.runtime.trt.building import check_network
from trt_anon.runtime.trt.library import Backend
from trt_anon.runtime.trt.progress import Progress
from trt_anon.types import Orientation

VIDEO_SIZE_PX = (1920, 1080)
"""The (width, height) of the video that an engine is built for where nobody says another size."""


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """What the user asks for.

    detector: a recipe's name or file, or an ONNX file. sizes_hw_px: (height, width) of the network's input; none takes
    those that a picture of VIDEO_SIZE_PX comes to. targets: GPUs as `sm_86`; none is the GPU here.
    """

    detector: str
    precision: Precision = "fp16"
    batch: tuple[int, int, int] = (1, 8, 8)
    sizes_hw_px: tuple[tuple[int, int], ...] = ()
    targets: tuple[str, ...] = ()
    backend: Backend | Literal["auto"] = "auto"
    calibration: Calibration | None = None
    workspace_bytes: int | None = None
    optimization_level: int | None = None


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What will be built, or taken from the store, with what, and for which inputs."""

    network: DeviceNetwork
    place: Place
    shapes: EngineShapes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    key: EngineKey
    stored: StoredEngine | None
    reasons: tuple[str, ...]


def plan_engine(
    order: EngineOrder,
    registry: Registry,
    store: EngineStore,
    *,
    gpus: Sequence[Gpu] | None = None,
    say: Callable[[str], None] | None = None,
) -> EnginePlan:
    """Prepare the network, have the library read it, and look for the engine; nothing is built.

    gpus: those here, by default asked of the driver. say: told why it is not full TensorRT. Raises ModelError where the
    network cannot be prepared, EngineError where the library cannot take it, UsageError and DeviceMissing for what
    cannot be built here.
    """
    place = choose_place(order.backend, order.targets, gpus, say)
    if Path(order.detector).suffix.lower() == ".onnx":
        recipe = None
        network = file_network(registry, Path(order.detector), order.precision, order.calibration)
    else:
        recipe = registry.get(order.detector)
        network = recipe_network(registry, recipe, order.precision, order.calibration)
    data = network.path.read_bytes()
    inputs, outputs = check_network(place.library, data, network.name)
    if len(inputs) != 1:
        raise ModelError(f"{network.name}: expected one input, found {len(inputs)}")
    shapes = _shapes(order, recipe, inputs[0], network.name)
    key = make_key(
        place,
        data,
        shapes.profiles(inputs[0], network.name),
        model=network.name,
        precision=order.precision,
        source_sha256=network.source_sha256,
        calibration_sha256=network.calibration_sha256,
        workspace_bytes=order.workspace_bytes,
        optimization_level=order.optimization_level,
    )
    stored = store.get(key)
    reasons = () if stored else store.why_not(key)
    return EnginePlan(network, place, shapes, inputs, outputs, key, stored, reasons)


def build_planned(
    plan: EnginePlan,
    store: EngineStore,
    *,
    keep_timings: bool = True,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> StoredEngine:
    """Build what was planned, unless it is in the store already."""
    return find_or_build(
        plan.place,
        plan.network.path.read_bytes(),
        plan.key,
        store,
        operators=operators_of(plan.network.path),
        keep_timings=keep_timings,
        progress=progress,
        say=say,
    )


def export(engine: StoredEngine, folder: Path) -> Path:
    """Copy an engine and its manifest into a folder, to be handed on; the path of the copy."""
    data = engine.read()
    path = folder / engine.path.name
    write_atomically(path.with_suffix(".json"), engine.manifest.to_json().encode())
    write_atomically(path, data)
    return path


def fitness(engine: StoredEngine, gpus: Sequence[Gpu] | None = None) -> str:
    """`ready` for an engine that is for the GPU here, else whom it is for; whether it is intact, `read` says."""
    targets = engine.manifest.key.targets
    here = tuple(find_gpus() if gpus is None else gpus)
    if not here:
        return f"for {', '.join(targets)}; no GPU here"
    return "ready" if here[0].target in targets else f"for {', '.join(targets)}, here is {here[0].target}"


def _shapes(order: EngineOrder, recipe: Recipe | None, source: TensorSpec, name: str) -> EngineShapes:
    """The shapes asked for, within what the network takes."""
    if len(source.shape) != 4:
        raise ModelError(f"{name}: its input {source.name!r} {source.shape} is none of batches of pictures")
    batch, *sides = source.shape
    height, width = sides[:2] if sides[2] == 3 else sides[1:]
    sizes = order.sizes_hw_px
    if height is not None and width is not None:
        if any(size != (height, width) for size in sizes):
            raise UsageError(f"{name}: takes pictures of {height}x{width} (height x width) only")
        sizes = ((height, width),)
    elif not sizes:
        if recipe is None:
            raise UsageError(f"{name}: takes pictures of any size; name those to build for: --size HEIGHTxWIDTH")
        sizes = _usual_sizes(recipe)
    if batch is not None and order.batch != (batch, batch, batch):
        raise UsageError(f"{name}: takes {batch} pictures at a time; --batch {batch}")
    return EngineShapes(order.batch, sizes)


def _usual_sizes(recipe: Recipe) -> tuple[tuple[int, int], ...]:
    """What a picture of VIDEO_SIZE_PX comes to, for each pass of the recipe."""
    overrides = recipe.input.given() if recipe.input else None
    spec = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes)).input_spec
    views = plan_views(*VIDEO_SIZE_PX, Orientation.NORMAL, Fraction(1), recipe.scales, spec, flip=recipe.flip)
    return tuple(dict.fromkeys(view.plan.target_hw_px for view in views))
