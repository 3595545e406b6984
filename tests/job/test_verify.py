"""The second look: what is redacted passes, what can be read is found and named by time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trt_anon.api import Anonymizer, Resume
from trt_anon.config import AnonymizeConfig
from trt_anon.errors import InputError, ModelMissing, VerificationFailed
from trt_anon.job.verify import Verifier
from trt_anon.models.registry import Registry

FRAMES = 10


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier(AnonymizeConfig(), Registry(), ("centerface",)) as made:
        yield made


@pytest.fixture
def clip(clips: ModuleType, faces: ModuleType, tmp_path: Path) -> Path:
    return faces.face_clip(
        clips, tmp_path / "a.mp4", frames=FRAMES, audio=["aac"], options={"preset": "ultrafast", "crf": "12"}
    )


def planted(
    clips: ModuleType, faces: ModuleType, redacted: Path, out: Path, shown: range, draw: Callable[[Any], Any]
) -> Path:
    """The redacted clip with a clear face painted into some frames."""
    import av

    with av.open(str(redacted)) as container:
        pictures = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    face = faces.crop(faces.astronaut(), (160, 50, 300, 210))

    def frame(index: int) -> av.VideoFrame:
        picture = pictures[index].copy()
        if index in shown:
            picture[60:220, 230:370] = draw(face)
        return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")

    return clips.make_clip(
        out, size=faces.SIZE, frames=len(pictures), draw=frame, audio=["aac"],
        options={"preset": "ultrafast", "crf": "12"},
    )  # fmt: skip


@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
def test_what_is_redacted_passes(verifier: Verifier, clip: Path, tmp_path: Path, method: str) -> None:
    with Anonymizer(method=method) as anonymizer:
        anonymizer.file(clip, tmp_path / "out.mp4")
    alone = verifier.verify(tmp_path / "out.mp4")
    assert alone.passed, str(alone.leaks)
    assert alone.frames == FRAMES
    both = verifier.verify(tmp_path / "out.mp4", clip)
    assert both.passed, (both.leaks, both.faults)
    assert both.compared
    assert sum(both.unreadable.values()) <= sum(both.seen.values())
    assert both.notes == ()


def test_a_clear_copy_leaks_from_end_to_end(verifier: Verifier, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "out.mp4")
    for original in (None, clip):
        found = verifier.verify(tmp_path / "out.mp4", original)
        assert not found.passed
        (leak,) = found.leaks
        assert (leak.class_name, leak.first_frame, leak.last_frame, leak.frames) == ("face", 0, FRAMES - 1, FRAMES)
    with pytest.raises(VerificationFailed, match=r"leak: face from 0.000 to 0.360 s \(10 frames\)"):
        found.check(tmp_path / "out.mp4")


@pytest.mark.parametrize("with_original", [False, True])
def test_a_clear_face_in_three_frames_is_found_and_named_by_time(
    verifier: Verifier, clip: Path, clips: ModuleType, faces: ModuleType, tmp_path: Path, with_original: bool
) -> None:
    with Anonymizer() as anonymizer:
        anonymizer.file(clip, tmp_path / "redacted.mp4")
    shown = range(4, 7)
    leaky = planted(clips, faces, tmp_path / "redacted.mp4", tmp_path / "leaky.mp4", shown, lambda face: face)
    source = planted(clips, faces, clip, tmp_path / "source.mp4", shown, lambda face: face) if with_original else None
    found = verifier.verify(leaky, source)
    (leak,) = found.leaks
    assert (leak.first_frame, leak.last_frame, leak.frames) == (4, 6, 3)
    assert leak.start_seconds == pytest.approx(4 / 25)
    assert leak.end_seconds == pytest.approx(6 / 25)
    assert str(leak) == "face from 0.160 to 0.240 s (3 frames)"


def test_pictures(verifier: Verifier, faces: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(faces.picture()).save(tmp_path / "a.png")
    assert [str(leak) for leak in verifier.verify(tmp_path / "a.png").leaks] == ["face in picture 0"]
    with Anonymizer() as anonymizer:
        anonymizer.file(tmp_path / "a.png", tmp_path / "b.png")
    assert verifier.verify(tmp_path / "b.png", tmp_path / "a.png").passed
    Image.fromarray(faces.picture()[:, :300]).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="different sizes"):
        verifier.verify(tmp_path / "c.png", tmp_path / "a.png")


def test_what_is_not_its_original_any_more(
    verifier: Verifier, clip: Path, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    grey = np.full((256, 384, 3), 90, np.uint8)

    def blank(path: Path, **options: Any) -> Path:
        import av

        def draw(index: int) -> av.VideoFrame:
            return av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p")

        return clips.make_clip(path, size=faces.SIZE, draw=draw, **{"frames": FRAMES, "audio": ["aac"], **options})

    same = blank(tmp_path / "same.mp4")
    original = blank(tmp_path / "original.mp4")
    assert verifier.verify(same, original).passed
    fewer = verifier.verify(blank(tmp_path / "fewer.mp4", frames=FRAMES - 1), original)
    assert "number of frames" in fewer.faults[0]
    slow = verifier.verify(blank(tmp_path / "slow.mp4", rate=Fraction(20)), original)
    assert any("apart" in fault for fault in slow.faults)
    silent = verifier.verify(blank(tmp_path / "silent.mp4", audio=()), original)
    assert silent.passed
    assert silent.notes == ("its sound was dropped",)
    other = verifier.verify(blank(tmp_path / "other.mp4", audio=["mp2"]), original)
    assert any("codec" in fault for fault in other.faults)
    with pytest.raises(InputError):
        verifier.verify(tmp_path / "none.mp4")


def test_nothing_is_published_in_which_something_can_be_read(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Anonymizer(threshold=0.99, verify=True) as careless:  # it finds nothing
        with pytest.raises(VerificationFailed, match=r"leak: face from 0\.000 to 0\.360 s"):
            careless.file(clip, tmp_path / "out" / "a.mp4")
        assert not (tmp_path / "out").exists()
        report = careless.files([clip], tmp_path / "out" / "a.mp4", resume=Resume())
        assert report.exit_code == 4
        assert {f.error_type for f in report.files} == {"VerificationFailed"}
        again = careless.files([clip], tmp_path / "out" / "a.mp4", resume=Resume())
        assert again.exit_code == 4
        assert "failed before" in str(again.files[0].error)
        assert not (tmp_path / "out").exists()
        workers = careless.files([clip], tmp_path / "out2" / "a.mp4", resume=Resume(workers=2))
        assert workers.exit_code == 4
        assert not (tmp_path / "out2").exists()


def test_what_passed_says_so(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a.mp4"
    with Anonymizer() as anonymizer:
        anonymizer.files([clip], out, resume=Resume())
    with Anonymizer(verify=True) as careful:
        late = careful.files([clip], out, resume=Resume())
        assert late.unchanged == 1
        for report in (late, careful.files([clip], out, overwrite=True)):
            (file,) = report.files
            assert file.verification is not None
            assert file.verification["passed"]
            assert file.verification["frames"] == FRAMES
            assert file.verification["compared_with_original"]
        (file,) = careful.files([clip], tmp_path / "out2" / "a.mp4", resume=Resume(workers=2)).files
        assert file.verification is not None
        assert file.verification["passed"]


def test_another_detector_looks_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trt_anon.job.verify import second_recipes

    def states(**state: str) -> Registry:
        registry = Registry()
        monkeypatch.setattr(registry, "state", lambda recipe: state.get(recipe.name, "not fetched"))
        return registry

    both = states(yunet="ready", centerface="ready")
    assert [r.name for r in second_recipes(AnonymizeConfig(), both, ("yunet",))] == ["centerface"]
    assert [r.name for r in second_recipes(AnonymizeConfig(), both, ("centerface",))] == ["yunet"]
    (only,) = second_recipes(AnonymizeConfig(), states(yunet="ready"), ("yunet",))
    assert only.name == "yunet"
    assert [scale.min_long_side_px for scale in only.scales] == [768]
    with pytest.raises(ModelMissing, match="models list"):
        second_recipes(AnonymizeConfig(), states())
