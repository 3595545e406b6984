"""TensorRT engines on the caller's arrays and stream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from trt_anon.errors import ModelError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.device_tensors import PreparedShapes
from trt_anon.runtime.runner_memory import ALIGNMENT_BYTES, RunnerMemory
from trt_anon.runtime.trt.executing import Context, Engine

_Key = tuple[tuple[int, ...], ...]


class EngineSource(Protocol):
    """Where the engines of a model come from: one that is there, or as many as there are kinds of shapes."""

    @property
    def model(self) -> str:
        """Its name."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        ...

    def engine_for(self, shapes: Mapping[str, tuple[int, ...]]) -> Engine:
        """An engine that takes inputs of these shapes, by name. Raises EngineError."""
        ...


class TensorRtRunner:
    """A model on TensorRT 10, 11 or TensorRT-RTX; see `runtime.base.DeviceRunner`.

    source: an `Engine`, or `engines.BuiltOnDemand`. Every prepared set of shapes has an execution context of its own,
    and all of them share one piece of scratch memory, as one stream runs one at a time. `enqueue` sets addresses and
    launches, nothing else.
    """

    def __init__(self, source: EngineSource, memory: RunnerMemory) -> None:
        self._source: EngineSource | None = source
        self._memory = memory
        self._shapes = PreparedShapes(
            source.model,
            source.inputs,
            source.outputs,
            memory.kind,
            alignment_bytes=ALIGNMENT_BYTES if memory.kind == "cuda" else 1,  # NumPy's arrays are aligned to less
        )
        self._inputs, self._outputs, self._name = source.inputs, source.outputs, source.model
        self._contexts: dict[_Key, Context] = {}
        self._scratch: list[Any] = []
        self._scratch_bytes, self._scratch_address = 0, 0
        self._capturable = True

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""
        return self._outputs

    @property
    def capturable(self) -> bool:
        """Whether inferences of all prepared shapes may be captured in a CUDA graph."""
        return self._capturable

    @property
    def scratch_bytes(self) -> int:
        """Device memory that it has taken for itself, besides the weights."""
        return self._scratch_bytes

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Set up and run one inference of zeros, so that later ones compile and allocate nothing; the outputs' shapes.

        May build an engine before, which takes up to minutes; see `EngineSource`. Raises ModelError for shapes without
        an engine. Graphs that were captured before stay valid.
        """
        source = self._opened()
        key = self._shapes.key(shapes)
        known = self._shapes.outputs_of(key)
        if known is not None:
            return known
        memory = self._memory
        with memory.using():
            stream = memory.new_stream()
            wanted = dict(zip((spec.name for spec in self._inputs), key, strict=True))
            engine = source.engine_for(wanted)
            context = Context(engine, wanted, memory.handle(stream))
            self._give_scratch(context)
            buffers = []
            for spec, shape in self._tensors(key, context.output_shapes):
                buffers.append((spec.name, *memory.allocate(math.prod(shape) * spec.dtype.itemsize)))
            context.enqueue(tuple((name, address) for name, _, address in buffers), memory.handle(stream))
            memory.wait(stream)  # synchronises: once for each set of shapes
            engine.keep_kernels()
            self._capturable = self._capturable and context.capturable(memory.handle(stream))
        self._contexts[key] = context
        self._shapes.add(key, context.output_shapes)
        return dict(context.output_shapes)

    def enqueue(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any = None) -> None:
        """Put an inference on the stream; see `runtime.base.DeviceRunner`."""
        self._opened()
        taken, given = self._shapes.places(feeds, outputs)
        context = self._contexts[tuple(place.shape for place in taken)]
        places = tuple((place.name, place.address) for place in (*taken, *given))
        context.enqueue(places, self._memory.handle(stream))

    def another(self) -> TensorRtRunner:
        """A runner of the same engines and weights; contexts and scratch memory are its own, so prepare it too."""
        return TensorRtRunner(self._opened(), self._memory)

    def close(self) -> None:
        """Free contexts and scratch memory, and engines that no other runner has; later calls raise."""
        self._contexts.clear()
        self._scratch.clear()
        self._source = None

    def _opened(self) -> EngineSource:
        if self._source is None:
            raise ModelError(f"{self._name}: was closed")
        return self._source

    def _tensors(
        self, key: _Key, output_shapes: Mapping[str, tuple[int, ...]]
    ) -> list[tuple[TensorSpec, tuple[int, ...]]]:
        taken = list(zip(self._inputs, key, strict=True))
        return [*taken, *((spec, output_shapes[spec.name]) for spec in self._outputs)]

    def _give_scratch(self, context: Context) -> None:
        """Scratch memory for a context: what is there if it suffices. Smaller pieces live on: graphs may use them."""
        needed = max(context.scratch_bytes, ALIGNMENT_BYTES)  # a context must have some, even if these shapes need none
        if needed > self._scratch_bytes:
            buffer, self._scratch_address = self._memory.allocate(needed)
            self._scratch.append(buffer)
            self._scratch_bytes = needed
        context.use_scratch(self._scratch_address, self._scratch_bytes)
