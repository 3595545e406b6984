"""Running a detector through its family before anyone relies on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from trt_anon._optional import available
from trt_anon.build.check import check_runtimes_agree, probe_pictures
from trt_anon.build.inspect import Seen
from trt_anon.build.load import parse_model
from trt_anon.build.patch import pin_input
from trt_anon.build.quantized import is_quantized
from trt_anon.config import RuntimeConfig
from trt_anon.detect.base import Family
from trt_anon.errors import ModelError
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry
from trt_anon.runtime.base import Runner
from trt_anon.runtime.select import open_runner
from trt_anon.types import InputSpec

MOST_IN_BLACK = 200
"""A detector that finds more in a black picture gives scores that are none, or is read wrongly."""


def try_out(recipe: Recipe, family: Family, data: bytes, registry: Registry, seen: Seen) -> tuple[str, ...]:
    """Decode black pictures and noise, at two sizes where the size is free; gives what is worth knowing.

    Raises ModelError where the family cannot read what the model gives (expected against found), where a batch gives
    something else than its pictures, where it finds a multitude in a black picture, or where OpenVINO and ONNX Runtime,
    if both are installed, do not agree.
    """
    runner = open_runner(
        registry.try_out(recipe, data, family.input_spec), RuntimeConfig(device="cpu", precision="f32")
    )
    notes: list[str] = []
    try:
        for width_px, height_px in _sizes(family.input_spec, seen):
            in_black = _decoded(runner, family, np.zeros((1, height_px, width_px, 3), np.uint8), recipe)
            if in_black > MOST_IN_BLACK:
                raise ModelError(
                    f"{recipe.name}: finds {in_black} objects in a black picture of {width_px}x{height_px}; it is read "
                    f"wrongly: see the options of {family.name!r} (background, activation, activated) and --input"
                )
            if in_black:
                notes.append(
                    f"it finds {in_black} objects in a black picture; look at what it does to pictures of yours"
                )
            _decoded(runner, family, probe_pictures(1, height_px, width_px, seed=2), recipe)
            if recipe.batch == "free":
                _decoded(runner, family, probe_pictures(2, height_px, width_px, seed=3), recipe)
    finally:
        runner.close()
    if available("onnxruntime") and available("openvino"):
        _second_opinion(data, seen, recipe.name)
    return tuple(dict.fromkeys(notes))


def _sizes(spec: InputSpec, seen: Seen) -> tuple[tuple[int, int], ...]:
    if spec.size_px is not None:
        return (spec.size_px,)
    height, width = seen.hw_px
    return tuple(
        (-(-w // spec.stride_px) * spec.stride_px, -(-h // spec.stride_px) * spec.stride_px)
        for w, h in ((width, height), (width + 64, max(height - 64, 64)))
    )


def _decoded(runner: Runner, family: Family, pictures: np.ndarray, recipe: Recipe) -> int:
    """How many objects the family finds in the pictures."""
    hw_px = (pictures.shape[1], pictures.shape[2])
    found = family.decode(runner.run({runner.inputs[0].name: pictures}), hw_px, recipe.threshold)
    if len(found) != len(pictures):
        raise ModelError(f"{recipe.name}: gives {len(found)} results for {len(pictures)} pictures")
    for one in found:
        if len(one.class_ids) and not (one.class_ids.min() >= 0 and one.class_ids.max() < len(recipe.classes)):
            raise ModelError(f"{recipe.name}: gives classes beyond the {len(recipe.classes)} that are named")
    return sum(len(one.scores) for one in found)


def _second_opinion(data: bytes, seen: Seen, name: str) -> None:
    height, width = seen.hw_px
    batch = seen.input.batch or 1
    original = parse_model(data, name)
    pinned = pin_input(original, batch, height, width)
    pictures = probe_pictures(batch, height, width).astype(np.float32)
    values = pictures if seen.input.dtype == np.uint8 else pictures / 255
    with tempfile.TemporaryDirectory(prefix="trt-anon-add-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(pinned.SerializeToString())
        runner = open_runner(path, RuntimeConfig(device="cpu", runtime="onnxruntime"))
        try:
            outputs = runner.run({seen.input.name: seen.input.feed(values)})
            check_runtimes_agree(seen.outputs, outputs, name, is_quantized(original))
        finally:
            runner.close()
