"""Bad input through the whole command: a clear error or right handling, no partial file, nothing else lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from trt_anon.cli import main
from trt_anon.errors import TrtAnonError

Snapshot = dict[str, bytes]


def snapshot(folder: Path) -> Snapshot:
    """Every file below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def invoke(*arguments: object) -> tuple[int, str]:
    """Exit code, and everything that the user would read."""
    result: Result = CliRunner().invoke(main.app, ["anonymize", *map(str, arguments)])
    if isinstance(result.exception, TrtAnonError):
        return result.exception.exit_code, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def png(faces: ModuleType) -> bytes:
    out = io.BytesIO()
    Image.fromarray(faces.picture()).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def mp4(clips: ModuleType, faces: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    return faces.face_clip(clips, path, frames=20, audio=["aac"], options={"preset": "ultrafast"}).read_bytes()


# --- inputs that cannot be used: name -> (content, what the error says)


def without_video(clips: ModuleType, folder: Path) -> bytes:
    import av

    path = folder / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = path.read_bytes()
    path.unlink()
    return data


def without_frames(clips: ModuleType, folder: Path) -> bytes:
    """A movie whose video track is declared and holds nothing."""
    import av

    path = folder / "none.mp4"
    with av.open(str(path), "w", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        stream = out.add_stream("libx264", rate=25, width=64, height=64, pix_fmt="yuv420p")
        stream.codec_context.open()
        out.start_encoding()
    data = path.read_bytes()
    path.unlink()
    return data


def gif(faces: ModuleType, kind: str) -> bytes:
    out = io.BytesIO()
    pictures = [Image.fromarray(faces.picture()), Image.fromarray(faces.picture() // 2)]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], duration=100)
    return out.getvalue()


BAD: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "empty.mp4": (lambda png, mp4: b"", "is empty"),
    "empty.png": (lambda png, mp4: b"", "is empty"),
    "text.mp4": (lambda png, mp4: b"Dear diary, today I met somebody.\n" * 50, "neither an image nor a video"),
    "text.jpg": (lambda png, mp4: b"Dear diary\n", "neither an image nor a video"),
    "header.mp4": (lambda png, mp4: mp4[:40], "header.mp4"),
    "truncated.mp4": (lambda png, mp4: mp4[: len(mp4) * 2 // 3], "truncated.mp4"),
    "truncated.png": (lambda png, mp4: png[: len(png) // 2], "truncated.png"),
    "corrupt.png": (lambda png, mp4: png[:2000] + bytes(500) + png[2500:], "corrupt.png"),
    "only_the_magic.png": (lambda png, mp4: png[:8], "only_the_magic.png"),
    "garbage.mp4": (lambda png, mp4: mp4[:200] + os.urandom(5000), "garbage.mp4"),
}


@pytest.mark.parametrize("name", BAD)
def test_unusable_files_are_named_and_the_others_done(name: str, png: bytes, mp4: bytes, tmp_path: Path) -> None:
    make, says = BAD[name]
    source = tmp_path / "in" / name
    source.parent.mkdir()
    source.write_bytes(make(png, mp4))
    (tmp_path / "in" / "good.png").write_bytes(png)
    before = snapshot(tmp_path)

    code, text = invoke(source, "-o", tmp_path / f"out{source.suffix}")
    assert code == 1
    assert says in text
    assert name in text
    assert snapshot(tmp_path) == before

    code, text = invoke(tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert name in text
    after = snapshot(tmp_path)
    assert set(after) - set(before) == {"out/good.png"}
    assert all(after[path] == content for path, content in before.items())


def test_files_without_pictures_to_show(clips: ModuleType, tmp_path: Path) -> None:
    for name, content, says in (
        ("sound.mp4", without_video(clips, tmp_path), "neither an image nor a video"),
        ("none.mp4", without_frames(clips, tmp_path), "none.mp4"),
    ):
        source = tmp_path / name
        source.write_bytes(content)
        before = snapshot(tmp_path)
        code, text = invoke(source, "-o", tmp_path / "out.mp4")
        assert code == 1
        assert says in text
        assert snapshot(tmp_path) == before
        source.unlink()


def test_a_truncated_clip_with_its_index_in_front(clips: ModuleType, faces: ModuleType, tmp_path: Path) -> None:
    whole = faces.face_clip(
        clips, tmp_path / "a.mp4", frames=40, muxer_options={"movflags": "+faststart"}
    ).read_bytes()  # fmt: skip
    assert whole.index(b"moov") < whole.index(b"mdat")
    for share in (0.5, 0.9, 0.999):
        source = tmp_path / "cut.mp4"
        source.write_bytes(whole[: int(len(whole) * share)])
        code, text = invoke(source, "-o", tmp_path / "out.mp4")
        assert code == 1
        assert "cut" in text
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "cut.mp4"]


def test_corrupt_jpegs(faces: ModuleType, tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.fromarray(faces.picture()).save(out, "JPEG", quality=90)
    whole = out.getvalue()
    scan = whole.index(b"\xff\xda") + 20
    half = (scan + len(whole)) // 2
    for content in (whole[:half], whole[:scan], whole[:100], whole[:-2000] + b"\xff\xd9"):
        (tmp_path / "a.jpg").write_bytes(content)
        code, text = invoke(tmp_path / "a.jpg", "-o", tmp_path / "b.jpg")
        assert code == 1
        assert "a.jpg" in text
        assert snapshot(tmp_path) == {"a.jpg": content}


# --- paths


def test_paths_that_cannot_be_read(png: bytes, tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("none.png", "loop.png", "pipe.png", "x" * 300 + ".png"):
        code, text = invoke(tmp_path / name, "-o", tmp_path / "out.png")
        assert code == 1
        assert name[:20] in text
    assert not (tmp_path / "out.png").exists()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a.png").write_bytes(png)
    code, text = invoke(tmp_path / "a.png", tmp_path / "none.png", "-o", tmp_path / "out")
    assert code == 1
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "a.png"]
    for target in (tmp_path / ("x" * 300 + ".png"), tmp_path / "loop" / "b.png", tmp_path / "a.png" / "b.png"):
        code, text = invoke(tmp_path / "a.png", "-o", target)
        assert code == 1
        assert "cannot write" in text
    code, text = invoke(tmp_path / "a.png", "-o", tmp_path / "b.png", "--json", tmp_path / "loop" / "b.json")
    assert code == 1
    assert "cannot write" in text
    assert (tmp_path / "b.png").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_files_and_folders_without_permission(png: bytes, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(png)
    source.chmod(0)
    code, text = invoke(source, "-o", tmp_path / "b.png")
    assert (code, "ermission" in text) == (1, True)
    source.chmod(0o600)
    (tmp_path / "sealed").mkdir(mode=0o500)
    code, text = invoke(source, "-o", tmp_path / "sealed" / "b.png")
    assert (code, "ermission" in text) == (1, True)


def test_the_output_is_the_input(png: bytes, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(png)
    (tmp_path / "hard.png").hardlink_to(source)
    (tmp_path / "soft.png").symlink_to(source)
    for target in ("a.png", "hard.png", "soft.png", "../" + tmp_path.name + "/a.png"):
        code, text = invoke(source, "-o", tmp_path / target, "--overwrite")
        assert code == 2
        assert "is the input" in text
    code, text = invoke(tmp_path, "-o", tmp_path, "--overwrite")
    assert code == 2
    assert source.read_bytes() == png


def test_the_output_exists(png: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png)
    (tmp_path / "b.png").write_bytes(b"mine")
    (tmp_path / "folder.png").mkdir()
    code, text = invoke(tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert code == 1
    assert "--overwrite" in text
    assert snapshot(tmp_path) == {"a.png": png, "b.png": b"mine"}
    assert invoke(tmp_path / "a.png", "-o", tmp_path / "b.png", "--overwrite")[0] == 0
    assert (tmp_path / "b.png").read_bytes() not in (b"mine", png)
    code, text = invoke(tmp_path / "a.png", "-o", tmp_path / "b.png" / "c.png")
    assert code == 1
    code, text = invoke(tmp_path / "a.png", "-o", "/proc/none/c.png")
    assert code == 1
    assert "cannot write" in text


def test_a_folder_without_media(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for fill in (False, True):
        if fill:
            (tmp_path / "in" / "deep" / "notes.txt").write_text("no media")
        code, text = invoke(tmp_path / "in", "-o", tmp_path / "out")
        assert code == 1
        assert "has no images or videos" in text
        assert not (tmp_path / "out").exists()


# --- unusual pictures that are handled


def save(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_pictures_of_extreme_sizes(tmp_path: Path) -> None:
    for size in ((1, 1), (20000, 3), (3, 20000), (1, 2), (2, 1), (7, 5)):
        noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
        source = save(Image.fromarray(noise), tmp_path / "a.png")
        code, text = invoke(source, "-o", tmp_path / "b.png", "--overwrite", "--runtime", "auto", "--threshold", "0.9")
        assert code == 0, (size, text)
        with Image.open(tmp_path / "b.png") as made:
            assert np.array_equal(np.asarray(made), noise)


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_every_frame_of_an_animation_is_redacted(kind: str, faces: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    source.write_bytes(gif(faces, kind.upper()))
    code, text = invoke(source, "-o", target, "--threshold", 0.3)
    assert code == 0, text
    assert "2 frames, 2 face boxes" in text
    with Image.open(source) as before, Image.open(target) as after:
        assert after.n_frames == before.n_frames == 2
        for index in range(2):
            before.seek(index)
            after.seek(index)
            before.load()
            after.load()
            assert after.info["duration"] == before.info["duration"]
            old, new = np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB"))
            box = (70, 85, 122, 150)
            assert np.abs(faces.crop(old, box).astype(int) - faces.crop(new, box)).mean() > 10 / (1 + index)
            assert np.abs(old[:, 200:].astype(int) - new[:, 200:]).mean() < 6
            # GIF's palette is dithered: compare at half the size.
            small = [np.asarray(Image.fromarray(faces.crop(p, box)).resize((26, 32), 4)) for p in (old, new)]
            assert faces.detail(small[1]) < 0.6 * faces.detail(small[0])


def redacted(before: np.ndarray, after: np.ndarray, faces: ModuleType, tolerance: float = 0.0) -> None:
    assert before.shape == after.shape
    assert before.dtype == after.dtype
    middle = (slice(85, 150), slice(70, 122))
    assert faces.detail(after[middle][..., :3]) < 0.4 * faces.detail(before[middle][..., :3])
    assert np.abs(before[:, 200:].astype(int) - after[:, 200:].astype(int)).max() <= tolerance


def test_cmyk_jpeg(faces: ModuleType, tmp_path: Path) -> None:
    source = save(Image.fromarray(faces.picture()).convert("CMYK"), tmp_path / "a.jpg", quality=95)
    code, text = invoke(source, "-o", tmp_path / "b.jpg", "--threshold", 0.3)
    assert code == 0, text
    assert "1 face boxes" in text
    with Image.open(source) as before, Image.open(tmp_path / "b.jpg") as after:
        redacted(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")), faces, tolerance=40)


def test_16_bit_png(faces: ModuleType, tmp_path: Path) -> None:
    import cv2

    deep = faces.picture().astype(np.uint16) * 257
    deep += np.random.default_rng(0).integers(0, 200, deep.shape, np.uint16).clip(0, 65535 - deep)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    code, text = invoke(tmp_path / "a.png", "-o", tmp_path / "b.png", "--threshold", 0.3)
    assert code == 0, text
    assert "1 face boxes" in text
    after = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    redacted(deep, after, faces)
    gray = deep[..., 1]
    cv2.imwrite(str(tmp_path / "c.png"), gray)
    assert invoke(tmp_path / "c.png", "-o", tmp_path / "d.png")[0] == 0
    redacted(gray[..., None], cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)[..., None], faces)


def test_palette_png_with_transparency(faces: ModuleType, tmp_path: Path) -> None:
    picture = Image.fromarray(faces.picture()).quantize(250)
    first = np.asarray(picture)[-1, -1]
    source = save(picture, tmp_path / "a.png", transparency=int(first))
    code, text = invoke(source, "-o", tmp_path / "b.png", "--threshold", 0.3)
    assert code == 0, text
    assert "1 face boxes" in text
    with Image.open(source) as before, Image.open(tmp_path / "b.png") as after:
        old, new = np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA"))
    assert (old[..., 3] == 0).any()
    redacted(old, new, faces)
    assert np.array_equal(old[:, 200:, 3], new[:, 200:, 3])


def test_a_picture_turned_by_its_tag_is_redacted_upright(faces: ModuleType, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown, turn clockwise
    exif[0x010E] = "secret name"
    source = save(Image.fromarray(faces.stored(faces.picture(), 90)), tmp_path / "a.jpg", quality=95, exif=exif)
    code, text = invoke(source, "-o", tmp_path / "b.jpg")
    assert code == 0, text
    with Image.open(tmp_path / "b.jpg") as made:
        assert not made.getexif()
        redacted(faces.picture(), np.asarray(made), faces, tolerance=90)
    assert b"secret name" not in (tmp_path / "b.jpg").read_bytes()


# --- a full disk


LIMITED = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    sys.argv = ["trt-anon", *sys.argv[2:]]
    from trt_anon.cli.main import run
    run()
"""


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.mp4", "a.mkv", "a.tiff"])
def test_a_full_disk_is_said_and_leaves_nothing(
    name: str, clips: ModuleType, faces: ModuleType, tmp_path: Path
) -> None:
    source = tmp_path / name
    if name.endswith(("mp4", "mkv")):
        faces.face_clip(clips, source, frames=30, options={"crf": "5", "preset": "ultrafast"})
    else:
        save(Image.fromarray(faces.picture()), source)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), "9000", "anonymize", source, "-o", tmp_path / "out" / name],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert name in done.stderr
    assert "File too large" in done.stderr
    assert [p.name for p in tmp_path.rglob("*")] == [name]


def test_a_full_disk_for_the_file_of_boxes_and_the_summary(faces: ModuleType, tmp_path: Path) -> None:
    for number in range(40):
        save(Image.fromarray(faces.picture()[:64, :64]), tmp_path / "in" / f"{number}.bmp") if number else (
            (tmp_path / "in").mkdir()
        )
    for arguments in (
        ["detect", tmp_path / "in", "-o", tmp_path / "out.json", "--runtime", "null"],
        [
            "anonymize",
            tmp_path / "in",
            "-o",
            tmp_path / "out",
            "--json",
            tmp_path / "out.json",
            "--runtime",
            "null",
            "--no-resume",
        ],
    ):
        # A picture takes 12 kB, a summary of all of them more.
        limit = "1500" if arguments[0] == "detect" else "13500"
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(LIMITED), limit, *arguments],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "out.json" in done.stderr
        assert not (tmp_path / "out.json").exists()
        assert not list(tmp_path.rglob(".*"))
    assert len(list((tmp_path / "out").iterdir())) == 39, "the pictures themselves are done"
