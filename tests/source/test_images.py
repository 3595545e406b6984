"""ImageSource: what is decoded, in which depth, how it stands; then what must be refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from trt_anon.errors import InputError
from trt_anon.geometry import turn_upright
from trt_anon.source.images import ImageSource
from trt_anon.types import Frame, Orientation

RNG = np.random.default_rng(5)
SMOOTH = np.dstack([*np.meshgrid(np.arange(48), np.arange(32)), np.full((32, 48), 45)]).astype(np.uint8) * 2
NOISE16 = RNG.integers(0, 65536, (9, 7, 4), np.uint16)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def opencv(suffix: str, array: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(suffix, array)
    assert done
    return bytes(data)


def exif(**tags: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = tags["orientation"]
    return block.tobytes()


Read = Callable[[bytes], list[Frame]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads an image from bytes, under a name that says nothing."""

    def read_bytes(data: bytes) -> list[Frame]:
        path = tmp_path / "picture.txt"
        path.write_bytes(data)
        source = ImageSource(path)
        try:
            frames = list(source)
            assert source.info.kind == "image"
            assert source.info.frames_estimate == len(frames)
            assert source.info.pixel_format is frames[0].pixel_format
            return frames
        finally:
            source.close()
            source.close()

    return read_bytes


RGB = Image.fromarray(SMOOTH)
GRAY = RGB.convert("L")
ALPHA = Image.fromarray(np.linspace(0, 255, 32 * 48).astype(np.uint8).reshape(32, 48))


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.convert("LA" if image.mode == "L" else "RGBA")
    image.putalpha(ALPHA)
    return image


LOSSLESS = [
    ("PNG", {}, RGB, "rgb24"),
    ("PNG", {}, with_alpha(RGB), "rgba"),
    ("PNG", {}, GRAY, "gray"),
    ("PNG", {}, with_alpha(GRAY), "ya8"),
    ("WEBP", {"lossless": True}, RGB, "rgb24"),
    ("WEBP", {"lossless": True, "exact": True}, with_alpha(RGB), "rgba"),
    ("BMP", {}, RGB, "rgb24"),
    ("BMP", {}, GRAY, "gray"),
    ("GIF", {}, RGB.quantize(200), "rgb24"),
    ("TIFF", {}, RGB, "rgb24"),
    ("TIFF", {"compression": "tiff_lzw"}, with_alpha(RGB), "rgba"),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, GRAY, "gray"),
    ("TIFF", {"big_tiff": True}, RGB, "rgb24"),
    ("TIFF", {"compression": "group4"}, GRAY.convert("1"), "gray"),
    ("TIFF", {}, RGB.quantize(9), "rgb24"),
    ("PNG", {}, GRAY.convert("1"), "gray"),
]


@pytest.mark.parametrize(("kind", "options", "image", "name"), LOSSLESS)
def test_lossless_pictures_arrive_as_they_are(
    read: Read, kind: str, options: dict[str, Any], image: Image.Image, name: str
) -> None:
    (frame,) = read(encoded(image, kind, **options))
    assert frame.pixel_format.name == name
    assert frame.pts is None
    assert frame.planes[0].flags.writeable
    expected = image.convert({"rgb24": "RGB", "rgba": "RGBA", "gray": "L", "ya8": "LA"}[name])
    np.testing.assert_array_equal(frame.planes[0], np.array(expected))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("channels", "name"), [(3, "rgb48le"), (4, "rgba64le"), (1, "gray16le")])
def test_sixteen_bits_stay_sixteen_bits(read: Read, suffix: str, channels: int, name: str) -> None:
    array = NOISE16[..., :channels]
    (frame,) = read(opencv(suffix, array))
    assert frame.pixel_format.name == name
    expected = array[..., [2, 1, 0, 3][:channels]] if channels > 1 else array[..., 0]
    np.testing.assert_array_equal(frame.planes[0], expected)


def test_a_gray_tiff_whose_zero_is_white_is_turned_over(read: Read) -> None:
    data = bytearray(encoded(Image.fromarray(NOISE16[..., 0]), "TIFF"))
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    data[at] = 0
    (frame,) = read(bytes(data))
    np.testing.assert_array_equal(frame.planes[0], 65535 - NOISE16[..., 0])


class TestTransparentColors:
    def test_palette(self, read: Read) -> None:
        palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0])) + chunk(b"tRNS", b"\x40")
        (frame,) = read(png(2, 1, 8, 3, b"\0\0\1", palette))
        assert frame.pixel_format.name == "rgba"
        assert frame.planes[0].tolist() == [[[255, 0, 0, 64], [0, 255, 0, 255]]]

    def test_rgb(self, read: Read) -> None:
        (frame,) = read(png(2, 1, 8, 2, b"\0" + bytes([1, 2, 3, 4, 5, 6]), chunk(b"tRNS", struct.pack(">3H", 1, 2, 3))))
        assert frame.planes[0].tolist() == [[[1, 2, 3, 0], [4, 5, 6, 255]]]

    def test_gray_of_two_bits(self, read: Read) -> None:
        (frame,) = read(png(4, 1, 2, 0, b"\0\x1b", chunk(b"tRNS", struct.pack(">H", 1))))
        assert frame.pixel_format.name == "ya8"
        assert frame.planes[0].tolist() == [[[0, 255], [85, 0], [170, 255], [255, 255]]]

    @pytest.mark.parametrize(("kind", "samples"), [(0, [7, 400]), (2, [7, 8, 9, 400, 50000, 6])])
    def test_sixteen_bits(self, read: Read, kind: int, samples: list[int]) -> None:
        key = samples[: len(samples) // 2]
        rows = b"\0" + struct.pack(f">{len(samples)}H", *samples)
        (frame,) = read(png(2, 1, 16, kind, rows, chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))))
        assert frame.pixel_format.name == "rgba64le"
        assert frame.planes[0][0, :, 3].tolist() == [0, 65535]
        assert frame.planes[0][0, 1, :3].tolist() == (samples[1:] * 3 if kind == 0 else samples[3:])


def test_twelve_bits_fill_the_range_of_sixteen(read: Read) -> None:
    codes = [0x000, 0xFFF, 0x800, 0x123]
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x01, 0x23])
    tags = [(256, 4), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 6)]
    rows = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 14) + packed + struct.pack("<H", len(tags)) + rows + bytes(4)
    (frame,) = read(data)
    assert frame.planes[0][0].tolist() == [code << 4 | code >> 8 for code in codes]


class TestJpeg:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_close_to_the_original(self, read: Read, progressive: bool) -> None:
        (frame,) = read(encoded(RGB, "JPEG", quality=95, subsampling=0, progressive=progressive))
        assert frame.pixel_format.name == "rgb24"
        assert np.abs(frame.planes[0].astype(int) - SMOOTH).max() <= 6

    def test_gray(self, read: Read) -> None:
        (frame,) = read(encoded(GRAY, "JPEG", quality=95))
        assert frame.pixel_format.name == "gray"

    def test_cmyk_is_not_inverted(self, read: Read) -> None:
        red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, no black: red
        (frame,) = read(encoded(red, "JPEG", quality=95))
        assert np.abs(frame.planes[0].astype(int) - [255, 0, 0]).max() <= 3

    def test_how_it_was_coded_reaches_the_sink(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        RGB.save(path, quality=83, subsampling="4:2:2", progressive=True)
        details = ImageSource(path).info.image
        assert details is not None
        with Image.open(path) as image:
            tables = image.quantization  # type: ignore[attr-defined]
        assert details.jpeg_tables == (tuple(tables[0]), tuple(tables[1]), tuple(tables[1]))
        assert details.jpeg_subsampling == "4:2:2"
        assert details.jpeg_progressive
        assert not details.jpeg_rgb

    def test_of_an_mpo_only_the_primary_picture_is_read(self, read: Read) -> None:
        second = Image.fromarray(255 - SMOOTH)
        data = encoded(RGB, "MPO", save_all=True, append_images=[second], quality=95)
        with Image.open(io.BytesIO(data)) as image:
            assert getattr(image, "n_frames", 1) == 2
        (frame,) = read(data)
        assert np.abs(frame.planes[0].astype(int) - SMOOTH).mean() < 8

    def test_what_follows_the_end_is_not_read(self, read: Read) -> None:
        (frame,) = read(encoded(RGB, "JPEG") + b"\0\0\0\x20ftypmp42" + bytes(500))
        assert frame.width_px == 48


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_makes_the_picture_upright(read: Read, kind: str, value: int) -> None:
    upright = SMOOTH
    turned = Image.fromarray(SMOOTH)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose codes that undo each orientation
    stored = turned.transpose(Image.Transpose(inverse[value])) if value > 1 else turned
    options: dict[str, Any] = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    (frame,) = read(encoded(stored, kind, exif=exif(orientation=value), **options))
    assert frame.orientation is Orientation(value)
    assert (frame.width_px, frame.height_px) == stored.size
    shown = turn_upright(frame.planes[0], frame.orientation)
    assert shown.shape == upright.shape
    assert np.abs(shown.astype(int) - upright).max() <= (0 if kind != "JPEG" else 6)


def test_a_damaged_exif_block_does_not_damage_the_picture(read: Read) -> None:
    block = bytearray(exif(orientation=6))
    block[10:14] = b"\xff\xff\xff\xff"
    (frame,) = read(encoded(RGB, "JPEG", exif=bytes(block)))
    assert frame.orientation is Orientation.NORMAL


class TestAnimations:
    FRAMES = tuple(Image.fromarray(np.roll(SMOOTH, 7 * n, axis=1)) for n in range(4))
    TIMES = (100, 40, 250, 70)

    @pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
    def test_every_frame_comes_whole_and_on_time(
        self, read: Read, tmp_path: Path, kind: str, options: dict[str, Any]
    ) -> None:
        source = [frame.quantize(16).convert("RGB") for frame in self.FRAMES]
        data = encoded(source[0], kind, save_all=True, append_images=source[1:], duration=self.TIMES, loop=0, **options)
        frames = read(data)
        assert [frame.pts for frame in frames] == [0, 100, 140, 390]
        assert {frame.time_base for frame in frames} == {Fraction(1, 1000)}
        for frame, expected in zip(frames, source, strict=True):
            assert frame.pixel_format.name == "rgba"
            np.testing.assert_array_equal(frame.planes[0][..., :3], np.array(expected))
            assert (frame.planes[0][..., 3] == 255).all()
        path = tmp_path / "again"
        path.write_bytes(data)
        details = ImageSource(path).info.image
        assert details is not None
        assert details.durations_ms == self.TIMES
        assert details.loop == 0

    def test_a_png_with_a_picture_for_others(self, read: Read) -> None:
        first, *rest = self.FRAMES
        data = encoded(first, "PNG", save_all=True, append_images=rest, default_image=True, duration=50, loop=2)
        frames = read(data)
        assert [frame.pts for frame in frames] == [0, 0, 50, 100]
        np.testing.assert_array_equal(frames[0].planes[0][..., :3], np.array(first))

    def test_a_gif_frame_beyond_the_screen_enlarges_it(self, read: Read) -> None:
        data = bytearray(encoded(RGB.quantize(8), "GIF"))
        data[6:10] = struct.pack("<HH", 10, 10)
        (frame,) = read(bytes(data))
        assert (frame.width_px, frame.height_px) == (48, 32)


class TestTiffPages:
    def test_each_page_has_its_own_size_and_format(self, read: Read) -> None:
        pages = [RGB, GRAY.resize((5, 9)), with_alpha(RGB)]
        frames = read(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw"))
        assert [frame.pixel_format.name for frame in frames] == ["rgb24", "gray", "rgba"]
        assert [frame.index for frame in frames] == [0, 1, 2]
        assert [frame.pts for frame in frames] == [None] * 3
        for frame, page in zip(frames, pages, strict=True):
            np.testing.assert_array_equal(frame.planes[0], np.array(page))

    def test_thumbnails_are_left_out(self, read: Read) -> None:
        small = RGB.resize((6, 4))
        data = encoded(RGB, "TIFF", save_all=True, append_images=[small], tiffinfo={254: 0})
        at = data.rindex(struct.pack("<HHI", 254, 4, 1)) + 8
        (frame,) = read(data[:at] + b"\1" + data[at + 1 :])
        assert frame.width_px == 48

    def test_pages_in_a_circle(self, read: Read) -> None:
        data = bytearray(encoded(RGB, "TIFF"))
        first = int.from_bytes(data[4:8], "little")
        tags = int.from_bytes(data[first : first + 2], "little")
        link = first + 2 + 12 * tags
        data[link : link + 4] = struct.pack("<I", first)
        with pytest.raises(InputError, match="circle"):
            read(bytes(data))


WHOLE = {
    "jpeg": encoded(RGB, "JPEG", quality=90),
    "progressive jpeg": encoded(RGB, "JPEG", quality=90, progressive=True),
    "png": encoded(RGB, "PNG"),
    "16-bit png": opencv(".png", NOISE16),
    "webp": encoded(RGB, "WEBP"),
    "lossless webp": encoded(RGB, "WEBP", lossless=True),
    "animated webp": encoded(RGB, "WEBP", save_all=True, append_images=[GRAY.convert("RGB")], duration=9),
    "gif": encoded(RGB, "GIF"),
    "animated png": encoded(RGB, "PNG", save_all=True, append_images=[GRAY.convert("RGB")], duration=9),
    "bmp": encoded(RGB, "BMP"),
    "tiff": encoded(RGB, "TIFF"),
    "lzw tiff": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "16-bit tiff": opencv(".tiff", NOISE16[..., :3]),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95, 1.0])
def test_a_truncated_file_is_refused(read: Read, name: str, share: float) -> None:
    data = WHOLE[name]
    assert read(data)
    cut = min(int(len(data) * share), len(data) - 1 - 2 * ("tiff" in name))
    with pytest.raises(InputError):
        read(data[:cut])


@pytest.mark.parametrize("name", ["jpeg", "progressive jpeg"])
def test_a_jpeg_whose_coded_data_is_damaged_is_refused(read: Read, name: str) -> None:
    """libjpeg only warns of these, and fills in grey."""
    data = WHOLE[name]
    scan = data.index(b"\xff\xda") + 14
    with pytest.raises(InputError, match=r"corrupt|truncated"):  # most of it cut out, the end marker still there
        read(data[: scan + (len(data) - scan) // 3] + b"\xff\xd9")
    with pytest.raises(InputError, match=r"corrupt|truncated"):
        read(data[:scan] + RNG.integers(0, 255, len(data) - scan - 2, np.uint8).tobytes() + b"\xff\xd9")


def test_a_png_with_a_wrong_checksum_is_refused(read: Read) -> None:
    data = bytearray(png(2, 1, 8, 0, b"\0\1\2"))
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    data[at + 8 + length] ^= 1
    with pytest.raises(InputError, match="checksum"):
        read(bytes(data))


HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"this is no picture at all, whatever its name", "none of"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of"),
    "jpeg of two bytes": (b"\xff\xd8\xff", "truncated"),
    "png bomb": (png(60000, 60000, 8, 0, b""), "limit"),
    "png of no pixels": (png(0, 5, 8, 0, b""), "zero"),
    "gif bomb": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", "limit"),
    "bmp bomb": (b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 60000, 60000, 1, 24, 0) + bytes(20), "limit"),
    "webp bomb": (
        b"RIFF" + struct.pack("<I", 12 + 18) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6
        + b"VP8L\0\0\0\0",
        "limit",
    ),
    "webp without a picture": (b"RIFF\4\0\0\0WEBP", "no picture"),
    "tiff without a picture": (b"II*\0\0\0\0\0", "no picture"),
    "tiff that points outside": (b"II*\0\xff\xff\xff\x7f", "beyond"),
    "animated png that lies": (
        png(1, 1, 8, 0, b"\0\0", chunk(b"acTL", struct.pack(">II", 9, 0))),
        "animated PNG",
    ),
    "floating point": (encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"), "not supported"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(read: Read, name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(InputError, match=reason) as caught:
        read(data)
    assert "picture.txt" in str(caught.value)


@pytest.mark.parametrize("data", [png(1, 1, 8, 2, b"\0\1\2\3"), encoded(Image.new("L", (20000, 3)), "PNG")])
def test_extreme_shapes(read: Read, data: bytes) -> None:
    (frame,) = read(data)
    assert (frame.width_px, frame.height_px) in ((1, 1), (20000, 3))


def test_a_bmp_that_stands_on_its_head(read: Read) -> None:
    data = bytearray(encoded(RGB, "BMP"))
    data[22:26] = struct.pack("<i", -32)  # negative height: top row first
    (frame,) = read(bytes(data))
    np.testing.assert_array_equal(frame.planes[0], SMOOTH[::-1])


def test_the_limit_can_be_set(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    RGB.save(path)
    with pytest.raises(InputError, match="max_pixels"):
        ImageSource(path, max_pixels=48 * 32 - 1)
    ImageSource(path, max_pixels=48 * 32)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x\.png"):
        ImageSource(tmp_path / "x.png")


def test_iterated_once(tmp_path: Path) -> None:
    RGB.save(tmp_path / "a.png")
    source = ImageSource(tmp_path / "a.png")
    assert len(list(source)) == 1
    with pytest.raises(RuntimeError, match="once"):
        next(iter(source))


def test_a_cmyk_profile_is_used(tmp_path: Path) -> None:
    """An RGB profile in a CMYK picture is none for it: the plain formula is used, without an error."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", icc_profile=profile)
    (frame,) = ImageSource(tmp_path / "a.jpg")
    assert np.abs(frame.planes[0].astype(int) - [255, 0, 0]).max() <= 3


@given(name=st.sampled_from(sorted(WHOLE)), seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12))
def test_damage_of_any_kind_is_an_input_error_or_a_picture(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    data = np.frombuffer(WHOLE[name], np.uint8).copy()
    where = rng.integers(0, min(len(data), int(rng.choice([64, 400, len(data)]))), count)
    data[where] = rng.integers(0, 256, count)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data.tobytes())
    try:
        for frame in ImageSource(path, max_pixels=1 << 20):
            assert frame.planes[0].size
    except InputError:
        pass


@pytest.mark.dataset
def test_real_photographs_are_read(data_dir: Path) -> None:
    photographs = sorted((data_dir / "data").rglob("*.jpg"))[::40]
    assert photographs
    for path in photographs:
        (frame,) = ImageSource(path)
        with Image.open(path) as image:
            assert (frame.width_px, frame.height_px) == image.size
            mode = "L" if frame.pixel_format.name == "gray" else "RGB"
            np.testing.assert_array_equal(frame.planes[0], np.array(image.convert(mode)))
