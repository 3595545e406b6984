"""Looking into an ONNX detector: what it takes, what it gives for a picture, and what its exporter wrote about it."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.check import probe_pictures
from trt_anon.build.load import parse_model
from trt_anon.build.patch import pin_input
from trt_anon.build.picture_input import PictureInput, picture_input
from trt_anon.build.quantized import spell_out
from trt_anon.config import RuntimeConfig
from trt_anon.errors import ModelError
from trt_anon.runtime.select import open_runner

if TYPE_CHECKING:
    import onnx

# Not square, so that height and width are told apart, and a multiple of every stride up to 64.
_FREE_HW_PX = (256, 320)
_LONGEST_ENTRY = 1 << 20
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a detector shows of itself.

    outputs: what it gives for one picture of `hw_px`, noise of several textures in [0, 1] (uint8: [0, 255]), by name in
    the order of the file. center_point_boxes: of its NonMaxSuppression, None without one. class_names, image_size_px
    (width, height), task and licence: from the metadata that exporters write, None where they do not.
    """

    input: PictureInput
    hw_px: tuple[int, int]
    outputs: Mapping[str, NDArray[Any]]
    center_point_boxes: bool | None = None
    class_names: tuple[str, ...] | None = None
    image_size_px: tuple[int, int] | None = None
    task: str | None = None
    licence: str | None = None

    def describe(self) -> str:
        """Input and outputs in words."""
        source = self.input
        sides = ["N" if source.batch is None else str(source.batch)] if "n" in source.layout else []
        size = [str(source.height or "H"), str(source.width or "W")]
        sides += ["3", *size] if "chw" in source.layout else [*size, "3"]
        gives = ", ".join(f"{name!r} {array.dtype} {array.shape}" for name, array in self.outputs.items())
        height, width = self.hw_px
        takes = f"input {source.name!r} {source.dtype} ({', '.join(sides)})"
        return f"{takes}; outputs for {width}x{height}: {gives or 'none'}"


def inspect_model(data: bytes, where: str, hw_px: tuple[int, int] | None = None) -> Seen:
    """Run an ONNX file once and say what is seen; hw_px: the size where its own is free.

    Raises ModelError for a file that is not a self-contained network with one picture input, or that cannot be run.
    """
    model = spell_out(parse_model(data, where), where)
    source = picture_input(model, where)
    free = hw_px or _FREE_HW_PX
    height, width = source.height or free[0], source.width or free[1]
    batch = source.batch or 1
    if height * width * batch > 1 << 26:
        raise ModelError(f"{where}: takes pictures of {width}x{height}, {batch} at a time: more than can be meant")
    pictures = probe_pictures(batch, height, width).astype(np.float32)
    values = pictures if source.dtype == np.uint8 else pictures / 255
    with tempfile.TemporaryDirectory(prefix="trt-anon-inspect-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(pin_input(model, batch, height, width).SerializeToString())
        runner = open_runner(path, RuntimeConfig(device="cpu", precision="f32"))
        try:
            outputs = runner.run({source.name: source.feed(values)})
        finally:
            runner.close()
    order = [output.name for output in model.graph.output if output.name in outputs]
    suppressions = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    centres = any(a.name == "center_point_box" and a.i for node in suppressions for a in node.attribute)
    return Seen(
        input=source,
        hw_px=(height, width),
        outputs={name: outputs[name] for name in order},
        center_point_boxes=centres if suppressions else None,
        **_metadata(model, where),
    )


def _metadata(model: onnx.ModelProto, where: str) -> dict[str, Any]:
    entries = {entry.key: entry.value for entry in model.metadata_props}
    task, licence = entries.get("task"), entries.get("license")
    size = _literal(entries.get("imgsz"))
    if isinstance(size, int):
        size = [size, size]
    sized = (
        isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(s, int) and 0 < s < 1 << 14 for s in size)
    )
    return {
        "class_names": _class_names(_literal(entries.get("names")), where),
        "image_size_px": (size[1], size[0]) if sized else None,  # written as (height, width)
        "task": task if task and task.isalnum() else None,
        "licence": licence[:200] if licence and licence[:200].isprintable() else None,
    }


def _class_names(names: object, where: str) -> tuple[str, ...] | None:
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        return None
    given = [names.get(index, names.get(str(index))) for index in range(len(names))]
    listed = [n for n in given if isinstance(n, str) and 0 < len(n) <= _LONGEST_NAME and n.isprintable()]
    if len(listed) != len(names):
        raise ModelError(f"{where}: its metadata 'names' are not names of classes numbered from 0; it is refused")
    return tuple(listed)


def _literal(text: str | None) -> Any:
    """A literal as exporters write it; None where there is none or it cannot be read."""
    if text is None or len(text) > _LONGEST_ENTRY:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
