"""Kernels that TensorRT-RTX compiles are kept for the next process, beside the engine that they are of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trt_anon.runtime.engine_store import EngineStore
from trt_anon.runtime.engines import BuiltOnDemand, choose_place
from trt_anon.runtime.kernel_cache import KernelCache
from trt_anon.runtime.runner_memory import HostRunnerMemory
from trt_anon.runtime.tensorrt import TensorRtRunner

SMALL, LARGE = {"input": (1, 3, 8, 8)}, {"input": (1, 3, 16, 16)}


@pytest.fixture
def stored(tmp_path: Path) -> Any:
    return SimpleNamespace(path=tmp_path / "m.engine", manifest=SimpleNamespace(engine_sha256="a" * 64))


def test_what_is_kept_is_read(stored: Any) -> None:
    assert KernelCache(stored).read() is None
    KernelCache(stored).keep(b"kernels")
    assert KernelCache(stored).read() == b"kernels"
    KernelCache(stored).keep(b"more")
    assert KernelCache(stored).read() == b"more"


def test_what_is_of_another_engine_or_damaged_is_left_aside(stored: Any, caplog: pytest.LogCaptureFixture) -> None:
    KernelCache(stored).keep(b"kernels")
    other = SimpleNamespace(path=stored.path, manifest=SimpleNamespace(engine_sha256="b" * 64))
    assert KernelCache(other).read() is None
    path = stored.path.with_suffix(".kernels")
    path.write_bytes(path.read_bytes() + b"!")
    assert KernelCache(stored).read() is None
    assert caplog.text.count("is not of this engine, or damaged; its kernels are compiled again") == 2


def test_what_others_can_write_is_not_read(stored: Any, caplog: pytest.LogCaptureFixture) -> None:
    KernelCache(stored).keep(b"kernels")
    stored.path.with_suffix(".kernels").chmod(0o666)
    assert KernelCache(stored).read() is None
    assert "can be written by others" in caplog.text


def test_where_it_cannot_be_written_the_work_goes_on(stored: Any, caplog: pytest.LogCaptureFixture) -> None:
    (stored.path.with_suffix(".kernels")).mkdir()
    with caplog.at_level(logging.WARNING, "trt_anon"):
        KernelCache(stored).keep(b"kernels")
    assert "compiled again next time" in caplog.text


@pytest.fixture
def process(
    fake_tensorrt_of: Callable[[str], ModuleType], networks: ModuleType, tmp_path: Path
) -> Callable[..., list[str]]:
    """Runs a detector as a new process would, and gives what TensorRT-RTX was asked for."""
    network = networks.scaled(2.0).SerializeToString()
    store = EngineStore(tmp_path / "engines")
    fake = fake_tensorrt_of("tensorrt-rtx")

    def run(*shapes: dict[str, tuple[int, ...]]) -> list[str]:
        fake.calls.clear()
        place = choose_place("tensorrt-rtx", ("sm_89",), ())
        source = BuiltOnDemand(place, network, model="doubling", precision="fp16", store=store)
        runner = TensorRtRunner(source, HostRunnerMemory())
        for shape in shapes:
            runner.prepare(shape)
            runner.another().prepare(shape)  # shares the engine, and so its kernels
        return [name for name, _ in fake.calls if name in ("build_serialized_network", "deserialize", "compile")]

    return run


def test_kernels_are_compiled_once_for_all_processes(process: Callable[..., list[str]]) -> None:
    assert process(SMALL) == ["build_serialized_network", "compile"]
    assert process(SMALL) == ["deserialize"]
    assert process(SMALL, LARGE) == ["deserialize", "build_serialized_network", "compile"]
    assert process(SMALL, LARGE) == ["deserialize", "deserialize"]


def test_kernels_go_with_their_engine(process: Callable[..., list[str]], tmp_path: Path) -> None:
    process(SMALL)
    store = EngineStore(tmp_path / "engines")
    assert len(list(store.folder.glob("*.kernels"))) == 1
    store.remove(store.engines())
    assert not list(store.folder.iterdir())


def test_full_tensorrt_has_none(fake_tensorrt_of: Callable[[str], ModuleType], networks: ModuleType, tmp_path: Path):
    from trt_anon.runtime.gpu import Gpu

    fake_tensorrt_of("tensorrt")
    place = choose_place("tensorrt", (), (Gpu("NVIDIA L4", "sm_89", 24 << 30),))
    store = EngineStore(tmp_path / "engines")
    network = networks.scaled(2.0).SerializeToString()
    source = BuiltOnDemand(place, network, model="doubling", precision="fp16", store=store)
    TensorRtRunner(source, HostRunnerMemory()).prepare(SMALL)
    assert list(store.folder.glob("*.engine"))
    assert not list(store.folder.glob("*.kernels"))
