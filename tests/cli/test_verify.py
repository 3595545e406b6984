"""`trt-anon verify` and `anonymize --verify`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Invoke = Callable[..., Result]


def test_files_and_folders(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    before = tmp_path / "in"
    before.mkdir()
    for name in ("face.png", "face.mp4"):
        shutil.copy(samples / name, before / name)
    assert invoke("anonymize", before, "-o", tmp_path / "out", "-q", "--verify").exit_code == 0
    good = invoke("verify", tmp_path / "out", "--original", before, "--json", tmp_path / "found.json")
    assert good.exit_code == 0, good.output
    assert good.stdout.count("passed") == 2
    shutil.copy(samples / "face.mp4", tmp_path / "out" / "face.mp4")
    bad = invoke("verify", tmp_path / "out", "--original", before, "--json", tmp_path / "found.json", "--overwrite")
    assert bad.exit_code == 4
    assert "face from 0.000 to 0.280 s (8 frames)" in bad.stderr
    assert "FAILED: 8 frames" in bad.stdout
    written = {Path(entry["file"]).name: entry for entry in json.loads((tmp_path / "found.json").read_text())}
    assert (written["face.png"]["passed"], written["face.mp4"]["passed"]) == (True, False)
    assert invoke("verify", tmp_path / "out" / "face.png", "--original", before / "face.png", "-q").output == ""
    (tmp_path / "bad.png").write_bytes((samples / "face.png").read_bytes()[:500])
    assert invoke("verify", tmp_path / "bad.png").exit_code == 1
    (before / "face.png").unlink()
    assert invoke("verify", tmp_path / "out", "--original", before).exit_code == 2


def test_a_leak_is_not_published(invoke: Invoke, samples: Path, tmp_path: Path) -> None:
    result = invoke("anonymize", samples / "face.mp4", "-o", tmp_path / "a.mp4", "--verify", "--threshold", "0.99")
    assert result.exit_code == 4
    assert "failed verification: leak: face from 0.000 to 0.280 s" in result.stderr
    assert list(tmp_path.iterdir()) == []
