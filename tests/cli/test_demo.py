"""`trt-anon demo`: a clip and a picture of before and after."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import Result

from trt_anon.api import Anonymizer
from trt_anon.errors import HashMismatch, InputError, ModelMissing
from trt_anon.job.preview import before_and_after
from trt_anon.models.registry import Registry

Invoke = Callable[..., Result]


def halves(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    with Image.open(path) as image:
        both = np.asarray(image)
    width = (both.shape[1] - 8) // 2
    assert (both[:, width : width + 8] == 255).all()
    return both[:, :width], both[:, width + 8 :]


@pytest.fixture
def sample(samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's sample is our clip."""
    monkeypatch.setattr(Registry, "fetch_sample", lambda self, name: samples / "face.mp4")
    return samples / "face.mp4"


def test_the_demo_writes_a_clip_and_a_picture(invoke: Invoke, sample: Path, tmp_path: Path, faces: ModuleType) -> None:
    out = tmp_path / "demo"
    result = invoke("demo", "--output", out)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == ["anonymized.mp4", "before-after.png"]
    assert result.stdout.splitlines()[-2:] == [str(out / "anonymized.mp4"), str(out / "before-after.png")]
    count = re.search(r"(\d+) face boxes", result.stdout)
    assert count
    assert 8 <= int(count[1]) <= 16, "a face in each of 8 frames; the default threshold and tracks lean to recall"
    before, after = halves(out / "before-after.png")
    assert before.shape == after.shape == faces.picture().shape
    assert np.abs(before.astype(int) - faces.picture()).mean() < 5, "the left half is the original"
    assert faces.detail(faces.crop(after, faces.FACE)) < 0.5 * faces.detail(faces.crop(before, faces.FACE))
    assert np.abs(before.astype(int) - after)[:, 340:].mean() < 3


def test_the_demo_replaces_nothing_unasked(invoke: Invoke, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "before-after.png").write_bytes(b"old")
    result = invoke("demo", "--output", tmp_path, "--quiet")
    assert result.exit_code == 2
    assert [p.name for p in tmp_path.iterdir()] == ["before-after.png"], "refused before anything is written"
    result = invoke("demo", "--output", tmp_path, "--quiet", "--overwrite")
    assert (result.exit_code, result.output) == (0, "")
    (tmp_path / "before-after.png").unlink()
    old = (tmp_path / "anonymized.mp4").read_bytes()
    result = invoke("demo", "--output", tmp_path)
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert (tmp_path / "anonymized.mp4").read_bytes() == old
    assert not (tmp_path / "before-after.png").exists()


def test_a_sample_that_cannot_be_had_is_said(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Registry, name: str) -> Path:
        raise ModelMissing("no network")

    monkeypatch.setattr(Registry, "fetch_sample", missing)
    assert invoke("demo", "--output", tmp_path / "out").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_a_frame_that_is_not_there(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frame 99"):
        before_and_after(samples / "face.mp4", samples / "face.mp4", tmp_path / "a.png", index=99)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_picture_stands_upright(clips: ModuleType, faces: ModuleType, tmp_path: Path, degrees: int) -> None:
    clip = faces.face_clip(clips, tmp_path / "a.mp4", frames=1, degrees=degrees)
    before_and_after(clip, clip, tmp_path / "a.png")
    left, right = halves(tmp_path / "a.png")
    assert np.array_equal(left, right)
    assert left.shape == faces.picture().shape
    assert np.abs(left.astype(int) - faces.picture()).mean() < 5


@pytest.mark.dataset
def test_the_real_sample(
    invoke: Invoke,
    anonymizer: Anonymizer,
    data_dir: Path,
    tmp_path: Path,
    faces: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = data_dir / "data" / "videos" / "pyfeat_single_face.mp4"
    pinned = Registry().sample("face")
    assert hashlib.sha256(real.read_bytes()).hexdigest() == pinned.sha256
    monkeypatch.setenv("TRT_ANON_MODELS", str(tmp_path / "models"))
    place = Registry().destination(pinned)
    place.parent.mkdir(parents=True)
    place.write_bytes(real.read_bytes())  # where it would be after a download
    result = invoke("demo", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    boxes = re.search(r"72 frames, (\d+) face boxes", result.stdout)
    assert boxes is not None, result.stdout
    assert int(boxes[1]) >= 72, "the one face, in every frame; the default threshold also lets weak boxes in"
    before, after = halves(tmp_path / "out" / "before-after.png")
    ((box,),) = [found.boxes_xyxy_px for found in anonymizer.detect([before])]
    assert faces.detail(faces.crop(after, box)) < 0.5 * faces.detail(faces.crop(before, box))

    place.write_bytes(real.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatch):
        Registry().locate_sample("face")
