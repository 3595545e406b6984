"""A detector whose answers are known, as a real recipe with a real network: it finds whatever is white.

On a dark picture a white spot stands for a person; a clear one anywhere in an output is a leak that a test can see.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WHITE = 170
"""No sample of the dark picture is brighter than 130; an output with one this bright shows a spot."""


def write_recipe(folder: Path, class_name: str = "face") -> Path:
    """A recipe of the family `segmentation` and its network: the probability of white is (min(r, g, b) - 0.55) * 8."""
    nodes = [
        helper.make_node("ReduceMin", ["picture"], ["least"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["least", "from"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["share"]),
        helper.make_node("Clip", ["share", "zero", "one"], ["mask"]),
    ]
    values = {"from": 0.55, "steep": 8.0, "zero": 0.0, "one": 1.0}
    graph = helper.make_graph(
        nodes,
        "white",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ("N", 3, "H", "W"))],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, ("N", 1, "H", "W"))],
        [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data = model.SerializeToString()
    onnx.checker.check_model(model)
    (folder / "white.onnx").write_bytes(data)
    recipe = folder / "white.toml"
    recipe.write_text(
        f"""
name = "white"
description = "finds what is white"
family = "segmentation"
classes = ["{class_name}"]
sha256 = "{hashlib.sha256(data).hexdigest()}"
size_bytes = {len(data)}
threshold = 0.5
[licence]
spdx = "MIT"
[source]
kind = "file"
path = "white.onnx"
"""
    )
    return recipe


def dark(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3): a dark picture with some texture."""
    y, x = np.mgrid[:height, :width]
    waves = 70 + 30 * np.sin(x / 5 + seed) + 25 * np.cos(y / 7 - seed)
    return np.repeat(waves.astype(np.uint8)[..., None], 3, axis=2)


def with_spots(picture: NDArray[np.uint8], *places: tuple[int, int], size: int = 8) -> NDArray[np.uint8]:
    """The picture with white squares at these (x, y)."""
    marked = picture.copy()
    for x, y in places:
        marked[y : y + size, x : x + size] = 255
    return marked


def shows_white(picture: NDArray[np.generic]) -> bool:
    """Whether any pixel of (H, W) or (H, W, C) is white."""
    channels = picture.reshape(*picture.shape[:2], -1)
    top = 255 if picture.dtype == np.uint8 else 65535
    return bool((channels.min(axis=-1) > WHITE * (top / 255)).any())
