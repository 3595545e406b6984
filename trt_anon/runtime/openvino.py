"""OpenVINO on the CPU, the default runtime.

Throughput mode (a stream per core) with float32 arithmetic. Measured with YuNet at 960x544 on two cores: alone it is
about as fast as latency mode; beside threads that decode and encode, latency mode waits for its slowest thread at every
layer and takes 1.7 times as long. One request more than there are streams keeps them busy between two frames.

A model with free sizes is compiled once for all of them, and again for a size that was prepared, as that of a video:
with a fixed size YuNet takes 15 to 20% less time; compiling takes 0.15 s. The two differ by rounding, so a size is
never switched because it came often: equal pictures would get unequal results.

OpenVINO 2026.4 has no bf16 implementation of a quantized convolution whose input has a zero point other than 0, and
does not compile a model with one on CPUs with bf16 arithmetic unless it is told to compute in float32. With precision
`auto` such a model is compiled for float32 (its quantized layers run in int8 all the same), and a warning says so.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import DeviceMissing, ModelError
from trt_anon.runtime.base import Tensor, TensorSpec
from trt_anon.runtime.feeds import check_feeds

if TYPE_CHECKING:
    import openvino

_Shapes = tuple[tuple[int, ...], ...]

_log = logging.getLogger("trt_anon")


class OpenVinoRunner:
    """A model on OpenVINO's CPU device; see `runtime.base.Runner`.

    threads: of all its inferences together, None is one per core.
    precision: `f32` computes as the model says; `bf16` and, where the CPU has instructions for it, `auto` take about
    half the time and change scores in the second decimal. `auto` falls back to float32 where OpenVINO cannot compile
    the model otherwise, `bf16` raises.
    static_models: how many prepared sizes are kept; the one unused for longest is dropped for a new one.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        precision: Literal["auto", "f32", "bf16"] = "f32",
        static_models: int = 4,
    ) -> None:
        self._name = path.name
        self._core = _shared_core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceMissing("this CPU has no bf16 arithmetic; use precision f32")
        self._properties: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "ENABLE_CPU_PINNING": False}
        if precision != "auto":
            self._properties["INFERENCE_PRECISION_HINT"] = precision
        if threads is not None:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = self._core.read_model(str(path))
            self._general = self._compile(self._model)
            self._inputs = tuple(_spec(port, _input_name(port)) for port in self._model.inputs)
            self._outputs = tuple(_spec(port, _output_name(port)) for port in self._model.outputs)
            self._streams = int(self._general.model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        except RuntimeError as error:
            hint = "; use precision auto or f32" if precision == "bf16" else ""
            raise ModelError(f"{path}: OpenVINO cannot load it{hint}: {error}") from error
        self._limit = self._streams + 1
        self._free_sizes = any(None in spec.shape for spec in self._inputs)
        self._static_models = static_models
        self._lock = threading.Lock()
        self._under_way: deque[_OpenVinoPending] = deque()
        self._submitted = 0
        self._static: dict[_Shapes, _Compiled] = {}
        self._compiling = threading.Lock()
        self._closed = False

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
        """How many inferences run at once."""
        return self._streams

    @property
    def static_shapes(self) -> tuple[_Shapes, ...]:
        """The input shapes that were compiled on their own."""
        with self._lock:
            return tuple(self._static)

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Compile the model for inputs of these shapes, by name, unless that was done."""
        key = tuple(tuple(shapes[spec.name]) for spec in self._inputs)
        with self._compiling:
            with self._lock:
                self._check_open()
                if not self._free_sizes or not self._static_models or key in self._static:
                    return
                model = self._model.clone()
            try:
                model.reshape({spec.name: list(s) for spec, s in zip(self._inputs, key, strict=True)})
                static = self._compile(model)
            except RuntimeError as error:
                raise ModelError(f"{self._name}: OpenVINO cannot compile it for {key}: {error}") from error
            with self._lock:
                if len(self._static) >= self._static_models:
                    del self._static[min(self._static, key=lambda shape: self._static[shape].last_used)]
                static.last_used = self._submitted
                self._static[key] = static
                self._general.idle.clear()  # their buffers are as large as the largest size they have seen

    def submit(self, feeds: Mapping[str, Tensor]) -> _OpenVinoPending:
        """Start an inference; blocks while all requests are busy."""
        tensors = check_feeds(feeds, self._inputs, self._name)
        compiled = self._compiled_for(tuple(t.shape for t in tensors.values()))
        while True:
            pending = _OpenVinoPending(self, compiled, tuple(tensors.values()))
            with pending.lock:  # nobody can wait for it before it has started
                with self._lock:
                    self._check_open()
                    oldest = self._under_way[0] if len(self._under_way) >= self._limit else None
                    if oldest is None:
                        pending.request = compiled.take_request()
                        self._under_way.append(pending)
                if oldest is None:
                    pending.start()
                    return pending
            oldest.finish()

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Start an inference and wait for its outputs."""
        return self.submit(feeds).result()

    def close(self) -> None:
        """Wait for what is under way, and free the model; its results stay valid."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting = tuple(self._under_way)
        for pending in waiting:
            pending.finish()
        with self._lock:
            self._static.clear()
            del self._general, self._model

    def _compile(self, model: openvino.Model) -> _Compiled:
        try:
            return _Compiled(self._core.compile_model(model, "CPU", self._properties))
        except RuntimeError as error:
            if "INFERENCE_PRECISION_HINT" in self._properties:
                raise
            exact = self._properties | {"INFERENCE_PRECISION_HINT": "f32"}
            try:
                compiled = _Compiled(self._core.compile_model(model, "CPU", exact))
            except RuntimeError:
                raise error from None  # the precision was not to blame
            self._properties = exact  # for its other sizes, too
            _log.warning("%s: OpenVINO cannot compile it in this CPU's fastest precision: running in f32", self._name)
            return compiled

    def _check_open(self) -> None:
        if self._closed:
            raise ModelError(f"{self._name}: was closed")

    def _compiled_for(self, shapes: _Shapes) -> _Compiled:
        with self._lock:
            self._check_open()
            self._submitted += 1
            static = self._static.get(shapes)
            if static is None:
                return self._general
            static.last_used = self._submitted
            return static

    def _release(self, pending: _OpenVinoPending) -> None:
        with self._lock:
            self._under_way.remove(pending)
            pending.compiled.idle.append(pending.request)


class _Compiled:
    """A compiled model and its idle requests; guarded by the lock of its runner."""

    def __init__(self, model: openvino.CompiledModel) -> None:
        self.model = model
        self.idle: list[openvino.InferRequest] = []
        self.last_used = 0

    def take_request(self) -> openvino.InferRequest:
        return self.idle.pop() if self.idle else self.model.create_infer_request()


class _OpenVinoPending:
    """One inference; whoever needs its request or its outputs first waits for it and copies the outputs out."""

    def __init__(self, runner: OpenVinoRunner, compiled: _Compiled, tensors: tuple[Tensor, ...]) -> None:
        self.lock = threading.Lock()
        self.compiled = compiled
        self.request: Any = None
        self._runner = runner
        self._tensors = tensors
        self._results: dict[str, Tensor] | None = None
        self._error: RuntimeError | None = None
        self._done = False

    def start(self) -> None:
        """Start; called once, under the lock."""
        ov = require("openvino", "running a detector with OpenVINO")
        try:
            # Shared memory needs a writable array, though it is only read; OpenVINO does not keep it alive.
            self._tensors = tuple(t if t.flags.writeable else t.copy() for t in self._tensors)
            for index, tensor in enumerate(self._tensors):
                self.request.set_input_tensor(index, ov.Tensor(tensor, shared_memory=True))
            self.request.start_async()
        except RuntimeError as error:
            self._error = error
            self._settle()

    def finish(self) -> None:
        """Wait until it is over, whether it worked or not."""
        with self.lock:
            if self._done:
                return
            try:
                self.request.wait()
                self._results = {
                    spec.name: self.request.get_output_tensor(index).data.copy()
                    for index, spec in enumerate(self._runner.outputs)
                }
            except RuntimeError as error:
                self._error = error
            finally:
                self._settle()

    def result(self) -> dict[str, Tensor]:
        """Wait for the outputs."""
        self.finish()
        if self._error is not None:
            raise ModelError(f"{self._runner._name}: OpenVINO failed: {self._error}") from self._error
        if self._results is None:
            raise ModelError(f"{self._runner._name}: the inference was interrupted")
        return self._results

    def _settle(self) -> None:
        self._done = True
        self._tensors = ()
        self._runner._release(self)


_core: openvino.Core | None = None
_core_lock = threading.Lock()


def _shared_core() -> openvino.Core:
    """The process's one Core, which is never freed; it holds no state but what is loaded.

    OpenVINO's CPU plugin gives the thread that loads it an alternate signal stack and takes it back when the Core goes.
    Of two Cores that do not go in the reverse order the later one restores the freed stack of the earlier, and the next
    signal, a Ctrl-C, ends the process with a segmentation fault.
    """
    global _core
    ov = require("openvino", "running a detector with OpenVINO")
    with _core_lock:
        if _core is None:
            _core = ov.Core()
        return _core


def _spec(port: Any, name: str) -> TensorSpec:
    shape = tuple(None if d.is_dynamic else int(d.get_length()) for d in port.partial_shape)
    return TensorSpec(name, np.dtype(port.element_type.to_dtype()), shape)


def _input_name(port: Any) -> str:
    return str(port.node.friendly_name)


def _output_name(port: Any) -> str:
    # A value may go by several names; the one of the ONNX output is in that of the Result node, "NAME/sink_port_0".
    name = str(port.node.friendly_name).removesuffix("/sink_port_0")
    return name if name in port.get_names() else str(port.get_any_name())
