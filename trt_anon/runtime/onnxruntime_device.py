"""ONNX Runtime on the caller's arrays, through I/O binding: what all providers share, and the host in a GPU's place."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import ModelError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.device_tensors import Memory, Place, PreparedShapes
from trt_anon.runtime.onnxruntime import failures, spec_of

if TYPE_CHECKING:
    import onnxruntime

_BINDINGS_KEPT = 64


class BoundRunner:
    """What runners of ONNX Runtime on the caller's arrays share; see `runtime.base.DeviceRunner`."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str, memory: Memory) -> None:
        self._name, self._memory_kind = name, memory
        self._failures = failures()
        self._open(session)

    def _open(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._inputs = tuple(spec_of(value, self._name) for value in session.get_inputs())
        self._outputs = tuple(spec_of(value, self._name) for value in session.get_outputs())
        self._shapes = PreparedShapes(self._name, self._inputs, self._outputs, self._memory_kind)
        self._bindings: OrderedDict[tuple[tuple[Place, ...], tuple[Place, ...]], Any] = OrderedDict()

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
        """False: ONNX Runtime waits for the device when it likes to."""
        return False

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Run the model twice on made-up inputs, which also warms it up, and give the shapes of its outputs.

        Raises ModelError for shapes that the model does not take, and where an output's shape depends on what is fed.
        """
        session = self._opened()
        key = self._shapes.key(shapes)
        known = self._shapes.outputs_of(key)
        if known is not None:
            return known
        found, again = (self._shapes_given(session, shapes, seed) for seed in (None, 0))
        for name, shape in found.items():
            if again[name] != shape:
                raise ModelError(
                    f"{self._name}: the shape of output {name!r} depends on what is in the picture; it cannot be bound"
                )
        self._shapes.add(key, found)
        return dict(found)

    def enqueue(self, feeds: Mapping[str, Any], outputs: Mapping[str, Any], stream: Any = None) -> None:
        """Run the model from the caller's arrays into the caller's arrays; see `runtime.base.DeviceRunner`."""
        session = self._opened()
        taken, given = self._shapes.places(feeds, outputs)
        self._run(session, self._binding(session, taken, given), stream)

    def close(self) -> None:
        """Free the model, unless others made of it are open; later calls raise."""
        self._bindings.clear()
        self._session = None

    def _opened(self) -> onnxruntime.InferenceSession:
        if self._session is None:
            raise ModelError(f"{self._name}: was closed")
        return self._session

    def _shapes_given(
        self, session: onnxruntime.InferenceSession, shapes: Mapping[str, tuple[int, ...]], seed: int | None
    ) -> dict[str, tuple[int, ...]]:
        binding = session.io_binding()
        for spec in self._inputs:
            binding.bind_cpu_input(spec.name, _made_up(spec, shapes[spec.name], seed))
        for spec in self._outputs:
            binding.bind_output(spec.name)  # in host memory, of whatever shape it has
        self._run(session, binding, None)
        return {
            spec.name: tuple(value.shape()) for spec, value in zip(self._outputs, binding.get_outputs(), strict=True)
        }

    def _binding(
        self, session: onnxruntime.InferenceSession, taken: tuple[Place, ...], given: tuple[Place, ...]
    ) -> Any:
        """The binding of these arrays; the last few are kept, as a pipeline uses the same over and over."""
        key = taken, given
        known = self._bindings.get(key)
        if known is not None:
            self._bindings.move_to_end(key)
            return known
        device = "cpu" if self._memory_kind == "host" else "cuda"
        binding = session.io_binding()
        for spec, place in zip(self._inputs, taken, strict=True):
            binding.bind_input(place.name, device, 0, spec.dtype.type, place.shape, place.address)
        for spec, place in zip(self._outputs, given, strict=True):
            binding.bind_output(place.name, device, 0, spec.dtype.type, place.shape, place.address)
        self._bindings[key] = binding
        if len(self._bindings) > _BINDINGS_KEPT:
            self._bindings.popitem(last=False)
        return binding

    def _run(self, session: onnxruntime.InferenceSession, binding: Any, stream: Any) -> None:
        try:
            session.run_with_iobinding(binding)
        except self._failures as error:
            raise ModelError(f"{self._name}: ONNX Runtime failed: {error}") from error


class HostDeviceRunner(BoundRunner):
    """A model on ONNX Runtime's CPU provider that reads and writes the caller's NumPy arrays.

    It stands in for a runner of a GPU wherever there is none; see `runtime.base.DeviceRunner`. `enqueue` returns when
    the outputs are there, and takes any stream. threads: of one inference; None is one per core.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        options = session_options()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        super().__init__(load_session(path, options, ["CPUExecutionProvider"]), path.name, "host")

    def another(self) -> HostDeviceRunner:
        """A runner that shares the session, whose inferences may run at the same time."""
        sibling = object.__new__(HostDeviceRunner)
        BoundRunner.__init__(sibling, self._opened(), self._name, "host")
        return sibling


def session_options() -> onnxruntime.SessionOptions:
    """Options of every session: errors are raised, not printed, and nothing is reported to anyone."""
    ort = require("onnxruntime", "running a detector with ONNX Runtime")
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def load_session(
    path: Path, options: onnxruntime.SessionOptions, providers: Sequence[Any]
) -> onnxruntime.InferenceSession:
    """Load an ONNX file. Raises ModelError where ONNX Runtime cannot."""
    ort = require("onnxruntime", "running a detector with ONNX Runtime")
    try:
        return ort.InferenceSession(str(path), options, providers=list(providers))
    except failures() as error:
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error


def _made_up(spec: TensorSpec, shape: Sequence[int], seed: int | None) -> np.ndarray[Any, np.dtype[Any]]:
    """Zeros, or with a seed noise over the range that pictures have."""
    if seed is None:
        return np.zeros(shape, spec.dtype)
    noise = np.random.default_rng(seed).random(shape)
    return (noise * 255 if spec.dtype.kind in "iu" else noise).astype(spec.dtype)
