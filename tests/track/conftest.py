"""Fixtures of the tests of tracking."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def scenes() -> ModuleType:
    """The module `scenes.py` beside this file; skips without OpenCV or lap."""
    pytest.importorskip("cv2")
    pytest.importorskip("lap")
    import sys

    name = "trt_anon_test_scenes"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("scenes.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
