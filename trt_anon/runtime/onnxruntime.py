"""ONNX Runtime on the CPU, the second opinion."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trt_anon._optional import require
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Tensor, TensorSpec
from trt_anon.runtime.feeds import check_feeds

if TYPE_CHECKING:
    import onnxruntime

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeRunner:
    """A model on ONNX Runtime's CPU provider; see `runtime.base.Runner`.

    threads: how many inferences run at once, each on one thread; None is one per core.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        ort = require("onnxruntime", "running a detector with ONNX Runtime")
        ort.disable_telemetry_events()
        self._name = path.name
        self._threads = threads or len(os.sched_getaffinity(0))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # the caller's thread computes: pictures run side by side, not layers
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # sizes change
        options.log_severity_level = 4  # errors are raised, not printed
        self._failures = failures()
        try:
            self._session: onnxruntime.InferenceSession | None = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
        self._inputs = tuple(spec_of(value, self._name) for value in self._session.get_inputs())
        self._outputs = tuple(spec_of(value, self._name) for value in self._session.get_outputs())
        self._slots = threading.BoundedSemaphore(self._threads + 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="trt-anon-onnxruntime")

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
        return self._threads

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Nothing to do: sizes make no difference here."""

    def submit(self, feeds: Mapping[str, Tensor]) -> _OnnxRuntimePending:
        """Start an inference; blocks while all threads are busy and one more waits."""
        tensors = check_feeds(feeds, self._inputs, self._name)
        session = self._session
        if session is None:
            raise ModelError(f"{self._name}: was closed")
        self._slots.acquire()
        try:
            future = self._pool.submit(self._infer, session, tensors)
        except RuntimeError as error:  # closed meanwhile
            self._slots.release()
            raise ModelError(f"{self._name}: was closed") from error
        return _OnnxRuntimePending(future)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Start an inference and wait for its outputs."""
        return self.submit(feeds).result()

    def close(self) -> None:
        """Wait for what is under way, and free the model; its results stay valid."""
        self._session = None
        self._pool.shutdown(wait=True)

    def _infer(self, session: onnxruntime.InferenceSession, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            names = [spec.name for spec in self._outputs]
            return dict(zip(names, session.run(names, tensors), strict=True))
        except self._failures as error:
            raise ModelError(f"{self._name}: ONNX Runtime failed: {error}") from error
        finally:
            self._slots.release()


class _OnnxRuntimePending:
    def __init__(self, future: Future[dict[str, Tensor]]) -> None:
        self._future = future

    def result(self) -> dict[str, Tensor]:
        """Wait for the outputs."""
        return self._future.result()


def spec_of(value: Any, model: str) -> TensorSpec:
    """The specification of a session's input or output. Raises ModelError for an element type that is not supported."""
    dtype = _DTYPES.get(value.type)
    if dtype is None:
        raise ModelError(f"{model}: {value.name!r} has the element type {value.type}, which is not supported")
    return TensorSpec(value.name, np.dtype(dtype), tuple(d if isinstance(d, int) else None for d in value.shape))


def failures() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises: classes without a common base of their own."""
    state = require("onnxruntime.capi.onnxruntime_pybind11_state", "running a detector with ONNX Runtime")
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError)
