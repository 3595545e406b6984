"""Ways in which tools like this one have shown what they should hide, each on real files: no white may come out."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from trt_anon.api import Anonymizer

Picture = NDArray[np.uint8]

SIZE = (96, 64)


@pytest.fixture(scope="module")
def finder(spots: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anonymizer]:
    """Finds what is white, and makes it black."""
    recipe = spots.write_recipe(tmp_path_factory.mktemp("recipe"))
    with Anonymizer(detectors=(str(recipe),), method="solid", grow=1.3) as made:
        yield made


# --- video: each picture's own mask lands on it, whatever the file does with time


def path_of_spot(index: int, width: int, height: int) -> tuple[int, int]:
    """Every frame elsewhere, far from the frame before; the first in the last corner, then the other corners."""
    corners = [(width - 8, height - 8), (0, 0), (width - 8, 0), (0, height - 8)]
    if index < 4:
        return corners[index]
    return (37 * index) % (width - 8), (23 * index) % (height - 8)


def moving(spots: ModuleType, size: tuple[int, int], pix_fmt: str) -> Any:
    def draw(index: int) -> av.VideoFrame:
        rgb = spots.with_spots(spots.dark(*size, seed=index), path_of_spot(index, *size))
        return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)

    return draw


def gray_frames(path: Path) -> list[tuple[Fraction, Picture]]:
    with av.open(str(path)) as container:
        return [((f.pts or 0) * f.time_base, f.reformat(format="gray").to_ndarray()) for f in container.decode(video=0)]


VIDEOS: dict[str, dict[str, Any]] = {
    "B-frames": {"name": "a.mp4", "options": {"bf": "3", "b_strategy": "0"}},
    "B-frames in a transport stream": {"name": "a.ts", "options": {"bf": "3", "b_strategy": "0"}},
    "no B-frames": {"name": "a.mp4", "options": {"bf": "0"}},
    "HEVC": {"name": "a.mp4", "codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "a start offset": {
        "name": "a.mkv", "time_base": Fraction(1, 1000), "times": [1234 + 40 * n for n in range(20)],
    },
    "a variable rate": {
        "name": "a.mp4", "time_base": Fraction(1, 90000), "times": [n * n * 900 + 3600 * n for n in range(20)],
    },
    "a variable rate with B-frames": {
        "name": "a.mkv", "time_base": Fraction(1, 1000), "times": [0, 40, 41, 300, 340, 380, 900, 901, 902, 940],
        "options": {"bf": "3", "b_strategy": "0"},
    },
    "an odd size": {"name": "a.mkv", "codec": "ffv1", "size": (97, 61)},
    "4:4:4": {"name": "a.mp4", "pix_fmt": "yuv444p"},
    "10 bits": {"name": "a.mp4", "pix_fmt": "yuv420p10le"},
    "VP9": {"name": "a.webm", "codec": "libvpx-vp9", "options": {"deadline": "realtime"}},
    "motion JPEG in AVI": {"name": "a.avi", "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "MPEG-4 in AVI": {"name": "a.avi", "codec": "mpeg4", "options": {"bf": "2"}},
    "a bare stream": {"name": "a.h264", "options": {"bf": "2", "b_strategy": "0"}},
}  # fmt: skip


@pytest.mark.parametrize("kind", VIDEOS)
def test_no_mask_is_a_frame_early_or_late(
    kind: str, finder: Anonymizer, clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    how = dict(VIDEOS[kind])
    name, size, pix_fmt = how.pop("name"), how.pop("size", SIZE), how.pop("pix_fmt", "yuv420p")
    source = clips.make_clip(
        tmp_path / name, size=size, pix_fmt=pix_fmt, frames=20, draw=moving(spots, size, pix_fmt), **how
    )
    target = tmp_path / f"out{Path(name).suffix}"
    before = gray_frames(source)
    assert all(spots.shows_white(frame) for _, frame in before)
    with Anonymizer(finder.config, codec="vp9" if how.get("codec") == "ffv1" else "same") as made:
        report = made.file(source, target)
    assert report.objects["face"] >= len(before)
    after = gray_frames(target)
    assert len(after) == len(before)
    if not name.endswith(("avi", "h264")):
        assert [time for time, _ in after] == [time for time, _ in before]
    for index, (_, frame) in enumerate(after):
        assert not spots.shows_white(frame), f"frame {index} shows its spot"


def test_frames_that_an_edit_list_hides_shift_no_mask(
    finder: Anonymizer, clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    """The movie begins in the middle of a group of pictures: its first pictures are decoded and not shown."""
    options = {"bf": "2", "b_strategy": "0", "g": "100"}
    whole = clips.make_clip(
        tmp_path / "a.mp4", size=SIZE, frames=20, draw=moving(spots, SIZE, "yuv420p"), options=options
    )
    data = bytearray(whole.read_bytes())
    at = data.index(b"elst") + 4
    assert int.from_bytes(data[at + 4 : at + 8], "big") == 1
    shift = 5 * int.from_bytes(data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20], "big") // 25
    media = int.from_bytes(data[at + 12 : at + 16], "big")
    data[at + 12 : at + 16] = (media + shift).to_bytes(4, "big")
    cut = tmp_path / "b.mp4"
    cut.write_bytes(data)
    before = gray_frames(cut)
    assert 10 <= len(before) < 20
    finder.file(cut, tmp_path / "c.mp4")
    after = gray_frames(tmp_path / "c.mp4")
    assert [time for time, _ in after] == [time for time, _ in before]
    assert not any(spots.shows_white(frame) for _, frame in after)


@pytest.mark.parametrize("order", ["tt", "bb"])
def test_both_fields_of_interlaced_video(
    order: str, finder: Anonymizer, clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    """The spot moves between the two fields of each frame."""

    def draw(index: int) -> av.VideoFrame:
        x, y = path_of_spot(index + 4, *SIZE)
        rgb = spots.dark(*SIZE, seed=index)
        rgb[y : y + 12 : 2, x : x + 12] = 255
        rgb[y + 1 : y + 12 : 2, max(x - 6, 0) : x + 6] = 255
        return av.VideoFrame.from_ndarray(rgb[: SIZE[1]], format="rgb24").reformat(format="yuv420p")

    options = {"flags": "+ildct+ilme", "x264-params": f"interlaced=1:{'tff' if order == 'tt' else 'bff'}=1"}
    source = clips.make_clip(tmp_path / "a.mp4", size=SIZE, frames=12, draw=draw, options=options)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    finder.file(source, tmp_path / "b.mp4")
    for index, (_, frame) in enumerate(gray_frames(tmp_path / "b.mp4")):
        for field in (0, 1):
            assert not spots.shows_white(frame[field::2]), f"field {field} of frame {index} shows its spot"


# --- pictures


def png_of(rgb: Picture, folder: Path, name: str = "a.png", **options: Any) -> Path:
    Image.fromarray(rgb).save(folder / name, **options)
    return folder / name


def shown(path: Path) -> list[Picture]:
    """Every picture of a file as it is stored, hidden colours and alpha included."""
    pictures = []
    with Image.open(path) as image:
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            pictures.append(np.asarray(image.convert("RGBA")))
    return pictures


def test_very_small_objects(finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
    source = png_of(spots.with_spots(spots.dark(*SIZE), (0, 0), (40, 30), (95, 63), size=1), tmp_path)
    report = finder.file(source, tmp_path / "b.png")
    assert report.objects == {"face": 3}
    (made,) = shown(tmp_path / "b.png")
    assert not spots.shows_white(made[..., :3])
    assert not made[28:34, 38:44, :3].any(), "a region is at least eight pixels wide"


def test_no_cap_on_the_number_of_objects(finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
    places = [(x, y) for x in range(4, 640, 12) for y in range(4, 640, 12)]
    source = png_of(spots.with_spots(spots.dark(640, 640), *places, size=3), tmp_path)
    report = finder.file(source, tmp_path / "b.png")
    assert report.objects == {"face": len(places)}
    assert len(places) > 2500
    assert not spots.shows_white(shown(tmp_path / "b.png")[0][..., :3])


def test_no_cap_on_the_number_of_objects_in_video(
    finder: Anonymizer, clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    """Tracks and their association included; the grid moves, so that every object does."""
    size = (384, 256)

    def draw(index: int) -> av.VideoFrame:
        places = [(x + 2 * index, y) for x in range(2, 360, 16) for y in range(2, 246, 16)]
        rgb = spots.with_spots(spots.dark(*size), *places, size=4)
        return av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")

    source = clips.make_clip(tmp_path / "a.mp4", size=size, frames=4, draw=draw, options={"crf": "8"})
    report = finder.file(source, tmp_path / "b.mp4")
    assert report.objects["face"] >= 4 * 23 * 16
    assert not any(spots.shows_white(frame) for _, frame in gray_frames(tmp_path / "b.mp4"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_a_picture_with_a_rotation_tag(
    kind: str, orientation: int, finder: Anonymizer, spots: ModuleType, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = spots.with_spots(spots.dark(*SIZE), (80, 4), size=14)
    options = {"quality": 95} if kind in ("jpg", "webp") else {}
    source = png_of(rgb, tmp_path, f"a.{kind}", exif=exif, **options)
    finder.file(source, tmp_path / f"b.{kind}")
    with Image.open(tmp_path / f"b.{kind}") as made:
        turned = orientation >= 5
        assert made.size == (SIZE[::-1] if turned else SIZE)
        assert made.getexif().get(0x0112, 1) == 1
        pixels = np.asarray(made.convert("RGB"))
    assert not spots.shows_white(pixels)
    assert (pixels < 12).all(axis=-1).sum() >= 14 * 14


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_every_page_and_frame(kind: str, finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
    pages = [
        Image.fromarray(spots.with_spots(spots.dark(*SIZE, seed=n), path_of_spot(n, *SIZE), size=8)) for n in range(6)
    ]
    options: dict[str, Any] = {} if kind == "tiff" else {"duration": 40}
    if kind == "webp":
        options |= {"lossless": True}
    if kind == "png":
        options |= {"default_image": True}  # a first picture that only viewers without animation show
    pages[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=pages[1:], **options)
    before = shown(tmp_path / f"a.{kind}")
    assert len(before) == 6
    assert all(spots.shows_white(page[..., :3]) for page in before)
    finder.file(tmp_path / f"a.{kind}", tmp_path / f"b.{kind}")
    after = shown(tmp_path / f"b.{kind}")
    assert len(after) == 6
    assert not any(spots.shows_white(page[..., :3]) for page in after)


def test_frames_of_a_gif_that_change_only_a_part(finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
    """Later frames hold a patch; what lies below it, of earlier frames, is part of what is seen."""
    base = spots.with_spots(spots.dark(*SIZE), (10, 10))
    later = base.copy()
    later[40:50, 60:70] = 0
    out = io.BytesIO()
    first, second = (Image.fromarray(p).quantize(64) for p in (base, later))
    first.save(out, "GIF", save_all=True, append_images=[second], duration=40, disposal=1)
    (tmp_path / "a.gif").write_bytes(out.getvalue())
    finder.file(tmp_path / "a.gif", tmp_path / "b.gif")
    assert not any(spots.shows_white(page[..., :3]) for page in shown(tmp_path / "b.gif"))


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette(transparent: bool, finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
    picture = Image.fromarray(spots.with_spots(spots.dark(*SIZE), (10, 10))).quantize(60)
    options = {"transparency": int(np.asarray(picture)[12, 12])} if transparent else {}
    picture.save(tmp_path / "a.png", **options)
    finder.file(tmp_path / "a.png", tmp_path / "b.png")
    (made,) = shown(tmp_path / "b.png")
    assert not spots.shows_white(made[..., :3])


class TestAlpha:
    def test_colours_under_transparent_pixels(self, finder: Anonymizer, spots: ModuleType, tmp_path: Path) -> None:
        """No viewer shows them, and every program can read them."""
        rgb = spots.with_spots(spots.dark(*SIZE), (20, 20))
        alpha = np.full(SIZE[::-1], 255, np.uint8)
        alpha[10:40, 10:40] = 0
        source = png_of(np.dstack([rgb, alpha]), tmp_path)
        finder.file(source, tmp_path / "b.png")
        (made,) = shown(tmp_path / "b.png")
        assert not spots.shows_white(made[..., :3])

    @pytest.mark.parametrize("kind", ["png", "webp", "gif", "tiff"])
    @pytest.mark.parametrize("colour", [0, 255])
    def test_a_picture_made_of_transparency_alone(
        self, colour: int, kind: str, finder: Anonymizer, spots: ModuleType, tmp_path: Path
    ) -> None:
        """One colour everywhere: what is seen is the ground that shines through, white or black."""
        values = spots.with_spots(spots.dark(*SIZE), (20, 20))[..., 0]
        alpha = 255 - values if colour == 0 else values
        if kind == "gif":
            alpha = np.where(alpha < 128, 0, 255).astype(np.uint8)
        ground = 255 if colour == 0 else 0
        rgba = np.dstack([np.full((*SIZE[::-1], 3), colour, np.uint8), alpha])
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        source = png_of(rgba, tmp_path, f"a.{kind}", **options)

        def seen(picture: Picture) -> Picture:
            share = picture[..., 3:].astype(float) / 255
            return (picture[..., :3] * share + ground * (1 - share)).round().astype(np.uint8)

        assert spots.shows_white(seen(rgba))
        finder.file(source, tmp_path / f"b.{kind}")
        (made,) = shown(tmp_path / f"b.{kind}")
        assert not spots.shows_white(seen(made))
