"""The largest value that each tensor of a network takes on some pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trt_anon._optional import require
from trt_anon.build.check import probe_pictures
from trt_anon.build.picture_input import picture_input
from trt_anon.config import RuntimeConfig
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Runner, Tensor
from trt_anon.runtime.select import open_runner

if TYPE_CHECKING:
    import onnx

_FREE_HW_PX = (256, 320)


def probe_feeds(model: onnx.ModelProto, where: str = "model") -> list[dict[str, Tensor]]:
    """Pictures of several textures as the network's input takes them: uint8 codes, or values in [0, 1]."""
    source = picture_input(model, where)
    height, width = source.height or _FREE_HW_PX[0], source.width or _FREE_HW_PX[1]
    pictures = probe_pictures(2 * (source.batch or 1), height, width)
    values = pictures if source.dtype == np.uint8 else pictures.astype(np.float32) / 255
    return [{source.name: source.feed(part)} for part in np.split(values, 2)]


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that gives these values, too. Their element types have to be known: the model is one of `tidy`."""
    lib = require("onnx", "reading a model")
    widened: onnx.ModelProto = lib.ModelProto()
    widened.CopyFrom(model)
    known = {v.name: v for v in model.graph.value_info}
    there = {o.name for o in model.graph.output}
    for name in names:
        if name not in there:
            kind = known[name].type.tensor_type.elem_type
            widened.graph.output.append(lib.helper.make_tensor_value_info(name, kind, None))
    return widened


def open_model(model: onnx.ModelProto, folder: Path, name: str = "model") -> Runner:
    """Load a network from memory, for exact arithmetic on the CPU; `folder` takes its file."""
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return open_runner(path, RuntimeConfig(device="cpu", precision="f32"))


def float_values(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of all float values that nodes of a tidied network give."""
    lib = require("onnx", "reading a model")
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    made = (name for node in model.graph.node for name in node.output)
    return tuple(name for name in made if kinds.get(name) == lib.TensorProto.FLOAT)


def largest_values(
    model: onnx.ModelProto, feeds: Iterable[Mapping[str, Tensor]] | None = None, where: str = "model"
) -> dict[str, float]:
    """The largest absolute value of each float value of a tidied network; feeds: None takes `probe_feeds`.

    Raises ModelError where one is not finite.
    """
    names = float_values(model)
    largest = dict.fromkeys(names, 0.0)
    with tempfile.TemporaryDirectory(prefix="trt-anon-measure-") as folder:
        runner = open_model(with_outputs(model, names), Path(folder))
        try:
            for feed in probe_feeds(model, where) if feeds is None else feeds:
                for name, tensor in runner.run(feed).items():
                    if name in largest and tensor.size:
                        largest[name] = float(np.maximum(largest[name], np.abs(tensor).max()))
        finally:
            runner.close()
    wrong = [name for name, value in largest.items() if not np.isfinite(value)]
    if wrong:
        raise ModelError(f"{where}: {wrong[0]!r} takes values that are not finite")
    return largest
