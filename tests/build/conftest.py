"""Fixtures of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """The module `tests/networks.py`, which makes small ONNX networks; skips without the package onnx."""
    pytest.importorskip("onnx")
    path = Path(__file__).parents[1] / "networks.py"
    spec = importlib.util.spec_from_file_location("trt_anon_test_networks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module `tests/detectors.py`, which makes a small detector of every family; skips without the package onnx."""
    pytest.importorskip("onnx")
    path = Path(__file__).parents[1] / "detectors.py"
    spec = importlib.util.spec_from_file_location("trt_anon_test_detectors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
