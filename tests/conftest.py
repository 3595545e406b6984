"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with labelled images, clips (`data/`) and detectors (`models/`); skips where it is missing."""
    default = Path(__file__).parents[2] / "shared"
    path = Path(os.environ.get("TRT_ANON_DATA", default))
    if not (path / "data").is_dir():
        pytest.skip(f"no dataset folder at {path}; set TRT_ANON_DATA to one")
    return path
