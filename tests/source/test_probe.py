"""What a file is, by its contents."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from trt_anon.errors import InputError
from trt_anon.source.probe import sniff


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".gif"])
def test_images_are_known_whatever_their_name(tmp_path: Path, suffix: str) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / f"a{suffix}"
    image.new("RGB", (8, 8), (10, 200, 30)).save(path)
    disguised = path.rename(tmp_path / "movie.mp4")
    assert sniff(disguised) == "image"


@pytest.mark.parametrize("name", ["a.mp4", "b.mkv", "c.avi", "d.ts", "e.h264"])
def test_videos_are_known_whatever_their_name(clips: ModuleType, tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = clips.make_clip(tmp_path / name, codec=codec, frames=4)
    assert sniff(path.rename(tmp_path / "picture.jpg")) == "video"


def test_other_files_are_neither(clips: ModuleType, tmp_path: Path) -> None:
    for name, data in (
        ("a.mp4", b"plain text\n" * 20),
        ("b.jpg", bytes(500)),
        ("c.bin", b"BM is how this sentence begins, and it is no bitmap"),
        ("d.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("e.m3u8", b"#EXTM3U\n#EXTINF:1,\na.ts\n"),
    ):
        (tmp_path / name).write_bytes(data)
        assert sniff(tmp_path / name) is None, name
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="empty"):
        sniff(tmp_path / "empty")
    with pytest.raises(InputError, match="cannot read"):
        sniff(tmp_path / "missing")
