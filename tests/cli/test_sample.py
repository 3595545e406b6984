"""`trt-anon sample`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Invoke = Callable[..., Result]


def test_a_sheet_and_a_bound(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "review"
    drawn = invoke("sample", samples / "face.mp4", "--n", 5, "-o", folder)
    assert drawn.exit_code == 0, drawn.output
    assert "5 of 8 frames" in drawn.stdout
    assert (folder / "index.html").is_file()
    bound = invoke("sample", folder, "--misses", 1)
    assert "1 of 5 frames with a miss (20.00%): with 95% confidence at most 65.74%" in bound.stdout
    for wrong in (
        ["sample", samples / "face.mp4"],
        ["sample", folder, "--misses", 6],
        ["sample", folder, "--misses", 1, "-o", folder],
        ["sample", folder, "--misses", 1, "--confidence", 1],
    ):
        assert invoke(*wrong).exit_code == 2, wrong
    assert invoke("sample", tmp_path / "none", "-o", tmp_path / "x").exit_code == 1
