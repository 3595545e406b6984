"""kill -9 at five random moments: what is started again ends as what nobody touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.timeout(600)
def test_five_kills() -> None:
    pytest.importorskip("av")
    words = ["--kills", "5", "--frames", "60", "--segment", "0.8", "--pictures", "1"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "kill.py", *words], capture_output=True, text=True, check=False, timeout=570
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["kills"] == 5
    assert figures["files_identical"] == 2
