"""Images as a sink: the same kind of file, depth and colours, upright, and nothing in it but the picture."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.config import SinkConfig
from trt_anon.errors import OutputError
from trt_anon.geometry import turn_upright
from trt_anon.media import ImageDetails, MediaInfo
from trt_anon.sink import encode
from trt_anon.sink.icc import colors_of, without_words
from trt_anon.sink.tiff import TiffWriter
from trt_anon.types import Frame

FORMAT_OF_SUFFIX = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".jfif": "jpeg", ".png": "png", ".apng": "png", ".webp": "webp",
    ".bmp": "bmp", ".dib": "bmp", ".tif": "tiff", ".tiff": "tiff", ".gif": "gif",
}  # fmt: skip
"""The formats that are written, by the output's suffix in lower case."""

_PACKED = {"gray", "gray16le", "ya8", "rgb24", "rgba", "rgb48le", "rgba64le"}


class ImageSink:
    """Writes one image file; `path` may exist and is replaced.

    The format is `image_format` (jpeg, png, webp, bmp, tiff, gif), or the one of the suffix, or the input's where the
    suffix is missing or the input's own. Pictures are turned upright, for the orientation tag goes with the rest.

    Dropped, always: EXIF with thumbnail, position and maker notes, XMP, IPTC, comments, text, trailers, further
    pictures that were not handed over. An ICC profile keeps its numbers and loses its words (`sink.icc`): converting
    the pixels instead would change all of them, and dropping it would change their colours. `metadata="keep"` keeps
    the time of capture and the resolution as well, and nothing else.

    JPEG: with `quality` None the input's quantization tables, subsampling and scan order, or 4:4:4 at 95 if the input
    was no JPEG; alpha is laid over white. WebP: lossless if the input was, else `quality` (95). PNG and TIFF: native
    depth, lossless, all pages or frames. GIF: 256 colours, or 255 and a transparent one. JPEG, WebP, GIF and BMP have
    8 bits. Frames of an animation that are equal to the one before may be stored as one, shown for as long as both.

    Raises OutputError for an unknown suffix, several pictures into a format of one, sizes that a format cannot hold,
    and whatever the file system says.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        info: MediaInfo,
        config: SinkConfig | None = None,
        source_path: str | Path | None = None,
        image_format: str | None = None,
    ) -> None:
        self._path = Path(path)
        self._config = config or SinkConfig()
        self._format = image_format or self._format_by_name(info, source_path)
        if self._format not in FORMAT_OF_SUFFIX.values():
            raise OutputError(f"{self._path.name}: images cannot be written as {self._format!r}")
        self._details = self._cleaned(info)
        many = self._details.frames > 1
        if many and self._format in ("jpeg", "bmp"):
            raise OutputError(
                f"the input has {self._details.frames} pictures and {self._format.upper()} files hold one; "
                "name the output .tiff, or for an animation .gif, .webp or .png"
            )
        if many and self._format != "tiff" and not self._details.durations_ms:
            raise OutputError(f"the input has {self._details.frames} pages; name the output .tiff to keep them")
        self._pictures: list[NDArray[Any]] = []
        self._written = 0
        self._file: IO[bytes] | None = None
        self._tiff: TiffWriter | None = None

    def _format_by_name(self, info: MediaInfo, source_path: str | Path | None) -> str:
        suffix = self._path.suffix.lower()
        if suffix in FORMAT_OF_SUFFIX:
            return FORMAT_OF_SUFFIX[suffix]
        if not suffix or (source_path is not None and suffix == Path(source_path).suffix.lower()):
            return info.codec
        raise OutputError(
            f"{suffix} is no image format that can be written; known are {', '.join(sorted(FORMAT_OF_SUFFIX))}"
        )

    def _cleaned(self, info: MediaInfo) -> ImageDetails:
        """What is written besides pixels."""
        if info.image is None:
            raise ValueError("an ImageSink needs the MediaInfo of an image")
        details = info.image
        details = replace(details, icc_profile=without_words(details.icc_profile) if details.icc_profile else None)
        return details if self._config.metadata == "keep" else replace(details, captured=None, dpi=None)

    def write(self, frame: Frame) -> None:
        """Add a picture; a single one is on disk when this returns."""
        if frame.pixel_format.name not in _PACKED:
            raise ValueError(f"an image sink does not take {frame.pixel_format.name} frames")
        if self._written >= self._details.frames:
            raise OutputError(f"{self._path.name}: more pictures than the input announced")
        picture = np.ascontiguousarray(turn_upright(frame.planes[0], frame.orientation))
        details = self._turned(frame)
        self._written += 1
        try:
            if self._format == "tiff":
                self._add_page(picture)
            elif self._details.frames == 1:
                self._store([picture], details)
            else:
                self._pictures.append(picture.copy())
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def _turned(self, frame: Frame) -> ImageDetails:
        """A turned picture's JPEG tables are turned with it: rows of a block become columns."""
        details = self._details
        if not frame.orientation.swaps_axes or not details.jpeg_tables:
            return details
        tables = tuple(tuple(np.reshape(table, (8, 8)).T.ravel().tolist()) for table in details.jpeg_tables)
        # 4:2:2 on its side is 4:4:0, which is not written
        sampling = "4:4:4" if details.jpeg_subsampling == "4:2:2" else details.jpeg_subsampling
        return replace(details, jpeg_tables=tables, jpeg_subsampling=sampling)

    def _add_page(self, picture: NDArray[Any]) -> None:
        if self._tiff is None:
            self._file = self._path.open("wb")
            self._tiff = TiffWriter(self._file)
        self._tiff.add(
            picture,
            icc_profile=self._profile(picture),
            dpi=self._details.dpi,
            captured=self._details.captured,
        )

    def _profile(self, picture: NDArray[Any]) -> bytes | None:
        """The profile, if it is one for pictures of this kind (a CMYK input's is not: its pixels are sRGB now)."""
        profile = self._details.icc_profile
        gray = picture.ndim == 2 or picture.shape[2] == 2
        return profile if profile and colors_of(profile) == ("GRAY" if gray else "RGB") else None

    def _store(self, pictures: list[NDArray[Any]], details: ImageDetails) -> None:
        details = replace(details, icc_profile=self._profile(pictures[0]))
        data = encode.encode(self._format, pictures, details, self._config.quality)
        if self._format == "png":
            data = encode.insert_png_chunks(data, details)
        self._path.write_bytes(data)

    def finish(self) -> None:
        """Write what is left and close the file. Raises OutputError where pictures are missing."""
        if self._written != self._details.frames:
            raise OutputError(f"{self._path.name}: {self._written} of {self._details.frames} pictures were handed over")
        try:
            if self._pictures:
                self._store(self._pictures, self._details)
            if self._file is not None:
                self._file.close()
        except (OSError, ValueError, struct.error) as error:
            raise self._failed(error) from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Let go of pictures and file."""
        self._pictures = []
        self._tiff = None
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # it is to be thrown away: what it could not flush is no loss
                file.close()

    def _failed(self, error: Exception) -> OutputError:
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(f"cannot write the image {self._path.name}: {reason}")
