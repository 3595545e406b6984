"""ONNX Runtime's CUDA and TensorRT providers on arrays of the GPU."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trt_anon._optional import require
from trt_anon.errors import DeviceMissing, ModelError
from trt_anon.runtime.onnxruntime_device import BoundRunner, load_session, session_options
from trt_anon.runtime.runner_memory import RunnerMemory

if TYPE_CHECKING:
    import onnxruntime

Provider = Literal["cuda", "tensorrt"]
_NAMES: dict[Provider, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@functools.cache  # they stay loaded, however many models are
def _load_libraries() -> None:
    """Load CUDA and cuDNN from NVIDIA's wheels, where no loader looks by itself."""
    ort = require("onnxruntime", "running a detector with ONNX Runtime")
    if hasattr(ort, "preload_dlls"):  # since 1.21
        ort.preload_dlls(directory="")


class OnnxRuntimeGpuRunner(BoundRunner):
    """A model on a provider of onnxruntime-gpu that reads and writes the caller's CuPy arrays.

    A session has one stream for its life, so this one has its own, and orders it after and before the caller's by
    events: nothing waits on the host, but no graph can be captured either. engines: where the provider `tensorrt` keeps
    what it built; a folder that only the user can write to. halves: whether that provider may choose float16 and, where
    the file says so, int8. Raises DeviceMissing where this ONNX Runtime has not that provider or cannot start it, which
    would otherwise run the model on the CPU without a word.
    """

    def __init__(
        self,
        path: Path,
        memory: RunnerMemory,
        *,
        provider: Provider = "cuda",
        engines: Path | None = None,
        halves: bool = False,
    ) -> None:
        ort = require("onnxruntime", "running a detector with ONNX Runtime")
        name = _NAMES[provider]
        if name not in ort.get_available_providers():
            raise DeviceMissing(
                f"this ONNX Runtime has no {name}: install onnxruntime-gpu, in the place of onnxruntime"
            )
        _load_libraries()
        self._path, self._memory, self._provider = path, memory, provider
        self._engines, self._halves = engines, halves
        with memory.using():
            self._stream = memory.new_stream()
            session = load_session(path, session_options(), self._providers())
        started = session.get_providers()
        if name not in started:
            raise DeviceMissing(
                f"{path.name}: {name} does not start on this machine; ONNX Runtime has {started} instead"
            )
        # Otherwise every inference waits for the device.
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        super().__init__(session, path.name, memory.kind)

    def prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Run the model twice, which chooses kernels or builds engines, and give the shapes; see `BoundRunner`."""
        found = super().prepare(shapes)
        self._memory.wait(self._stream)  # synchronises: once for each set of shapes
        return found

    def another(self) -> OnnxRuntimeGpuRunner:
        """A runner with a session, stream and weights of its own."""
        self._opened()
        return OnnxRuntimeGpuRunner(
            self._path, self._memory, provider=self._provider, engines=self._engines, halves=self._halves
        )

    def _providers(self) -> list[tuple[str, dict[str, str]]]:
        own = {"device_id": str(self._memory.device), "user_compute_stream": str(self._memory.handle(self._stream))}
        cuda = (_NAMES["cuda"], {**own, "cudnn_conv_algo_search": "HEURISTIC"})
        if self._provider == "cuda":
            return [cuda]
        cached = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self._engines)} if self._engines else {}
        halves = {"trt_fp16_enable": "1", "trt_int8_enable": "1"} if self._halves else {}
        return [(_NAMES["tensorrt"], {**own, **cached, **halves}), cuda]

    def _run(self, session: onnxruntime.InferenceSession, binding: Any, stream: Any) -> None:
        try:
            self._memory.order(stream, self._stream)
            session.run_with_iobinding(binding, self._run_options)
            self._memory.order(self._stream, stream)
        except self._failures as error:
            raise ModelError(f"{self._name}: ONNX Runtime failed: {error}") from error
