"""Release samples: every frame as likely as any other, the very frames, a page that loads nothing, exact bounds."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from trt_anon.errors import InputError, UsageError
from trt_anon.job.sample import _strata, bound_of, draw_sample


@pytest.fixture
def job(tmp_path: Path, clips: ModuleType, faces: ModuleType) -> Path:
    """Two clips with a key frame every 10 frames, one without an index, and two pictures: 100 + 40 + 20 + 2 frames."""
    root = tmp_path / "out" / "<b>&amp;"
    root.mkdir(parents=True)
    options = {"g": "10", "preset": "ultrafast"}
    clips.make_clip(root / "a.mp4", frames=100, options=options, size=(96, 64))
    clips.make_clip(root / "b.mkv", frames=40, options=options, size=(96, 64))
    clips.make_clip(root / "c.avi", codec="mpeg4", frames=20, size=(96, 64))
    for name in ("d.png", "e.jpg"):
        Image.fromarray(faces.picture()).save(root / name)
    return tmp_path / "out"


def test_the_very_frames_spread_over_all_files(job: Path, tmp_path: Path) -> None:
    import av

    folder = tmp_path / "review"
    assert draw_sample(job, folder, size=30, seed=3) == (30, 162)
    assert folder.stat().st_mode & 0o077 == 0
    values = json.loads((folder / "sample.json").read_text())
    assert values["population"] == 162
    per_file = Counter(Path(frame["file"]).name for frame in values["frames"])
    assert per_file["a.mp4"] in (18, 19)
    assert per_file["b.mkv"] in (7, 8)
    assert per_file["c.avi"] in (3, 4, 5)
    decoded = {}
    for name in ("a.mp4", "b.mkv", "c.avi"):
        with av.open(str(job / "<b>&amp;" / name)) as container:
            decoded[name] = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    for number, frame in enumerate(values["frames"]):
        name = Path(frame["file"]).name
        if name in decoded:
            saved = np.asarray(Image.open(folder / f"{number:04}.jpg")).astype(int)
            errors = [np.abs(saved - picture).mean() for picture in decoded[name]]
            assert int(np.argmin(errors)) == frame["index"]
            assert frame["seconds"] == pytest.approx(frame["index"] / 25, abs=0.002)


def test_the_page_loads_nothing_from_elsewhere(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "review"
    draw_sample(job, folder, size=12)
    page = (folder / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]", page)
    assert page.count("<figure>") == 12
    assert "<b>&amp;/" not in page, "names are text"
    assert {p.name for p in folder.iterdir()} == {f"{n:04}.jpg" for n in range(12)} | {"index.html", "sample.json"}


def test_a_seed_draws_the_same_and_a_small_job_is_drawn_whole(job: Path, tmp_path: Path) -> None:
    def frames(name: str, seed: int, size: int = 20) -> list[object]:
        draw_sample(job, tmp_path / name, size=size, seed=seed)
        return list(json.loads((tmp_path / name / "sample.json").read_text())["frames"])

    assert frames("one", 1) == frames("two", 1)
    assert frames("three", 2) != frames("four", 1)
    assert len(frames("all", 0, 1000)) == 162
    with pytest.raises(UsageError, match="not empty"):
        draw_sample(job, tmp_path / "one", size=3)


def test_every_frame_is_as_likely_as_any_other() -> None:
    chance = random.Random(0)
    seen = Counter(number for _ in range(4000) for number in _strata(37, 10, chance))
    expected = 4000 * 10 / 37
    assert set(seen) == set(range(37))
    assert all(abs(count - expected) < 0.35 * expected for count in seen.values())
    assert _strata(5, 5, chance) == [0, 1, 2, 3, 4]
    assert _strata(0, 0, chance) == []


def test_bounds(job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "review"
    draw_sample(job, folder, size=100)
    none = bound_of(folder, 0)
    assert none.upper == pytest.approx(1 - 0.05 ** (1 / 100))
    two = bound_of(folder / "sample.json", 2)
    assert (two.sampled, two.rate) == (100, 0.02)
    assert two.upper == pytest.approx(0.0616, abs=5e-4)  # Clopper and Pearson, one-sided
    assert bound_of(folder, 100).upper == 1
    assert bound_of(folder, 2, 0.99).upper > two.upper
    with pytest.raises(UsageError):
        bound_of(folder, 101)
    for bad in ("", "{}", '{"format": "trt-anon sample 1", "frames": []}', "[1]"):
        (tmp_path / "bad.json").write_text(bad)
        with pytest.raises(InputError):
            bound_of(tmp_path / "bad.json", 0)
    with pytest.raises(InputError):
        bound_of(tmp_path / "none", 0)
