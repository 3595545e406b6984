"""ImageSink: the pixels that come out, and the bytes that must not."""

from __future__ import annotations

import io
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from trt_anon.config import SinkConfig
from trt_anon.errors import OutputError
from trt_anon.geometry import turn_upright
from trt_anon.media import ImageDetails, MediaInfo
from trt_anon.sink.images import FORMAT_OF_SUFFIX, ImageSink
from trt_anon.types import PIXEL_FORMATS, Frame, Orientation

RNG = np.random.default_rng(3)
SECRET = "SECRET-7c1f"  # planted in every kind of metadata
SMOOTH = np.dstack([*np.meshgrid(np.arange(48), np.arange(32)), np.full((32, 48), 45)]).astype(np.uint8) * 2
CHANNELS = {"gray": 1, "ya8": 2, "rgb24": 3, "rgba": 4, "gray16le": 1, "rgb48le": 3, "rgba64le": 4}


def picture(name: str, height: int = 11, width: int = 17) -> NDArray[Any]:
    pixel_format = PIXEL_FORMATS[name]
    shape = pixel_format.plane_shapes(width, height)[0]
    return RNG.integers(0, np.iinfo(pixel_format.dtype).max, shape, pixel_format.dtype, endpoint=True)


def frame_of(array: NDArray[Any], name: str, orientation: Orientation = Orientation.NORMAL, index: int = 0) -> Frame:
    return Frame((array,), PIXEL_FORMATS[name], array.shape[1], array.shape[0], index, orientation=orientation)


def info_of(frame: Frame, codec: str = "png", **details: Any) -> MediaInfo:
    return MediaInfo(
        kind="image",
        width_px=frame.width_px,
        height_px=frame.height_px,
        pixel_format=frame.pixel_format,
        codec=codec,
        container=codec,
        frames_estimate=details.get("frames", 1),
        image=ImageDetails(**details),
    )


def write(path: Path, *frames: Frame, config: SinkConfig | None = None, codec: str = "png", **details: Any) -> bytes:
    details.setdefault("frames", len(frames))
    sink = ImageSink(path, info=info_of(frames[0], codec, **details), config=config)
    for frame in frames:
        sink.write(frame)
    sink.finish()
    return path.read_bytes()


def read(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        if image.mode == "P":
            return np.array(image.convert("RGBA" if "transparency" in image.info else "RGB"))
        return np.array(image)


@pytest.mark.parametrize("name", ["gray", "ya8", "rgb24", "rgba", "gray16le"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_lossless_formats_keep_every_sample(tmp_path: Path, name: str, suffix: str) -> None:
    array = picture(name)
    write(tmp_path / f"a{suffix}", frame_of(array, name))
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), array)


@pytest.mark.parametrize("name", ["rgb48le", "rgba64le"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_deep_color_is_kept(tmp_path: Path, name: str, suffix: str) -> None:
    array = picture(name, 300, 400)  # several strips of a TIFF
    write(tmp_path / f"a{suffix}", frame_of(array, name))
    back = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    assert back is not None
    np.testing.assert_array_equal(back[..., [2, 1, 0, 3][: back.shape[2]]], array)


@pytest.mark.parametrize("name", ["gray", "rgb24", "rgba"])
def test_lossless_webp_and_bmp(tmp_path: Path, name: str) -> None:
    array = picture(name)
    write(tmp_path / "a.bmp", frame_of(array, name))
    np.testing.assert_array_equal(read(tmp_path / "a.bmp"), array)
    write(tmp_path / "a.webp", frame_of(array, name), lossless=True)
    back = read(tmp_path / "a.webp")
    np.testing.assert_array_equal(back, array if array.ndim == 3 else np.dstack([array] * 3))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif", ".bmp"])
@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_formats_of_8_bits_take_every_picture(tmp_path: Path, suffix: str, name: str) -> None:
    array = np.full_like(picture(name), 200)
    if array.dtype == np.uint16:
        array[...] = 200 * 257
    if CHANNELS[name] in (2, 4):
        array[..., -1] = np.iinfo(array.dtype).max
    write(tmp_path / f"a{suffix}", frame_of(array, name), lossless=False)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.size == (17, 11)
        assert np.abs(np.array(image.convert("RGB")).astype(int) - 200).max() <= 3


@pytest.mark.parametrize("quality", [30, 75, 100])
@pytest.mark.parametrize(("subsampling", "progressive"), [("4:4:4", False), ("4:2:2", False), ("4:2:0", True)])
def test_a_jpeg_keeps_the_tables_of_its_input(
    tmp_path: Path, quality: int, subsampling: Any, progressive: bool
) -> None:
    original = tmp_path / "in.jpg"
    Image.fromarray(SMOOTH).save(original, quality=quality, subsampling=subsampling, progressive=progressive)
    with Image.open(original) as image:
        tables = image.quantization  # type: ignore[attr-defined]
        decoded = np.array(image)
    write(
        tmp_path / "out.jpg",
        frame_of(decoded, "rgb24"),
        codec="jpeg",
        jpeg_tables=(tuple(tables[0]), tuple(tables[1]), tuple(tables[1])),
        jpeg_subsampling=subsampling,
        jpeg_progressive=progressive,
    )
    with Image.open(tmp_path / "out.jpg") as image:
        found = image.quantization  # type: ignore[attr-defined]
        assert found[0] == tables[0]
        assert all(table in (tables[0], tables[1]) for table in found.values())
        assert tables[1] in found.values()
        assert [layer[1:3] for layer in image.layer] == [  # type: ignore[attr-defined]
            ({"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}[subsampling]),
            (1, 1),
            (1, 1),
        ]
        assert bool(image.info.get("progressive")) == progressive
        loss = np.abs(np.array(image).astype(int) - decoded)
    fresh = io.BytesIO()
    Image.fromarray(decoded).save(fresh, "JPEG", quality=60, subsampling=subsampling)
    other = np.abs(np.array(Image.open(fresh)).astype(int) - decoded)
    assert loss.mean() <= 1.0
    assert quality == 30 or loss.mean() < other.mean()


def test_noise_in_a_progressive_jpeg_of_finest_tables(tmp_path: Path) -> None:
    array = picture("rgb24", 200, 200)
    ones = (tuple([1] * 64),) * 3
    write(tmp_path / "a.jpg", frame_of(array, "rgb24"), codec="jpeg", jpeg_tables=ones, jpeg_progressive=True)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - array).max() <= 4


def test_jpeg_quality_replaces_the_tables(tmp_path: Path) -> None:
    array = picture("rgb24", 64, 64)
    ones = (tuple([1] * 64),) * 3
    sizes = [
        len(write(tmp_path / "a.jpg", frame_of(array, "rgb24"), config=SinkConfig(quality=q), jpeg_tables=ones))
        for q in (10, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


def test_alpha_is_laid_over_white_in_a_jpeg(tmp_path: Path) -> None:
    array = np.zeros((16, 16, 4), np.uint8)
    array[8:, :, 3] = 255
    write(tmp_path / "a.jpg", frame_of(array, "rgba"))
    back = read(tmp_path / "a.jpg").astype(int)
    assert back[:7].min() > 250
    assert back[9:].max() < 5


@pytest.mark.parametrize("orientation", list(Orientation))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp", ".gif"])
def test_pictures_are_turned_upright(tmp_path: Path, suffix: str, orientation: Orientation) -> None:
    tables = (tuple(range(1, 65)),) * 3
    write(
        tmp_path / f"a{suffix}",
        frame_of(SMOOTH // 8 * 8, "rgb24", orientation),
        lossless=True,
        jpeg_tables=tables if suffix == ".jpg" else (),
        jpeg_subsampling="4:2:2",
    )
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif().get(0x0112, 1) == 1
        expected = turn_upright(SMOOTH // 8 * 8, orientation)
        found = np.array(image.convert("RGB"))
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() <= (6 if suffix == ".jpg" else 0)
        if suffix == ".jpg" and orientation.swaps_axes:  # rows of a block have become columns
            table = image.quantization[0]  # type: ignore[attr-defined]
            assert np.reshape(table, (8, 8)).T.ravel().tolist() == list(tables[0])


def named_profile() -> bytes:
    """sRGB with a secret in its words and in its header."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    words = "sRGB built-in".encode("utf-16-be")
    at = profile.index(words)
    profile[at : at + 22] = SECRET.encode("utf-16-be")[:22]
    profile[48:52] = b"SECR"
    return bytes(profile)


def metadata() -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x010F] = SECRET
    exif[0x9286] = SECRET
    exif.get_ifd(0x8825)[29] = SECRET
    return {"exif": exif.tobytes(), "icc_profile": named_profile()}


def assert_clean(data: bytes) -> None:
    for word in (SECRET.encode(), SECRET.encode("utf-16-be"), b"SECR", b"Photoshop", b"http://ns.adobe.com", b"GPS"):
        assert word not in data
    assert not re.search(rb"Exif\0\0|eXIf|tEXt|iTXt|zTXt|XMP ", data)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".gif", ".bmp"])
def test_nothing_but_the_picture_is_written(tmp_path: Path, suffix: str) -> None:
    """From the file that carries all kinds of metadata to the bytes of the output, through the source."""
    from trt_anon.source.images import ImageSource

    extra: dict[str, Any] = metadata()
    if suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", SECRET)
        text.add_itxt("XML:com.adobe.xmp", SECRET, zip=True)
        extra["pnginfo"] = text
    elif suffix in (".jpg", ".webp"):
        extra["xmp"] = f"<x xmlns='http://ns.adobe.com/xap/1.0/'>{SECRET}</x>".encode()
    if suffix in (".jpg", ".gif"):
        extra["comment"] = SECRET.encode()
    path = tmp_path / f"in{suffix}"
    Image.fromarray(SMOOTH).save(path, **extra)
    if suffix == ".jpg":
        data = path.read_bytes()
        iptc = b"\xff\xed\0\x2ePhotoshop 3.0\x008BIM\x04\x04" + SECRET.encode().ljust(24, b"x")
        path.write_bytes(data[:2] + iptc + data[2:] + SECRET.encode())
        assert path.read_bytes().count(SECRET.encode()) >= 4
    source = ImageSource(path)
    sink = ImageSink(tmp_path / f"out{suffix}", source_path=path, info=source.info)
    for frame in source:
        sink.write(frame)
    sink.finish()
    assert_clean((tmp_path / f"out{suffix}").read_bytes())
    if suffix not in (".gif", ".bmp"):
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.info["icc_profile"] != named_profile()
            assert len(image.info["icc_profile"]) > 300


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_keeping_metadata_keeps_time_resolution_and_profile_alone(tmp_path: Path, suffix: str) -> None:
    details: dict[str, Any] = {"captured": "2024:05:06 07:08:09", "dpi": (300.0, 300.0), "icc_profile": named_profile()}
    write(tmp_path / f"a{suffix}", frame_of(SMOOTH, "rgb24"), config=SinkConfig(metadata="keep"), **details)
    with Image.open(tmp_path / f"a{suffix}") as image:
        exif = image.getexif()
        assert (exif.get(306) or exif.get_ifd(0x8769)[0x9003]) == "2024:05:06 07:08:09"
        assert SECRET[:11].encode("utf-16-be") not in image.info["icc_profile"]
        assert len(image.info["icc_profile"]) > 300
        if suffix != ".webp":  # which holds no resolution
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    write(tmp_path / f"b{suffix}", frame_of(SMOOTH, "rgb24"), config=SinkConfig(), **details)
    with Image.open(tmp_path / f"b{suffix}") as image:
        assert not image.getexif().get_ifd(0x8769)
        assert 306 not in image.getexif()
        assert "dpi" not in image.info or image.info["dpi"] in ((1, 1), (72, 72))


def test_png_keeps_what_its_numbers_say_about_color(tmp_path: Path) -> None:
    color = ((b"gAMA", b"\0\0\xb1\x8f"), (b"cHRM", bytes(range(32))))
    data = write(tmp_path / "a.png", frame_of(SMOOTH, "rgb24"), png_color=color)
    for name, body in color:
        assert name + body in data
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["gamma"] == pytest.approx(0.45455)


def test_a_profile_of_other_colors_is_not_written(tmp_path: Path) -> None:
    data = write(tmp_path / "a.png", frame_of(SMOOTH[..., 0].copy(), "gray"), icc_profile=named_profile())
    assert b"iCCP" not in data


@pytest.mark.parametrize("suffix", [".gif", ".bmp"])
@pytest.mark.parametrize("name", ["rgb24", "rgba"])
def test_formats_without_profiles_get_srgb(tmp_path: Path, suffix: str, name: str) -> None:
    """Pure green of a wider space is beyond sRGB; half of its range is not."""
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    profile = bytearray(wide.tobytes())
    for tag in (b"rTRC", b"gTRC", b"bTRC"):  # a straight line instead of sRGB's curve: the same codes are brighter
        at = profile.index(tag)
        profile[at + 4 : at + 12] = struct.pack(">II", len(profile), 12)
    profile += b"curv" + bytes(8)
    profile[:4] = struct.pack(">I", len(profile))
    array = np.full_like(picture(name), 100)
    array[..., 3:] = 255
    write(tmp_path / f"a{suffix}", frame_of(array, name), icc_profile=bytes(profile))
    expected = 255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert np.abs(np.array(image.convert("RGB")).astype(float) - expected).max() <= 1.5


def test_an_rgb_jpeg_stays_one(tmp_path: Path) -> None:
    from trt_anon.source.images import ImageSource

    Image.fromarray(SMOOTH).save(tmp_path / "in.jpg", quality=90, keep_rgb=True)
    source = ImageSource(tmp_path / "in.jpg")
    sink = ImageSink(tmp_path / "out.jpg", info=source.info)
    for frame in source:
        sink.write(frame)
    sink.finish()
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["adobe_transform"] == 0
        assert np.abs(np.array(image).astype(int) - SMOOTH).max() <= 16


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_what_is_kept_comes_from_the_input(tmp_path: Path, suffix: str) -> None:
    from trt_anon.source.images import ImageSource

    exif = Image.Exif()
    exif[306] = "2020:01:02 03:04:05"
    if suffix != ".tiff":
        exif.get_ifd(0x8769)[0x9003] = "2021:01:02 03:04:05"
    exif[0x010F] = SECRET
    Image.fromarray(SMOOTH).save(tmp_path / f"in{suffix}", exif=exif, dpi=(200, 100), icc_profile=named_profile())
    details = ImageSource(tmp_path / f"in{suffix}").info.image
    assert details is not None
    assert details.captured == ("2020:01:02 03:04:05" if suffix == ".tiff" else "2021:01:02 03:04:05")
    assert details.icc_profile == named_profile()
    if suffix != ".webp":
        assert details.dpi == pytest.approx((200, 100), abs=0.1)


class TestAnimations:
    FRAMES = tuple(
        np.dstack([np.roll(SMOOTH // 16 * 16, 5 * n, axis=1), np.full((32, 48), 255, np.uint8)]) for n in range(4)
    )
    DETAILS: ClassVar[dict[str, Any]] = {"durations_ms": (100, 40, 250, 70), "loop": 3}

    @pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
    def test_frames_times_and_loops(self, tmp_path: Path, suffix: str) -> None:
        from trt_anon.source.images import ImageSource

        path = tmp_path / f"a{suffix}"
        write(path, *(frame_of(array, "rgba", index=n) for n, array in enumerate(self.FRAMES)), **self.DETAILS)
        source = ImageSource(path)
        details = source.info.image
        assert details is not None
        assert (details.durations_ms, details.loop) == ((100, 40, 250, 70), 3)
        for frame, expected in zip(source, self.FRAMES, strict=True):
            np.testing.assert_array_equal(frame.planes[0], expected)

    @pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
    def test_transparent_pixels_stay_so(self, tmp_path: Path, suffix: str) -> None:
        from trt_anon.source.images import ImageSource

        arrays = [array.copy() for array in self.FRAMES]
        for n, array in enumerate(arrays):
            array[:, 6 * n : 6 * n + 9, 3] = 0
        path = tmp_path / f"a{suffix}"
        write(path, *(frame_of(array, "rgba") for array in arrays), **self.DETAILS)
        for frame, expected in zip(ImageSource(path), arrays, strict=True):
            np.testing.assert_array_equal(frame.planes[0][..., 3], expected[..., 3])
            seen = expected[..., 3] > 0
            np.testing.assert_array_equal(frame.planes[0][seen], expected[seen])

    @pytest.mark.parametrize("loop", [None, 0, 1, 2])
    def test_how_often_a_gif_plays(self, tmp_path: Path, loop: int | None) -> None:
        from trt_anon.source.images import ImageSource

        frames = [frame_of(array, "rgba") for array in self.FRAMES]
        write(tmp_path / "a.gif", *frames, durations_ms=(9, 9, 9, 9), loop=loop)
        details = ImageSource(tmp_path / "a.gif").info.image
        assert details is not None
        assert details.loop == {None: None, 0: 0, 1: None, 2: 2}[loop]

    def test_the_callers_buffer_may_be_reused(self, tmp_path: Path) -> None:
        buffer = self.FRAMES[0].copy()
        sink = ImageSink(tmp_path / "a.png", info=info_of(frame_of(buffer, "rgba"), frames=2, durations_ms=(9, 9)))
        sink.write(frame_of(buffer, "rgba"))
        buffer[...] = 255
        sink.write(frame_of(buffer, "rgba"))
        sink.finish()
        np.testing.assert_array_equal(read(tmp_path / "a.png"), self.FRAMES[0])

    @pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
    def test_formats_of_one_picture_refuse(self, tmp_path: Path, suffix: str) -> None:
        frame = frame_of(self.FRAMES[0], "rgba")
        with pytest.raises(OutputError, match="4 pictures"):
            ImageSink(tmp_path / f"a{suffix}", info=info_of(frame, frames=4, **self.DETAILS))


def test_tiff_pages(tmp_path: Path) -> None:
    pages = [picture("rgb24"), picture("gray", 3, 4), picture("rgba", 1, 1)]
    names = ["rgb24", "gray", "rgba"]
    write(tmp_path / "a.tif", *(frame_of(page, name) for page, name in zip(pages, names, strict=True)), codec="tiff")
    with Image.open(tmp_path / "a.tif") as image:
        for number, page in enumerate(pages):
            image.seek(number)
            np.testing.assert_array_equal(np.array(image), page)
    with pytest.raises(OutputError, match="pages"):
        ImageSink(tmp_path / "a.png", info=info_of(frame_of(pages[0], "rgb24"), frames=3))


class TestNames:
    FRAME = frame_of(SMOOTH, "rgb24")

    @pytest.mark.parametrize("suffix", sorted(FORMAT_OF_SUFFIX))
    def test_the_suffix_decides(self, tmp_path: Path, suffix: str) -> None:
        from trt_anon.source.imagefile.parts import identify

        data = write(tmp_path / f"a{suffix.upper()}", self.FRAME)
        assert identify(data) == FORMAT_OF_SUFFIX[suffix]

    def test_without_one_the_input_decides(self, tmp_path: Path) -> None:
        assert write(tmp_path / "picture", self.FRAME, codec="webp")[8:12] == b"WEBP"

    def test_the_inputs_own_suffix_is_taken_over(self, tmp_path: Path) -> None:
        sink = ImageSink(tmp_path / "a.dat", info=info_of(self.FRAME, "png"), source_path=tmp_path / "b.DAT")
        sink.write(self.FRAME)
        sink.finish()
        assert (tmp_path / "a.dat").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("name", ["a.heic", "a.mp4", "a.xyz"])
    def test_unknown_ones_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match="known are"):
            ImageSink(tmp_path / name, info=info_of(self.FRAME), source_path=tmp_path / "b.png")
        with pytest.raises(OutputError, match="written as"):
            ImageSink(tmp_path / "a.png", info=info_of(self.FRAME), image_format="heic")


class TestFailures:
    FRAME = frame_of(SMOOTH, "rgb24")

    def test_missing_and_surplus_pictures(self, tmp_path: Path) -> None:
        sink = ImageSink(tmp_path / "a.png", info=info_of(self.FRAME))
        with pytest.raises(OutputError, match="0 of 1"):
            sink.finish()
        sink.write(self.FRAME)
        with pytest.raises(OutputError, match="more pictures"):
            sink.write(self.FRAME)

    @pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg"])
    def test_no_space(self, suffix: str) -> None:
        """/dev/full takes nothing, as a disk without space."""
        sink = ImageSink("/dev/full", info=info_of(self.FRAME), image_format=FORMAT_OF_SUFFIX[suffix])

        def work() -> None:
            sink.write(self.FRAME)
            sink.finish()

        with pytest.raises(OutputError, match="No space left"):
            work()
        sink.abort()
        sink.abort()

    def test_no_folder(self, tmp_path: Path) -> None:
        sink = ImageSink(tmp_path / "no" / "a.png", info=info_of(self.FRAME))
        with pytest.raises(OutputError, match="No such file"):
            sink.write(self.FRAME)

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_too_wide_for_the_format(self, tmp_path: Path, suffix: str) -> None:
        frame = frame_of(np.zeros((1, 70000), np.uint8), "gray")
        with pytest.raises(OutputError, match="cannot write the image"):
            write(tmp_path / f"a{suffix}", frame)

    def test_a_frame_of_a_video(self, tmp_path: Path) -> None:
        planes = tuple(np.zeros(shape, np.uint8) for shape in PIXEL_FORMATS["yuv420p"].plane_shapes(4, 4))
        sink = ImageSink(tmp_path / "a.png", info=info_of(self.FRAME))
        with pytest.raises(ValueError, match="yuv420p"):
            sink.write(Frame(planes, PIXEL_FORMATS["yuv420p"], 4, 4))

    def test_the_info_of_a_video(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="MediaInfo"):
            ImageSink(tmp_path / "a.png", info=replace(info_of(self.FRAME), image=None))


def test_the_frame_is_not_changed(tmp_path: Path) -> None:
    for name in CHANNELS:
        array = picture(name)
        before = array.copy()
        for suffix in (".jpg", ".png", ".webp", ".tiff", ".gif", ".bmp"):
            write(tmp_path / f"a{suffix}", frame_of(array, name, Orientation.TRANSVERSE))
        np.testing.assert_array_equal(array, before)
