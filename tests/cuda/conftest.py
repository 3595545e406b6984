"""A process of its own for what ends a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Sanitized = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sanitized() -> Sanitized:
    """Runs a script with the address sanitizer preloaded, where kernels are built with it; skips where GCC has none."""
    runtime = subprocess.run(
        [os.environ.get("CXX", "g++"), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_absolute():
        pytest.skip("this compiler brings no address sanitizer")
    changes = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "TRT_ANON_HOST_CUDA": "address"}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | changes)

    return run
