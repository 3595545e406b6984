"""Decoding of walked image files to planes, in their native depth."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.errors import InputError, TrtAnonError
from trt_anon.source.imagefile.parts import Format, Parts
from trt_anon.types import PIXEL_FORMATS, PixelFormat

Picture = tuple[PixelFormat, NDArray[Any]]

_PURPOSE = "reading images"
_PLUGINS: dict[Format, tuple[str, str]] = {
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
}


@contextmanager
def decoding() -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged file into an InputError; decoders promise no closed set of types."""
    try:
        yield
    except (TrtAnonError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(f"it is corrupt or of an unsupported kind ({reason[0][:200]})") from error


def open_pillow(kind: Format, data: bytes) -> Any:
    """Pillow's object for a file in memory, nothing decoded yet.

    Through the format's own class: `Image.open` measures pictures against a limit of its own and warns globally.
    """
    module, name = _PLUGINS[kind]
    return getattr(require(module, _PURPOSE), name)(io.BytesIO(data))


def needs_opencv(kind: Format, parts: Parts, image: Any) -> bool:
    """Whether Pillow would cut the samples to 8 bits."""
    return kind in ("png", "tiff") and parts.bits == 16 and not image.mode.startswith("I;16")


def decode_opencv(data: bytes) -> Picture:
    """A picture of 16 bits per sample with several channels."""
    cv2 = require("cv2", "reading images of 16 bits per sample")
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise InputError("it is corrupt, or of a kind of 16-bit picture that is not supported")
    order = [2, 1, 0, 3][: array.shape[2]]
    return PIXEL_FORMATS["rgb48le" if len(order) == 3 else "rgba64le"], np.ascontiguousarray(array[:, :, order])


def decode_pillow(image: Any, parts: Parts) -> Picture:
    """The current frame of a Pillow image, as it is stored: nothing turned."""
    image.load()
    mode: str = image.mode
    transparency = image.info.get("transparency")
    if mode in ("1", "L", "RGB") and transparency is not None:
        return _keyed(np.array(image.convert("L") if mode == "1" else image), transparency, parts.bits)
    if mode.startswith("I;16"):
        gray = np.array(image).astype(np.uint16, copy=False)
        if parts.bits < 16:
            gray = _spread(gray, parts.bits)
        if getattr(image, "tag_v2", {}).get(262) == 0:  # TIFF: zero is white, which Pillow minds for 8 bits alone
            gray = 65535 - gray
        return (PIXEL_FORMATS["gray16le"], gray) if transparency is None else _keyed(gray, transparency, 16)
    if mode == "P":
        mode = "RGBA" if transparency is not None or image.palette.mode == "RGBA" else "RGB"
        return _packed(image.convert(mode), mode)
    if mode in ("CMYK", "YCbCr", "RGBX"):
        return _packed(cmyk_to_rgb(image, parts.details.icc_profile) if mode == "CMYK" else image.convert("RGB"), "RGB")
    if mode in ("PA", "RGBa"):
        return _packed(image.convert("RGBA"), "RGBA")
    if mode in ("1", "L"):
        return PIXEL_FORMATS["gray"], np.array(image.convert("L"))
    if mode in ("LA", "La"):
        return PIXEL_FORMATS["ya8"], np.array(image.convert("LA"))
    if mode in ("RGB", "RGBA"):
        return _packed(image, mode)
    raise InputError(f"pictures of this kind ({mode}: floating point, 32 bits or Lab) are not supported")


def with_alpha(picture: NDArray[np.uint8]) -> Picture:
    """An 8-bit picture of any channels as rgba: all frames of an animation get one format."""
    height, width = picture.shape[:2]
    channels = picture.reshape(height, width, -1)
    alpha = channels[..., -1] if channels.shape[2] in (2, 4) else np.full((height, width), 255, np.uint8)
    gray = channels.shape[2] <= 2
    return PIXEL_FORMATS["rgba"], np.dstack([channels[..., 0 if gray else c] for c in range(3)] + [alpha])


def _packed(image: Any, mode: str) -> Picture:
    return PIXEL_FORMATS["rgb24" if mode == "RGB" else "rgba"], np.array(image)


def _spread(codes: NDArray[np.uint16], bits: int) -> NDArray[np.uint16]:
    """Codes of 9 to 15 bits to the whole range of 16, largest to largest."""
    return ((codes << (16 - bits)) | (codes >> (2 * bits - 16))).astype(np.uint16)


def _keyed(array: NDArray[Any], key: int | tuple[int, ...], bits: int) -> Picture:
    """A picture in which one colour stands for nothing (PNG's tRNS), with an alpha channel instead."""
    top = np.iinfo(array.dtype).max
    if bits < 8:
        key = int(np.ravel(key)[0]) * (255 // ((1 << bits) - 1))
    if array.ndim == 2:
        alpha = np.where(array == key, 0, top).astype(array.dtype)
        if array.dtype == np.uint8:
            return PIXEL_FORMATS["ya8"], np.dstack((array, alpha))
        return PIXEL_FORMATS["rgba64le"], np.dstack((array, array, array, alpha))
    alpha = np.where((array == np.asarray(key)).all(axis=2), 0, top).astype(array.dtype)
    return PIXEL_FORMATS["rgba"], np.dstack((array, alpha))


def cmyk_to_rgb(image: Any, profile: bytes | None) -> Any:
    """CMYK to sRGB, through the embedded profile if there is a sound one, else R = (1 - C)(1 - K).

    Pillow has undone Adobe's inversion (0 means no ink here), as every viewer does for CMYK in JPEG.
    """
    if profile is not None:
        cms = require("PIL.ImageCms", "reading CMYK images")
        try:
            return cms.profileToProfile(
                image, cms.ImageCmsProfile(io.BytesIO(profile)), cms.createProfile("sRGB"), outputMode="RGB"
            )
        except (cms.PyCMSError, OSError, ValueError):
            pass  # a profile that is damaged or for other colours: viewers ignore it, too
    return image.convert("RGB")


def jpeg_coding(image: Any) -> dict[str, Any]:
    """How a JPEG is coded, as fields of ImageDetails: tables per component, chroma subsampling, scan order."""
    tables = tuple(tuple(int(q) for q in image.quantization[layer[3]]) for layer in image.layer)
    sampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:4:4"
    if len(image.layer) == 3 and all(layer[1:3] == (1, 1) for layer in image.layer[1:]):
        # others (4:1:1, 4:4:0) cannot be written; they keep all their chroma as 4:4:4
        sampling = {(2, 1): "4:2:2", (2, 2): "4:2:0"}.get(tuple(image.layer[0][1:3]), "4:4:4")  # type: ignore[assignment]
    return {
        "jpeg_tables": tables,
        "jpeg_subsampling": sampling,
        "jpeg_progressive": bool(image.info.get("progressive")),
        "jpeg_rgb": len(tables) == 3 and image.info.get("adobe_transform") == 0,
    }


def verify_jpeg(data: bytes) -> None:
    """Raise InputError if the coded data of a JPEG is damaged.

    libjpeg only warns of it (and Pillow does not pass that on); FFmpeg's decoder, told to, fails. It does not know all
    that libjpeg knows: a JPEG that it does not support counts as sound.
    """
    av = require("av", "checking JPEG files")
    codec = av.CodecContext.create("mjpeg", "r")
    codec.options = {"err_detect": "explode"}
    codec.thread_count = 1
    try:
        frames = codec.decode(av.Packet(data)) + codec.decode(None)
    except av.error.InvalidDataError as error:
        raise InputError("the JPEG is corrupt: its coded data is damaged") from error
    except av.error.FFmpegError:
        return
    for frame in frames:
        if frame.is_corrupt:
            raise InputError("the JPEG is corrupt: its coded data is damaged")
