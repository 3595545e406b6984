"""In which precision an engine's layers compute: from the build log, or the inspector where a GPU is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

PRECISIONS = {
    "Float": "fp32",
    "Half": "fp16",
    "BFloat16": "bf16",
    "FP8": "fp8",
    "Int8": "int8",
    "UInt8": "uint8",
    "Int32": "int32",
    "Int64": "int64",
    "Bool": "bool",
}
# What layers that convolve are called: by the compiler of TensorRT-RTX, by itself or fused, and by TensorRT.
_CONVOLUTIONS = re.compile(r"(correlation|(cask)?(de)?conv(olution)?)", re.IGNORECASE)
_FUSED = re.compile(r"Corr|Deconv")

_NOTHING = frozenset({"signal", "wait", "shape_call"})  # neither reads nor writes a tensor
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), (?P<rest>Inputs: .*)$")
_TYPE = re.compile(rf"\b({'|'.join(PRECISIONS)})\b")


class Layer(NamedTuple):
    """One layer of an engine: the ONNX nodes that it computes, and the type of what it reads."""

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...]

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution, a transposed one included."""
        fused = self.kind == "runtime_fusion" and _FUSED.search(self.name) is not None
        return fused or _CONVOLUTIONS.fullmatch(self.kind) is not None


def from_log(messages: Iterable[str]) -> tuple[Layer, ...] | None:
    """The layers as a builder logs them ("Layers:"); None where it did not."""
    listed = [message for message in messages if message.startswith("Layers:")]
    if not listed:
        return None
    found = []
    for line in listed[-1].splitlines():
        parts = _LINE.match(line)
        if parts is not None and parts["kind"] not in _NOTHING:
            rest = parts["rest"]
            read, written = _section(rest, "Inputs"), _section(rest, "Outputs")
            found.append(_layer(parts["name"], parts["kind"], read, written, rest.rpartition("Metadata: ")[2]))
    return tuple(layer for layer in found if layer)


def from_inspector(text: str) -> tuple[Layer, ...] | None:
    """The layers of an engine's description in JSON; None where that has no details."""
    try:
        listed = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return None
    if not all(isinstance(layer, dict) for layer in listed):  # without details there are names only
        return None
    found = []
    for entry in listed:
        read, written = _types(entry.get("Inputs")), _types(entry.get("Outputs"))
        found.append(_layer(entry.get("Name"), entry.get("LayerType"), read, written, entry.get("Metadata", "")))
    return tuple(layer for layer in found if layer)


def _layer(name: object, kind: object, read: str, written: str, metadata: object) -> Layer | None:
    types = _TYPE.findall(read) or _TYPE.findall(written)
    # "[ONNX Layer: a][ONNX Layer: b]", with separators between that cannot be seen; names may hold brackets, too
    nodes = tuple(part.rstrip("\x1e\x1f ").removesuffix("]") for part in str(metadata).split("[ONNX Layer: ")[1:])
    return Layer(str(name), str(kind), PRECISIONS[types[0]], nodes) if types else None


def _types(tensors: Any) -> str:
    """What stands for the types of an inspector's tensors: TensorRT 10 writes "Format/Datatype", 11 "Datatype"."""
    listed = [t for t in tensors or [] if isinstance(t, dict)]
    return " ".join(str(t.get("Datatype", t.get("Format/Datatype", ""))) for t in listed)


def _section(rest: str, name: str) -> str:
    """The data types within `Inputs: [ {...} ]` of a log's line."""
    after = rest.partition(f"{name}: ")[2]
    end = re.search(r"\], (Constants|Outputs|TacticName): ", after)
    tensors = after[: end.start()] if end else after
    return " ".join(re.findall(r"Datatype: (\w+)", tensors))
