"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with labelled images, clips (`data/`) and detectors (`models/`); skips where it is missing."""
    default = Path(__file__).parents[2] / "shared"
    path = Path(os.environ.get("TRT_ANON_DATA", default))
    if not (path / "data").is_dir():
        pytest.skip(f"no dataset folder at {path}; set TRT_ANON_DATA to one")
    return path


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """The module `tests/clips.py`, which makes small videos; skips without PyAV."""
    pytest.importorskip("av")
    spec = importlib.util.spec_from_file_location("trt_anon_test_clips", Path(__file__).with_name("clips.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
