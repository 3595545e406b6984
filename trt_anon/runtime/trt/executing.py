"""From a serialized engine to inferences."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from trt_anon.errors import EngineError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.trt.failures import build_error
from trt_anon.runtime.trt.library import Library

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]


class Kernels(Protocol):
    """Where compiled kernels are kept."""

    def read(self) -> bytes | None:
        """What was kept, None for nothing."""
        ...

    def keep(self, kernels: bytes) -> None:
        """Keep these in the place of what was."""
        ...


class Engine:
    """A loaded engine, for any number of contexts and threads.

    data: what `building.build_engine` made. An engine is code that will run: hand over none whose origin is not known
    (see `runtime.engine_store`). kernels: where those that TensorRT-RTX compiles are kept; None keeps none. profiles:
    of each the inputs' smallest, usual and largest shapes. Raises EngineError where it is of another version or for
    another GPU.
    """

    def __init__(self, library: Library, data: bytes, model: str, kernels: Kernels | None = None) -> None:
        self.library = library
        self.model = model
        self._kernels = kernels
        self._kept: bytes | None = None
        self._compiled: trt.IRuntimeCache | None = None
        self._compiling = threading.Lock()
        module = library.trt
        with library.listening() as heard:
            # Host code, which version-compatible engines may carry, stays forbidden: that is its default.
            self._runtime: trt.Runtime = module.Runtime(library.logger)
            engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise build_error(heard, library.title, model, {}, "load the engine")
        self._engine: trt.ICudaEngine = engine
        inputs: list[TensorSpec] = []
        outputs: list[TensorSpec] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_location(name) != module.TensorLocation.DEVICE:
                raise EngineError(f"{model}: its tensor {name!r} lies in host memory, which is not supported")
            if engine.get_tensor_format(name) != module.TensorFormat.LINEAR:
                raise EngineError(f"{model}: its tensor {name!r} has a layout that is not row by row")
            shape = tuple(None if side < 0 else int(side) for side in engine.get_tensor_shape(name))
            spec = TensorSpec(str(name), library.dtype(engine.get_tensor_dtype(name)), shape)
            is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
            (inputs if is_input else outputs).append(spec)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.profiles = tuple(self._profile(index) for index in range(engine.num_optimization_profiles))

    def engine_for(self, shapes: Mapping[str, Shape]) -> Engine:
        """This engine. Raises EngineError where it does not take inputs of these shapes."""
        self.profile_for(shapes)
        return self

    def takes(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether it was built for inputs of these shapes."""
        return self._profile_index(shapes) is not None

    def profile_for(self, shapes: Mapping[str, Shape]) -> int:
        """The first profile that takes inputs of these shapes. Raises EngineError where none does."""
        found = self._profile_index(shapes)
        if found is not None:
            return found
        wanted = ", ".join(f"{name!r} {tuple(shape)}" for name, shape in shapes.items())
        ranges = "; ".join(
            ", ".join(f"{name!r} {low} to {high}" for name, (low, _, high) in profile.items())
            for profile in self.profiles
        )
        raise EngineError(
            f"{self.model}: the engine was not built for {wanted}, but for {ranges}; build one with this batch and size"
        )

    def keep_kernels(self) -> None:
        """Keep what has been compiled by now, for the next process; after the first inference of a set of shapes."""
        with self._compiling:
            if self._compiled is None or self._kernels is None:
                return
            cache: trt.IRuntimeCache = self._compiled
            memory: trt.IHostMemory = cache.serialize()
            data = bytes(memory)
            if data and data != self._kept:
                self._kernels.keep(data)
                self._kept = data

    def use_kernels(self, config: trt.IRuntimeConfig) -> None:
        """Let a context of this configuration take kernels from those that were kept, and add to them."""
        if self._kernels is None:
            return
        with self._compiling:
            if self._compiled is None:
                cache: trt.IRuntimeCache = config.create_runtime_cache()
                kept = self._kernels.read()
                # What is of another GPU, driver or version it refuses, and starts anew.
                if kept is not None and cache.deserialize(kept):
                    self._kept = kept
                self._compiled = cache
            config.set_runtime_cache(self._compiled)

    def _profile_index(self, shapes: Mapping[str, Shape]) -> int | None:
        for index, profile in enumerate(self.profiles):
            if all(
                all(low <= side <= high for low, side, high in zip(smallest, shapes[name], largest, strict=True))
                for name, (smallest, _, largest) in profile.items()
            ):
                return index
        return None

    def _profile(self, index: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        found = {}
        for spec in self.inputs:
            low, usual, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(spec.name, index))
            found[spec.name] = (low, usual, high)
        return found


class Context:
    """What one stream needs to run an engine on inputs of one set of shapes, of scratch memory that its owner gives.

    stream: a CUDA stream that the choice of kernels is set up on; it has to have passed before the first inference.
    """

    def __init__(self, engine: Engine, shapes: Mapping[str, Shape], stream: int) -> None:
        self._engine = engine
        self._bound: tuple[tuple[str, int], ...] = ()
        library, module = engine.library, engine.library.trt
        index = engine.profile_for(shapes)
        with library.listening() as heard:
            context: trt.IExecutionContext = self._created(engine)
            ready = context is not None and context.set_optimization_profile_async(index, stream)
            ready = ready and all(context.set_input_shape(name, shape) for name, shape in shapes.items())
            if not ready or not self._inferred(context):
                raise build_error(heard, library.title, engine.model, {}, f"run inputs of {dict(shapes)}")
            self.output_shapes = {s.name: tuple(context.get_tensor_shape(s.name)) for s in engine.outputs}
            for name, shape in self.output_shapes.items():
                if any(side < 0 for side in shape):
                    raise EngineError(
                        f"{engine.model}: the shape of output {name!r} depends on what is in the picture; it cannot be "
                        f"bound"
                    )
            self.scratch_bytes = int(context.update_device_memory_size_for_shapes())
        self._context: trt.IExecutionContext = context
        self._asks = module if library.backend == "tensorrt-rtx" else None

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """Take this device memory, aligned to 256 bytes, as scratch; it must live as long as the context runs."""
        self._context.set_device_memory(address, size_bytes)

    def enqueue(self, places: tuple[tuple[str, int], ...], stream: int) -> None:
        """Put an inference on a CUDA stream, tensors at these addresses. Raises EngineError where it is refused."""
        if places != self._bound:
            self._bound = ()
            for name, address in places:
                if not self._context.set_tensor_address(name, address):
                    raise self._refused()
            self._bound = places
        if not self._context.execute_async_v3(stream):
            raise self._refused()

    def capturable(self, stream: int) -> bool:
        """Whether `enqueue` on this stream may be captured in a CUDA graph, once it has run outside of one."""
        return self._asks is None or bool(self._context.is_stream_capturable(stream))

    @staticmethod
    def _inferred(context: trt.IExecutionContext) -> bool:
        try:
            return not context.infer_shapes()
        except RuntimeError:  # it has logged why
            return False

    @staticmethod
    def _created(engine: Engine) -> trt.IExecutionContext:
        module = engine.library.trt
        own = module.ExecutionContextAllocationStrategy.USER_MANAGED
        loaded: trt.ICudaEngine = engine._engine
        if engine.library.backend == "tensorrt":
            return loaded.create_execution_context(own)
        config: trt.IRuntimeConfig = loaded.create_runtime_config()
        config.set_execution_context_allocation_strategy(own)
        # Not "lazy", its default: that changes kernels while inferences run, which no graph and no result survives.
        config.dynamic_shapes_kernel_specialization_strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
        engine.use_kernels(config)
        return loaded.create_execution_context(config)

    def _refused(self) -> EngineError:
        library = self._engine.library
        return build_error(library.complaints, library.title, self._engine.model, {}, "run an inference")
