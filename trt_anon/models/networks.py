"""Networks for devices: a detector's ONNX file in the precision in which a GPU is to compute it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_anon._optional import require
from trt_anon.build.calibration import Calibration
from trt_anon.build.engine_front import cast_first
from trt_anon.build.load import parse_model, read_model
from trt_anon.build.patch import make_dynamic, one_picture
from trt_anon.build.picture_input import picture_input
from trt_anon.build.precision import Precision, convert
from trt_anon.build.quantized import spell_out
from trt_anon.detect.families import get_family
from trt_anon.errors import ModelError
from trt_anon.models.calibrations import calibration_of
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.runtime.select import DeviceNetwork

if TYPE_CHECKING:
    import onnx

NETWORK_VERSION = 1
"""Part of the key under which these networks are cached; raised with every change of what they are made into."""


def recipe_network(
    registry: Registry, recipe: Recipe, precision: Precision, calibration: Calibration | None = None
) -> DeviceNetwork:
    """The network of a recipe: batch and, where the recipe lets it, size free, input uint8 (N, H, W, 3).

    calibration: for `int8` and `fp8`, whose other layers are fp16; its largest values tell what `fp16` can hold, too.
    None takes the recipe's (see `models.calibrations`). Raises what `Registry.prepared` and `precision.convert` do.
    """
    if calibration is None and precision != "fp32":
        found = calibration_of(recipe)
        calibration = None if found is None else found[0]
    overrides = recipe.input.given() if recipe.input else None
    family = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
    prepared = registry.prepared(recipe, family.input_spec)
    data = read_model(prepared)
    return _network(registry, recipe.name, data, recipe.sha256, precision, calibration)


def file_network(
    registry: Registry, path: Path, precision: Precision, calibration: Calibration | None = None
) -> DeviceNetwork:
    """The network of an ONNX file without a recipe: its input stays, with its batch free if the graph allows it.

    Raises ModelError for a file that is not a self-contained network of pictures.
    """
    data = read_model(path)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).lstrip("-._") or "model"
    model = spell_out(parse_model(data, str(path)), str(path))
    freed = _freed(model, str(path)).SerializeToString(deterministic=True)
    return _network(registry, name, freed, hashlib.sha256(data).hexdigest(), precision, calibration)


def operators_of(path: Path) -> dict[str, str]:
    """The operators of a network's nodes, by their names."""
    model = parse_model(read_model(path), str(path))
    return {node.name: node.op_type for node in model.graph.node}


def _network(
    registry: Registry, name: str, data: bytes, source: str, precision: Precision, calibration: Calibration | None
) -> DeviceNetwork:
    ranges = hashlib.sha256(calibration.to_json().encode()).hexdigest() if calibration is not None else None
    key: dict[str, Any] = {
        "prepared_sha256": hashlib.sha256(data).hexdigest(),
        "network": NETWORK_VERSION,
        "onnx": require("onnx", "preparing a model").__version__,
        "precision": precision,
        "calibration_sha256": ranges,
    }

    def make(_folder: Path) -> bytes:
        model = cast_first(parse_model(data, name), name)
        converted = convert(model, precision, calibration, rest="fp16", where=name)
        return bytes(converted.SerializeToString(deterministic=True))

    path = registry.keep(f"{name}-{precision}", key, make)
    return DeviceNetwork(path, name, precision, source, ranges)


def _freed(model: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The network for any batch if its graph allows that; a size that the file fixes is kept: it may depend on it."""
    size = picture_input(model, where).size_px is None
    try:
        return make_dynamic(model, size=size, where=where)
    except ModelError:
        return one_picture(model, where=where)
