"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from trt_anon.api import Anonymizer


# How long an example takes says nothing here: the first one compiles a kernel, and machines are shared.
settings.register_profile("trt_anon", deadline=None)
settings.load_profile("trt_anon")


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals of jobs go to a folder of this run, for processes that tests start too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_ANON_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with labelled images, clips (`data/`) and detectors (`models/`); skips where it is missing."""
    default = Path(__file__).parents[2] / "shared"
    path = Path(os.environ.get("TRT_ANON_DATA", default))
    if not (path / "data").is_dir():
        pytest.skip(f"no dataset folder at {path}; set TRT_ANON_DATA to one")
    return path


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"trt_anon_test_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """The module `tests/clips.py`, which makes small videos; skips without PyAV."""
    pytest.importorskip("av")
    return _module("clips")


@pytest.fixture(scope="session")
def faces() -> ModuleType:
    """The module `tests/faces.py`, which makes pictures and clips of a real face; skips without scikit-image."""
    pytest.importorskip("skimage")
    return _module("faces")


@pytest.fixture(scope="session")
def networks() -> ModuleType:
    """The module `tests/networks.py`, which makes small ONNX networks; skips without the package onnx."""
    pytest.importorskip("onnx")
    return _module("networks")


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """The module `tests/detectors.py`, which makes a small detector of every family; skips without the package onnx."""
    pytest.importorskip("onnx")
    return _module("detectors")


@pytest.fixture(scope="session")
def spots() -> ModuleType:
    """The module `tests/spots.py`, whose detector finds whatever is white; skips without the package onnx."""
    pytest.importorskip("onnx")
    return _module("spots")


@pytest.fixture(scope="session")
def anonymizer() -> Iterator[Anonymizer]:
    """An Anonymizer at a threshold at which the one face of the test pictures gives one box."""
    from trt_anon.api import Anonymizer

    with Anonymizer(threshold=0.3) as made:
        yield made


@pytest.fixture(scope="session")
def cupy() -> ModuleType:
    """CuPy with a device; skips where there is none, unless TRT_ANON_REQUIRE_GPU=1 makes that a failure."""
    found = importlib.util.find_spec("cupy") is not None
    if os.environ.get("TRT_ANON_REQUIRE_GPU") == "1":
        assert found, "TRT_ANON_REQUIRE_GPU=1, but CuPy is not installed"
    elif not found:
        pytest.skip("CuPy is not installed")
    cupy = importlib.import_module("cupy")
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        devices = 0
    if not devices:
        assert os.environ.get("TRT_ANON_REQUIRE_GPU") != "1", "TRT_ANON_REQUIRE_GPU=1, but there is no GPU"
        pytest.skip("there is no GPU")
    return cupy
