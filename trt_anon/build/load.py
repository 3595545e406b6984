"""Reading an ONNX file from anywhere: what is not a plain, self-contained network is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon._optional import require
from trt_anon.errors import ModelError, ModelMissing

if TYPE_CHECKING:
    import onnx

MAX_MODEL_BYTES = 512 << 20
"""Larger files are refused; detectors of this field have 0.2 to 200 MB."""

# Operators of other domains need code that comes with a model, which is not loaded here.
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})


def load_model(path: Path) -> onnx.ModelProto:
    """The network in an ONNX file, checked.

    Raises ModelMissing where there is no file, and ModelError for a file that is too large, not ONNX, refers to other
    files (external data), has custom operators, or breaks the rules of ONNX.
    """
    return parse_model(read_model(path), str(path))


def read_model(path: Path) -> bytes:
    """The bytes of a model file. Raises ModelMissing where there is none, ModelError where it cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: {size} bytes; models of more than {MAX_MODEL_BYTES} bytes are refused")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelMissing(f"{path}: there is no such model file") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error


def parse_model(data: bytes, where: str) -> onnx.ModelProto:
    """The network in the bytes of an ONNX file, checked as in `load_model`; `where` names it in errors."""
    lib = require("onnx", "reading a model")
    model: onnx.ModelProto = lib.ModelProto()
    try:
        model.ParseFromString(data)
    except onnx_decode_errors() as error:
        raise ModelError(f"{where}: is not an ONNX file") from error
    if not model.HasField("graph") or not model.graph.node:
        raise ModelError(f"{where}: is not an ONNX file, or holds an empty network")
    for graph in _graphs(model.graph):
        for tensor in _tensors(graph):
            if tensor.external_data or tensor.data_location == lib.TensorProto.EXTERNAL:
                raise ModelError(f"{where}: tensor {tensor.name!r} lies in another file; give one self-contained file")
        for node in graph.node:
            if node.domain not in _DOMAINS:
                raise ModelError(f"{where}: operator {node.op_type!r} of the custom domain {node.domain!r} is refused")
    if model.functions:
        raise ModelError(f"{where}: has functions of its own; inline them first (onnx.inliner)")
    check_model(model, where)
    return model


def check_model(model: onnx.ModelProto, where: str) -> None:
    """Raise ModelError unless ONNX's own checker accepts the network."""
    lib = require("onnx", "checking a model")
    try:
        lib.checker.check_model(model)
    except (lib.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{where}: breaks the rules of ONNX: {error}") from error


def onnx_decode_errors() -> tuple[type[Exception], ...]:
    """What protobuf raises for bytes that are no message."""
    message = require("google.protobuf.message", "reading a model")
    return (message.DecodeError,)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    waiting = [graph]
    while waiting:
        found = waiting.pop()
        yield found
        for node in found.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor.values
                yield attribute.sparse_tensor.indices
