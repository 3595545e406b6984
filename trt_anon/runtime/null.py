"""The null runtime: outputs of the right shapes, all zero; the whole pipeline runs without a model or its runtime."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Tensor, TensorSpec
from trt_anon.runtime.feeds import check_feeds

Shapes = dict[str, tuple[int, ...]]


class NullRunner:
    """Takes what a model takes and gives zeros; see `runtime.base.Runner`. For a detector, zeros are no detections.

    output_shapes: the shapes of the outputs for given shapes of the inputs. Without it, a free first dimension of an
    output is that of the first input, and no other may be free.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        output_shapes: Callable[[Shapes], Shapes] | None = None,
    ) -> None:
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        for spec in self._outputs:
            if output_shapes is None and None in spec.shape[1:]:
                raise ModelError(f"null runtime: the shape of output {spec.name!r} is not known: {spec.shape}")
        self._output_shapes = output_shapes or self._by_batch
        self._closed = False

    @classmethod
    def from_onnx(cls, path: Path) -> NullRunner:
        """Stand in for an ONNX model; shapes of outputs are inferred from the graph, nothing is computed."""
        inference = _ShapeInference(path)
        return cls(inference.inputs, inference.outputs, inference)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        return self._outputs

    @property
    def concurrency(self) -> int:
        """One: nothing is computed."""
        return 1

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Nothing to do: sizes make no difference here."""

    def submit(self, feeds: Mapping[str, Tensor]) -> _NullPending:
        """Check the feeds, and have zeros ready."""
        if self._closed:
            raise ModelError("null runtime: was closed")
        tensors = check_feeds(feeds, self._inputs, "null runtime")
        shapes = self._output_shapes({name: tensor.shape for name, tensor in tensors.items()})
        return _NullPending({spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self._outputs})

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Zeros, at once."""
        return self.submit(feeds).result()

    def close(self) -> None:
        """Refuse later calls."""
        self._closed = True

    def _by_batch(self, shapes: Shapes) -> Shapes:
        batch = shapes[self._inputs[0].name][0] if self._inputs else 1
        return {spec.name: tuple(batch if d is None else d for d in spec.shape) for spec in self._outputs}


class _NullPending:
    def __init__(self, outputs: dict[str, Tensor]) -> None:
        self._outputs = outputs

    def result(self) -> dict[str, Tensor]:
        """The zeros."""
        return self._outputs


class _ShapeInference:
    """Output shapes of an ONNX model for given input shapes, by ONNX's shape inference; the last ones are kept."""

    def __init__(self, path: Path, kept: int = 64) -> None:
        onnx = require("onnx", "reading a model's shapes")
        decode_error = require("google.protobuf.message", "reading a model's shapes").DecodeError
        self._where = str(path)
        try:
            self._model = onnx.load(str(path), load_external_data=False)
        except (OSError, decode_error) as error:
            raise ModelError(f"{path}: cannot be read as an ONNX file") from error
        constants = {t.name for t in self._model.graph.initializer}
        self._sources = [v for v in self._model.graph.input if v.name not in constants]
        self.inputs = tuple(self._spec(v) for v in self._sources)
        self.outputs = tuple(self._spec(v) for v in self._model.graph.output)
        self._kept = kept
        self._known: OrderedDict[tuple[tuple[int, ...], ...], Shapes] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, shapes: Shapes) -> Shapes:
        key = tuple(shapes[spec.name] for spec in self.inputs)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._infer(shapes)
                if len(self._known) > self._kept:
                    self._known.popitem(last=False)
            return self._known[key]

    def _infer(self, shapes: Shapes) -> Shapes:
        onnx = require("onnx", "reading a model's shapes")
        for source in self._sources:
            for dim, size in zip(source.type.tensor_type.shape.dim, shapes[source.name], strict=True):
                dim.ClearField("dim_param")
                dim.dim_value = size
        del self._model.graph.value_info[:]
        for output in self._model.graph.output:
            output.type.tensor_type.ClearField("shape")
        try:
            inferred = onnx.shape_inference.infer_shapes(self._model, data_prop=True, strict_mode=True)
        except onnx.shape_inference.InferenceError as error:
            raise ModelError(f"{self._where}: does not take inputs of {shapes}: {error}") from error
        found = {}
        for output in inferred.graph.output:
            dims = output.type.tensor_type.shape.dim
            if not output.type.tensor_type.HasField("shape") or not all(d.HasField("dim_value") for d in dims):
                raise ModelError(f"{self._where}: the shape of output {output.name!r} cannot be inferred")
            found[output.name] = tuple(d.dim_value for d in dims)
        return found

    @staticmethod
    def _spec(value: object) -> TensorSpec:
        onnx = require("onnx", "reading a model's shapes")
        tensor = value.type.tensor_type  # type: ignore[attr-defined]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        return TensorSpec(value.name, np.dtype(dtype), shape)  # type: ignore[attr-defined]
