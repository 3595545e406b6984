"""Fixtures for runtimes of a GPU, where there is none."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"trt_anon_test_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def trt_surface() -> ModuleType:
    """The module `trt_surface.py`: what bindings offer and what a file uses."""
    return _module("trt_surface")


@pytest.fixture
def fake_tensorrt_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Puts the module `fake_tensorrt.py` into the place of `tensorrt` or `tensorrt-rtx`, and gives it."""
    from trt_anon.runtime.trt import library

    monkeypatch.setattr(library, "_libraries", {})

    def put(backend: str) -> ModuleType:
        pytest.importorskip("onnxruntime")
        fake = _module("fake_tensorrt")
        monkeypatch.setitem(sys.modules, library.MODULES[backend], fake)
        return fake

    return put


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def fake_tensorrt(request: pytest.FixtureRequest, fake_tensorrt_of: Callable[[str], ModuleType]) -> ModuleType:
    """The module `fake_tensorrt.py` in the place of a TensorRT; `backend` says of which."""
    fake = fake_tensorrt_of(request.param)
    fake.backend = request.param
    return fake
