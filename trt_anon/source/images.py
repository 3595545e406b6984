"""Images as a source: every picture of a file, in native depth, or an error; never half a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from trt_anon.errors import InputError
from trt_anon.media import ImageDetails, MediaInfo
from trt_anon.source.imagefile import decode
from trt_anon.source.imagefile.bmp import read_bmp
from trt_anon.source.imagefile.gif import read_gif
from trt_anon.source.imagefile.jpeg import read_jpeg
from trt_anon.source.imagefile.parts import Format, Parts, identify
from trt_anon.source.imagefile.png import read_png
from trt_anon.source.imagefile.tiff import TiffFile
from trt_anon.source.imagefile.webp import read_webp
from trt_anon.types import Color, Frame

MAX_PIXELS = 1 << 28
"""The largest picture that is read: 268 million pixels, 16384 x 16384."""

MAX_ANIMATION_PIXELS = 1 << 29
"""The largest sum over an animation's frames, which its encoder has to hold at once."""

MAX_FILE_BYTES = 1 << 32

_WALKS = {"jpeg": read_jpeg, "png": read_png, "gif": read_gif, "webp": read_webp, "bmp": read_bmp}
_COLOR = Color("bt601", full_range=True)


class ImageSource:
    """The pictures of one image file: JPEG, PNG, APNG, GIF, WebP, BMP, TIFF, by content whatever the name.

    Pixel formats: gray, ya8, rgb24, rgba, and gray16le, rgb48le, rgba64le for 16 bits. 1-bit pictures become gray,
    palettes rgb24 or rgba, CMYK and YCCK become sRGB (through the embedded profile, if any), a transparent colour
    becomes an alpha channel. `Frame.orientation` is the file's EXIF orientation, pixels are as stored.

    Animations give every frame as a viewer shows it, with its time as `pts` in milliseconds; TIFFs every page, each of
    its own size and format. Of an MPO or a motion photo only the primary picture is read, of a TIFF no thumbnails.

    Raises InputError, with the file's name, for what is missing, empty, truncated, damaged, too large (`max_pixels`
    per picture) or of no known kind: in the constructor for the first picture, while iterating for the others.
    """

    def __init__(self, path: str | Path, *, max_pixels: int = MAX_PIXELS) -> None:
        self._path = Path(path)
        self._max_pixels = max_pixels
        self._image: Any = None
        self._tiff: TiffFile | None = None
        self._first: Frame | None = None
        try:
            self._open(self._read())
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from error.__cause__

    @property
    def info(self) -> MediaInfo:
        """Format, and the size and pixel format of the first picture."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """The pictures, in the file's order."""
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError("an ImageSource is iterated once")
        yield first
        del first
        for index in range(1, self._details.frames):
            try:
                frame = self._decode(index)
            except InputError as error:
                raise InputError(f"{self._path}, picture {index + 1}: {error}") from error.__cause__
            yield frame

    def close(self) -> None:
        """Free the file's bytes; safe to call twice."""
        self._image = self._tiff = self._first = None

    def _read(self) -> bytes:
        try:
            if not self._path.is_file():
                raise InputError("it is no file" if self._path.exists() else "there is no such file")
            length = self._path.stat().st_size
            if length > MAX_FILE_BYTES:
                raise InputError(f"the file has {length} bytes; the limit for images is {MAX_FILE_BYTES}")
            return self._path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}") from error

    def _open(self, data: bytes) -> None:
        if not data:
            raise InputError("the file is empty")
        kind = identify(data[:16])
        if kind is None:
            raise InputError("it is none of JPEG, PNG, GIF, WebP, BMP and TIFF")
        self._kind: Format = kind
        if kind == "tiff":
            self._tiff = TiffFile(data)
            self._parts = self._tiff.page(0)
        else:
            self._parts = _WALKS[kind](data)
        self._details: ImageDetails = self._parts.details
        self._check_size(self._parts)
        frame = self._decode(0)
        self._first = frame
        durations = self._details.durations_ms
        self._info = MediaInfo(
            kind="image",
            width_px=frame.width_px,
            height_px=frame.height_px,
            pixel_format=frame.pixel_format,
            codec=kind,
            container=kind,
            time_base=frame.time_base,
            frames_estimate=self._details.frames,
            duration_seconds=sum(durations) / 1000 if durations else None,
            orientation=frame.orientation,
            color=_COLOR,
            color_range=2,
            image=self._details,
        )
        if self._details.frames == 1:
            self._image = self._tiff = None
            self._parts = replace(self._parts, data=b"")

    def _check_size(self, parts: Parts) -> None:
        """Before anything is decoded: a few bytes may claim a picture of gigabytes."""
        (width, height), frames = parts.size_px, parts.details.frames
        if width <= 0 or height <= 0:
            raise InputError("it is corrupt: its size is zero")
        if width * height > self._max_pixels:
            raise InputError(f"{width}x{height} pixels; the limit is {self._max_pixels} (max_pixels)")
        if parts.details.durations_ms and width * height * frames > MAX_ANIMATION_PIXELS:
            raise InputError(f"{frames} frames of {width}x{height}; the limit is {MAX_ANIMATION_PIXELS} pixels in all")

    def _decode(self, index: int) -> Frame:
        parts = self._parts
        if self._tiff is not None and index:
            parts = self._tiff.page(index)
            self._check_size(parts)
        with decode.decoding():
            if self._image is None or self._tiff is not None:
                self._image = decode.open_pillow(self._kind, parts.data)
                if self._kind == "jpeg":
                    decode.verify_jpeg(parts.data)
                    self._details = replace(self._details, **decode.jpeg_coding(self._image))
            elif index:
                self._image.seek(index)
            if decode.needs_opencv(self._kind, parts, self._image):
                pixel_format, picture = decode.decode_opencv(parts.data)
            else:
                pixel_format, picture = decode.decode_pillow(self._image, parts)
        if self._details.durations_ms and pixel_format.name != "rgba":
            pixel_format, picture = decode.with_alpha(picture)
        height, width = picture.shape[:2]
        if (width, height) != parts.size_px:
            raise InputError("it is corrupt: the picture is not of the size that its header says")
        times = self._details.durations_ms
        shown = max(0, index - self._details.default_image)
        return Frame(
            planes=(picture,),
            pixel_format=pixel_format,
            width_px=width,
            height_px=height,
            index=index,
            pts=sum(times[:shown]) if times else None,
            time_base=Fraction(1, 1000) if times else Fraction(1),
            color=_COLOR,
            orientation=parts.orientation,
        )
