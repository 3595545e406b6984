"""From a network to an engine: for which GPU, with which library, found or built; with TensorRT-RTX where it is."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon._optional import available
from trt_anon.config import RuntimeConfig
from trt_anon.errors import DeviceMissing, EngineError, ModelError, PackageMissing, UsageError
from trt_anon.runtime import engines, select
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.engine_store import EngineStore
from trt_anon.runtime.engines import BuiltOnDemand, EngineShapes, choose_place, find_or_build, make_key
from trt_anon.runtime.gpu import Gpu
from trt_anon.runtime.onnxruntime_device import HostDeviceRunner
from trt_anon.runtime.runner_memory import HostRunnerMemory
from trt_anon.runtime.select import DeviceNetwork, device_precision, open_device_runner
from trt_anon.runtime.tensorrt import TensorRtRunner
from trt_anon.runtime.trt.building import BuildSettings, BuiltEngine, build_engine, check_network
from trt_anon.runtime.trt.library import Library, open_library

L4 = Gpu("NVIDIA L4", "sm_89", 24 << 30)
H100 = Gpu("NVIDIA H100", "sm_90", 80 << 30)
PROFILE = {"input": ((1, 3, 32, 32), (2, 3, 32, 32), (4, 3, 32, 32))}


@pytest.fixture
def rtx() -> Library:
    if not available("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed: pip install 'trt-anon[tensorrt-rtx]'")
    return open_library("tensorrt-rtx")


@pytest.fixture
def head(networks: ModuleType) -> bytes:
    """Two convolutions of any size."""
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["c"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["out"], name="act"),
    ]
    data: bytes = networks.network(
        nodes, [networks.convolution()], {"out": ("N", 4, "H", "W")}, shape=("N", 3, "H", "W")
    ).SerializeToString()
    return data


# ---- Shapes ----------------------------------------------------------------------------------------------------------


def test_a_profile_for_each_size() -> None:
    shapes = EngineShapes((1, 4, 8), ((384, 640), (736, 1280)))
    last = shapes.profiles(TensorSpec("pixels", np.dtype(np.uint8), (None, None, None, 3)), "m")
    assert last == (
        {"pixels": ((1, 384, 640, 3), (4, 384, 640, 3), (8, 384, 640, 3))},
        {"pixels": ((1, 736, 1280, 3), (4, 736, 1280, 3), (8, 736, 1280, 3))},
    )
    (first, _) = shapes.profiles(TensorSpec("input", np.dtype(np.float32), (None, 3, None, None)), "m")
    assert first["input"][0] == (1, 3, 384, 640)


@pytest.mark.parametrize("shape", [(3, None, None), (None, None, None, 4), (None, 7)])
def test_profiles_are_of_pictures(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ModelError, match="none of batches of pictures"):
        EngineShapes((1, 1, 1), ((8, 8),)).profiles(TensorSpec("x", np.dtype(np.float32), shape), "m")


@pytest.mark.parametrize(
    ("batch", "sizes"), [((0, 1, 1), ((8, 8),)), ((2, 1, 3), ((8, 8),)), ((1, 3, 2), ((8, 8),)), ((1, 1, 1), ())]
)
def test_shapes_that_cannot_be(batch: tuple[int, int, int], sizes: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(UsageError):
        EngineShapes(batch, sizes)


# ---- Which library, for which GPU ------------------------------------------------------------------------------------


@pytest.fixture
def installed(fake_tensorrt_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes just these libraries seem installed."""

    def put(*backends: str) -> None:
        for backend in backends:
            fake_tensorrt_of(backend)
        modules = [engines.MODULES[backend] for backend in backends]  # type: ignore[index]
        monkeypatch.setattr(engines, "available", lambda module: module in modules)

    return put


@pytest.mark.parametrize(
    ("there", "gpus", "targets", "expected"),
    [
        (("tensorrt", "tensorrt-rtx"), (L4,), (), ("tensorrt", ("sm_89",), "NVIDIA L4")),
        (("tensorrt", "tensorrt-rtx"), (L4,), ("sm_89",), ("tensorrt", ("sm_89",), "NVIDIA L4")),
        (("tensorrt", "tensorrt-rtx"), (L4,), ("sm_86",), ("tensorrt-rtx", ("sm_86",), None)),
        (("tensorrt", "tensorrt-rtx"), (), ("sm_86", "sm_120"), ("tensorrt-rtx", ("sm_86", "sm_120"), None)),
        (("tensorrt-rtx",), (L4,), (), ("tensorrt-rtx", ("sm_89",), None)),
        (("tensorrt",), (H100,), (), ("tensorrt", ("sm_90",), "NVIDIA H100")),
    ],
)
def test_auto_takes_full_tensorrt_on_the_gpu_it_is_for(
    installed: Callable[..., None], there: tuple[str, ...], gpus: Any, targets: Any, expected: Any
) -> None:
    installed(*there)
    said: list[str] = []
    place = choose_place("auto", targets, gpus, said.append)
    assert (place.library.backend, place.targets, place.gpu) == expected
    assert bool(said) == (expected[0] == "tensorrt-rtx")


@pytest.mark.parametrize(
    ("backend", "gpus", "targets", "error", "reason"),
    [
        ("tensorrt", (), (), DeviceMissing, "builds on the GPU that an engine is for, and there is no"),
        ("tensorrt", (L4,), ("sm_86",), UsageError, r"builds for the GPU here, NVIDIA L4 \(sm_89\), not for sm_86"),
        ("tensorrt", (L4,), ("sm_86", "sm_89"), UsageError, "build there, or with --backend tensorrt-rtx"),
        ("tensorrt-rtx", (), (), UsageError, r"name the GPU to build for, one of sm_75, .* by --target"),
        ("tensorrt-rtx", (H100,), (), UsageError, "does not build for sm_90, only for sm_75"),
        ("tensorrt-rtx", (), ("sm_61",), UsageError, "does not build for sm_61"),
    ],
)
def test_what_cannot_be_built_here(
    installed: Callable[..., None], backend: Any, gpus: Any, targets: Any, error: type[Exception], reason: str
) -> None:
    installed("tensorrt", "tensorrt-rtx")
    with pytest.raises(error, match=reason):
        choose_place(backend, targets, gpus)


def test_neither_is_installed(installed: Callable[..., None]) -> None:
    installed()
    with pytest.raises(PackageMissing, match=r"neither is installed: pip install 'trt-anon\[tensorrt\]' or"):
        choose_place("auto", ("sm_86",), ())


# ---- Building, with TensorRT-RTX -------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["sm_75", "sm_86", "sm_89", "sm_120"])
def test_an_engine_is_built_without_a_gpu(rtx: Library, head: bytes, target: str) -> None:
    shares: list[float] = []
    built = build_engine(
        rtx,
        head,
        BuildSettings((PROFILE,), (target,), workspace_bytes=64 << 20, optimization_level=2, exact_float32=True),
        model="m",
        progress=lambda share, phase: shares.append(share),
    )
    assert len(built.data) > 10_000
    assert [(spec.name, spec.dtype, spec.shape) for spec in built.inputs] == [
        ("input", np.float32, (None, 3, None, None))
    ]
    assert built.layers is not None
    assert [layer.precision for layer in built.layers if layer.convolves] == ["fp32"]
    assert {node for layer in built.layers for node in layer.nodes} >= {"first", "act"}
    assert built.scratch_bytes is not None
    assert built.weights_bytes is not None
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_one_engine_for_several_gpus_and_sizes(rtx: Library, head: bytes) -> None:
    large = {"input": ((1, 3, 64, 96), (1, 3, 64, 96), (2, 3, 64, 96))}
    built = build_engine(rtx, head, BuildSettings((PROFILE, large), ("sm_86", "sm_120")), model="m")
    assert built.layers is not None
    assert sum(layer.convolves for layer in built.layers) == 2


def test_a_build_is_stopped_by_its_progress(rtx: Library, head: bytes) -> None:
    def stop(share: float, phase: str) -> None:
        if share > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, head, BuildSettings((PROFILE,), ("sm_86",)), model="m", progress=stop)


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"targets": ("sm_90",)}, UsageError, "does not build for sm_90; it builds for sm_75"),
        ({"profiles": ()}, EngineError, "no optimization profile has been defined; batch and size must lie"),
        ({"profiles": ({},)}, EngineError, "the profile says nothing about its input 'input'"),
        (
            {"profiles": ({"input": ((1, 4, 8, 8),) * 3},)},
            EngineError,
            r"takes \(any, 3, any, any\), the profile wants",
        ),
        ({"profiles": ({"input": ((1, 3, 8),) * 3},)}, EngineError, "the profile wants"),
        ({"profiles": ({"input": (PROFILE["input"][2], *PROFILE["input"][:2])},)}, EngineError, "out of order"),
    ],
)
def test_settings_that_do_not_fit(
    rtx: Library, head: bytes, changes: dict[str, Any], error: type[Exception], reason: str
) -> None:
    settings = BuildSettings(**{"profiles": (PROFILE,), "targets": ("sm_86",), **changes})
    with pytest.raises(error, match=reason):
        build_engine(rtx, head, settings, model="m")


def test_networks_that_cannot_be_taken(rtx: Library, networks: ModuleType) -> None:
    from onnx import TensorProto, helper

    def refused(*nodes: Any, element: int = TensorProto.FLOAT, initializers: Any = ()) -> EngineError:
        model = networks.network(nodes, initializers, {"out": None}, element=element)
        with pytest.raises(EngineError) as caught:
            check_network(rtx, model.SerializeToString(), "m")
        return caught.value

    asymmetric = [networks.constant("s", 0.1, np.float32), networks.constant("z", 3, np.int8)]
    error = refused(
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"], name="dequantize"),
        initializers=asymmetric,
    )
    assert (error.operator, error.node) == ("QuantizeLinear", "quantize")
    assert "zero point" in error.reason
    assert error.hint == "quantize symmetrically: all zero points are 0"
    assert str(error).startswith("m: TensorRT-RTX 1.")

    error = refused(
        helper.make_node("DynamicQuantizeLinear", ["input"], ["q", "s", "z"], name="dynamic"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"], name="dequantize"),
    )
    assert error.operators[0] in ("DequantizeLinear", "DynamicQuantizeLinear")
    assert "dynamically" in str(error)

    error = refused(helper.make_node("Relu", ["input"], ["out"], name="relu"), element=TensorProto.UINT8)
    assert error.node == "relu"
    with pytest.raises(EngineError, match="finds no network in the file"):
        check_network(rtx, b"xxxx" * 100, "m")


def test_a_network_that_the_builder_refuses(rtx: Library, networks: ModuleType) -> None:
    """The parser takes suppression, but TensorRT-RTX has no kernel for it."""
    from onnx import helper

    constants = [
        networks.constant("boxes_shape", [1, -1, 4]),
        networks.constant("scores_shape", [1, 4, -1]),
        networks.constant("most", [10]),
        networks.constant("iou", [0.5], np.float32),
        networks.constant("least", [0.1], np.float32),
    ]
    nodes = [
        helper.make_node("Reshape", ["input", "boxes_shape"], ["boxes"], name="boxes"),
        helper.make_node("Reshape", ["input", "scores_shape"], ["scores"], name="scores"),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["kept"], name="nms"),
        helper.make_node("Cast", ["kept"], ["out"], name="cast", to=1),
    ]
    data = networks.network(nodes, constants, {"out": (None, 3)}).SerializeToString()
    with pytest.raises(
        EngineError, match=r"m: TensorRT-RTX 1\..* has no runners that implement it.*; it has no kernel"
    ):
        build_engine(rtx, data, BuildSettings(({"input": ((1, 3, 32, 32),) * 3},), ("sm_86",)), model="m")


def test_an_engine_goes_into_the_store_with_all_that_is_known(rtx: Library, head: bytes, tmp_path: Path) -> None:
    store = EngineStore(tmp_path)
    place = choose_place("tensorrt-rtx", ("sm_86",), ())
    key = make_key(place, head, (PROFILE,), model="m", precision="fp32", source_sha256="a" * 64)
    stored = find_or_build(place, head, key, store, say=pytest.fail)
    manifest = stored.manifest
    assert manifest.key == key
    assert (key.library_version, key.gpu, key.targets) == (rtx.version, None, ("sm_86",))
    assert manifest.convolutions() == {"fp32": 1}
    assert manifest.engine_bytes == len(stored.read())
    assert manifest.build_seconds > 0
    assert manifest.build_peak_memory_bytes > 1 << 20
    assert manifest.inputs[0].shape == (None, 3, None, None)
    assert find_or_build(place, head, key, store, say=pytest.fail) == stored
    # There is no GPU here, or the wrong one: it does not load, and says so.
    if not engines.find_gpus():
        with pytest.raises(EngineError, match=r"m: TensorRT-RTX .* cannot load the engine"):
            engines.load_engine(stored)


# ---- On a device, which the host stands in for -----------------------------------------------------------------------


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch, installed: Callable[..., None], tmp_path: Path) -> list[Any]:
    """An L4 with both libraries, whose engines run on the host; gives the settings of what was built."""
    installed("tensorrt", "tensorrt-rtx")
    monkeypatch.setenv("TRT_ANON_CACHE", str(tmp_path / "cache"))
    for module in (engines, select):
        monkeypatch.setattr(module, "find_gpus", lambda: (L4,))
    built: list[Any] = []

    def build(library: Library, network: bytes, settings: BuildSettings, **rest: Any) -> BuiltEngine:
        built.append(settings)
        return build_engine(library, network, settings, **rest)

    monkeypatch.setattr(engines, "build_engine", build)
    select._say_fallback.cache_clear()
    return built


@pytest.fixture
def doubling(networks: ModuleType, tmp_path: Path) -> DeviceNetwork:
    path = networks.save(networks.scaled(2.0), tmp_path / "doubling.onnx")
    return DeviceNetwork(path, "doubling", "fp16", source_sha256="a" * 64)


@pytest.mark.parametrize("runtime", ["auto", "tensorrt", "tensorrt-rtx"])
def test_shapes_that_come_up_are_built_for_and_found_again(
    on_a_gpu: list[Any], doubling: DeviceNetwork, runtime: Any
) -> None:
    for _ in range(2):
        runner = open_device_runner(doubling, RuntimeConfig(runtime=runtime), memory=HostRunnerMemory())
        assert isinstance(runner, TensorRtRunner)
        for shape in ((4, 3, 8, 8), (1, 3, 16, 16)):
            for user in (runner, runner.another()):
                shapes = user.prepare({"input": shape})
                outputs = {name: np.empty(side, np.float32) for name, side in shapes.items()}
                user.enqueue({"input": np.ones(shape, np.float32)}, outputs)
                np.testing.assert_array_equal(outputs["out"], 2)
    assert [dict(settings.profiles[0]) for settings in on_a_gpu] == [
        {"input": ((4, 3, 8, 8),) * 3},
        {"input": ((1, 3, 16, 16),) * 3},
    ]
    (stored, _) = EngineStore().engines()
    key = stored.manifest.key
    full = runtime != "tensorrt-rtx"
    assert (key.backend, key.gpu) == (("tensorrt", L4.name) if full else ("tensorrt-rtx", None))
    assert (key.precision, key.source_sha256, key.targets) == ("fp16", "a" * 64, ("sm_89",))
    assert [settings.timing_cache for settings in on_a_gpu] == ([None, b"measured;"] if full else [None, None])
    assert stored.manifest.convolutions() == ({"fp16": 1} if full else None)
    assert stored.manifest.scratch_bytes == 1024


def test_an_engine_built_beforehand_serves_the_shapes_within(on_a_gpu: list[Any], doubling: DeviceNetwork) -> None:
    place = choose_place("auto", (), (L4,))
    data = doubling.path.read_bytes()
    key = make_key(place, data, (PROFILE,), model="doubling", precision="fp16", source_sha256=doubling.source_sha256)
    find_or_build(place, data, key, EngineStore())
    runner = open_device_runner(doubling, memory=HostRunnerMemory())
    for batch in (1, 3, 4):
        runner.prepare({"input": (batch, 3, 32, 32)})
    assert len(on_a_gpu) == 1


def test_an_engine_that_was_changed_is_not_loaded(
    on_a_gpu: list[Any], doubling: DeviceNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    open_device_runner(doubling, memory=HostRunnerMemory()).prepare({"input": (1, 3, 8, 8)})
    (stored,) = EngineStore().engines()
    data = bytearray(stored.path.read_bytes())
    data[-1] ^= 1
    stored.path.write_bytes(data)
    open_device_runner(doubling, memory=HostRunnerMemory()).prepare({"input": (1, 3, 8, 8)})
    assert len(on_a_gpu) == 2
    assert "refused, as engines are code; it is built again" in caplog.text


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_what_a_build_asks_for(
    fake_tensorrt_of: Callable[[str], ModuleType], networks: ModuleType, backend: Any
) -> None:
    fake = fake_tensorrt_of(backend)
    network = networks.scaled().SerializeToString()
    settings = BuildSettings(
        (PROFILE,),
        ("sm_86", "sm_89") if backend == "tensorrt-rtx" else (),
        workspace_bytes=1 << 20,
        exact_float32=True,
        timing_cache=b"before;",
    )
    built = build_engine(open_library(backend), network, settings, model="m")
    asked = [name for name, _ in fake.calls]
    assert ("set_memory_pool_limit", (fake.MemoryPoolType.WORKSPACE, 1 << 20)) in fake.calls
    assert ("clear_flag", (fake.BuilderFlag.TF32,)) in fake.calls
    if backend == "tensorrt":
        assert ("set_timing_cache", (b"before;", False)) in fake.calls
        assert built.timing_cache == b"before;measured;"
        assert built.layers is not None
        assert "set_compute_capability" not in asked
    else:
        assert "set_timing_cache" not in asked
        assert built.timing_cache is None
        sm86, sm89 = fake.ComputeCapability.SM86, fake.ComputeCapability.SM89
        assert [a for n, a in fake.calls if n == "set_compute_capability"] == [(sm86, 0), (sm89, 1)]


def test_full_tensorrt_has_no_targets_and_says_what_is_wrong(
    fake_tensorrt_of: Callable[[str], ModuleType], networks: ModuleType
) -> None:
    fake_tensorrt_of("tensorrt")
    library, network = open_library("tensorrt"), networks.scaled().SerializeToString()
    with pytest.raises(UsageError, match="it builds for only the GPU at hand, without a target"):
        build_engine(library, network, BuildSettings((PROFILE,), ("sm_86",)), model="m")
    with pytest.raises(EngineError, match=r"m: TensorRT 11\.4\.0\.106 cannot build it: no profile"):
        build_engine(library, network, BuildSettings(()), model="m")
    with pytest.raises(EngineError, match=r"cannot take Magic 'magic': it does not know this operator$"):
        build_engine(library, b"no network", BuildSettings((PROFILE,)), model="m")


def test_auto_falls_back_and_says_so_once(
    on_a_gpu: list[Any], doubling: DeviceNetwork, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with caplog.at_level(logging.WARNING, "trt_anon"):
        for _ in range(2):
            runner = open_device_runner(doubling, memory=HostRunnerMemory())
            runner.prepare({"input": (1, 3, 8, 8)})
    (line,) = (r.getMessage() for r in caplog.records)
    assert line.startswith("running with tensorrt-rtx, because tensorrt: an engine of TensorRT needs the package")
    with pytest.raises(PackageMissing):
        open_device_runner(doubling, RuntimeConfig(runtime="tensorrt"), memory=HostRunnerMemory())


def test_auto_says_all_reasons_where_nothing_works(
    on_a_gpu: list[Any], doubling: DeviceNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (engines, select):
        monkeypatch.setattr(module, "find_gpus", lambda: (H100,))
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(DeviceMissing, match=r"tensorrt: .*; tensorrt-rtx: .*sm_90.*; onnxruntime: .*onnxruntime-gpu"):
        open_device_runner(doubling, memory=HostRunnerMemory())


@pytest.mark.parametrize(("precision", "halves"), [("fp32", False), ("fp16", True), ("int8", True)])
def test_onnx_runtimes_tensorrt_provider_is_taken_when_asked_for(
    on_a_gpu: list[Any], doubling: DeviceNetwork, monkeypatch: pytest.MonkeyPatch, precision: Any, halves: bool
) -> None:
    """It keeps its engines where others cannot write, and has halves only where the network has."""
    asked: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(select, "OnnxRuntimeGpuRunner", lambda path, memory, **rest: asked.append((path, rest)))
    network = dataclasses.replace(doubling, precision=precision)
    open_device_runner(network, RuntimeConfig(runtime="onnxruntime-tensorrt"), memory=HostRunnerMemory())
    ((path, rest),) = asked
    assert path == doubling.path
    assert rest["provider"] == "tensorrt"
    assert rest["halves"] is halves
    assert rest["engines"] == EngineStore().folder / "onnxruntime"
    assert rest["engines"].stat().st_mode & 0o777 == 0o700


def test_the_host_in_a_gpus_place(doubling: DeviceNetwork) -> None:
    for runtime in ("auto", "onnxruntime"):
        assert isinstance(open_device_runner(doubling, RuntimeConfig(device="cpu", runtime=runtime)), HostDeviceRunner)


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        ({"device": "cuda"}, DeviceMissing, "device cuda: no driver; use device cpu"),
        ({"device": "auto"}, DeviceMissing, "device auto: no driver"),
        ({"device": "cpu", "runtime": "tensorrt"}, UsageError, "runtime tensorrt runs on a GPU only"),
        ({"device": "cpu", "runtime": "onnxruntime-tensorrt"}, UsageError, "onnxruntime-tensorrt runs on a GPU only"),
        ({"runtime": "openvino"}, UsageError, "runtime openvino does not run on a GPU"),
    ],
)
def test_choices_that_do_not_go_together(
    doubling: DeviceNetwork,
    config: dict[str, Any],
    error: type[Exception],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "find_gpus", tuple)
    monkeypatch.setattr(select, "why_no_gpu", lambda: "no driver")
    with pytest.raises(error, match=reason):
        open_device_runner(doubling, RuntimeConfig(**config))


def test_precision_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "find_gpus", lambda: (L4,))
    assert device_precision(RuntimeConfig()) == "fp16"
    assert device_precision(RuntimeConfig(device="cpu")) == "fp32"
    assert device_precision(RuntimeConfig(precision="f32")) == "fp32"
    assert device_precision(RuntimeConfig(precision="int8")) == "int8"
    with pytest.raises(UsageError, match="bf16 is for a CPU"):
        device_precision(RuntimeConfig(precision="bf16"))
    monkeypatch.setattr(select, "find_gpus", tuple)
    assert device_precision(RuntimeConfig()) == "fp32"


def test_engines_are_loaded_once_for_all_runners(on_a_gpu: list[Any], doubling: DeviceNetwork) -> None:
    source = BuiltOnDemand(
        choose_place("auto", (), (L4,)), doubling.path.read_bytes(), model="doubling", precision="fp16"
    )
    first = source.engine_for({"input": (1, 3, 8, 8)})
    assert source.engine_for({"input": (1, 3, 8, 8)}) is first
    assert source.engine_for({"input": (2, 3, 8, 8)}) is not first
