"""Encoding of pictures to the bytes of an image file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.media import ImageDetails

Pictures = list[NDArray[Any]]

_PURPOSE = "writing images"
DEFAULT_QUALITY = 95


def encode(image_format: str, pictures: Pictures, details: ImageDetails, quality: int | None) -> bytes:
    """Pictures ((H, W) or (H, W, C) of gray, gray and alpha, RGB, RGBA; uint8 or uint16) as one file's bytes.

    Raises OSError or ValueError where the encoder refuses.
    """
    if image_format == "png":
        if pictures[0].dtype == np.uint16:
            return _png16(pictures[0])
        return _png(pictures, details)
    pictures = [_to_8_bits(picture) for picture in pictures]
    if image_format == "jpeg":
        return _jpeg(_over_white(pictures[0]), details, quality)
    if image_format == "webp":
        return _webp(pictures, details, quality)
    images = [_in_srgb(_image(picture), details.icc_profile) for picture in pictures]
    if image_format == "bmp":
        return _bmp(images[0])
    return _gif(images, details)


def _image(picture: NDArray[Any]) -> Any:
    return require("PIL.Image", _PURPOSE).fromarray(np.ascontiguousarray(picture))


def _saved(image: Any, name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def _to_8_bits(picture: NDArray[Any]) -> NDArray[np.uint8]:
    if picture.dtype == np.uint8:
        return picture
    return ((picture.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _over_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture without its alpha channel, laid over white."""
    if picture.ndim == 2 or picture.shape[2] == 3:
        return picture
    alpha = picture[..., -1:].astype(np.uint32)
    color = (picture[..., :-1] * alpha + 255 * (255 - alpha) + 127) // 255
    return color.astype(np.uint8)[..., 0] if color.shape[2] == 1 else color.astype(np.uint8)


def _in_srgb(image: Any, profile: bytes | None) -> Any:
    """An 8-bit image in sRGB, for formats that hold no profile; alpha and grey stay."""
    if profile is None or image.mode not in ("RGB", "RGBA"):
        return image
    cms = require("PIL.ImageCms", _PURPOSE)
    try:
        source = cms.ImageCmsProfile(io.BytesIO(profile))
        converted = cms.profileToProfile(image.convert("RGB"), source, cms.createProfile("sRGB"), outputMode="RGB")
    except cms.PyCMSError as error:
        raise ValueError(f"the colour profile cannot be applied: {error}") from error
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def exif_of(captured: str | None) -> bytes:
    """An EXIF block with the time of capture and nothing else; empty for None."""
    if captured is None:
        return b""
    exif = require("PIL.Image", _PURPOSE).Exif()
    exif.get_ifd(0x8769)[0x9003] = captured
    block: bytes = exif.tobytes()
    return block


def _jpeg(picture: NDArray[np.uint8], details: ImageDetails, quality: int | None) -> bytes:
    options: dict[str, Any] = {"subsampling": "4:4:4", "quality": quality or DEFAULT_QUALITY}
    tables = details.jpeg_tables
    if tables:
        options["subsampling"] = details.jpeg_subsampling
        if quality is None:
            components = 1 if picture.ndim == 2 else 3
            # a fourth table is that of K in CMYK, which is not written; one table serves all components
            options["qtables"] = [list(table) for table in tables[:components]]
            del options["quality"]
    options |= {"icc_profile": details.icc_profile, "exif": exif_of(details.captured), "comment": None}
    if details.jpeg_rgb and picture.ndim == 3:
        options |= {"keep_rgb": True, "subsampling": "4:4:4"}
    if details.dpi is not None:
        options["dpi"] = details.dpi
    image = _image(picture)
    if details.jpeg_progressive:
        try:
            return _saved(image, "JPEG", progressive=True, **options)
        except OSError:
            # Pillow reserves two bytes a pixel for a progressive file: not enough for noise with fine tables
            pass
    return _saved(image, "JPEG", **options)


def _webp(pictures: Pictures, details: ImageDetails, quality: int | None) -> bytes:
    lossless = quality is None and details.lossless
    options: dict[str, Any] = {"lossless": lossless, "quality": 75 if lossless else quality or DEFAULT_QUALITY}
    options |= {"icc_profile": details.icc_profile, "exif": exif_of(details.captured)}
    images = [_image(picture) for picture in pictures]
    if len(images) == 1:
        return _saved(images[0], "WEBP", exact=True, method=4, **options)
    durations = [max(0, d) for d in details.durations_ms]
    return _saved(
        images[0],
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations[-len(images) :],
        loop=_plays(details),
        **options,
    )


def _plays(details: ImageDetails) -> int:
    return 1 if details.loop is None else details.loop


def _png(pictures: Pictures, details: ImageDetails) -> bytes:
    images = [_image(picture) for picture in pictures]
    if len(images) == 1:
        return _saved(images[0], "PNG")
    return _saved(
        images[0],
        "PNG",
        save_all=True,
        append_images=images[1:],
        duration=list(details.durations_ms),
        loop=_plays(details),
        default_image=details.default_image,
        disposal=0,
        blend=0,
    )


def _png16(picture: NDArray[np.uint16]) -> bytes:
    cv2 = require("cv2", "writing PNG files of 16 bits per sample")
    return _opencv(cv2, ".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6])


def _bmp(image: Any) -> bytes:
    if image.mode not in ("LA", "RGBA"):
        return _saved(image, "BMP")
    # Pillow writes alpha without saying so in the header, and readers ignore it then
    return _opencv(require("cv2", "writing BMP files with alpha"), ".bmp", np.array(image.convert("RGBA")), [])


def _opencv(cv2: Any, suffix: str, picture: NDArray[Any], options: list[int]) -> bytes:
    if picture.ndim == 3:
        picture = picture[:, :, [2, 1, 0, 3][: picture.shape[2]]]
    try:
        done, data = cv2.imencode(suffix, np.ascontiguousarray(picture), options)
    except cv2.error as error:
        raise OSError(f"OpenCV refuses: {error.err}") from error
    if not done:
        raise OSError(f"OpenCV's {suffix} encoder failed")
    return bytes(data)


def insert_png_chunks(data: bytes, details: ImageDetails) -> bytes:
    """A PNG file with its colour, resolution and time of capture put in after the header."""
    chunks: list[tuple[bytes, bytes]] = []
    if details.icc_profile is not None:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(details.icc_profile)))
    chunks += [c for c in details.png_color if not (c[0] == b"sRGB" and details.icc_profile is not None)]
    if details.dpi is not None:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(n / 0.0254) for n in details.dpi), 1)))
    if details.captured is not None:
        chunks.append((b"eXIf", exif_of(details.captured).removeprefix(b"Exif\0\0")))
    raw = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return data[:33] + raw + data[33:]


def _gif(images: list[Any], details: ImageDetails) -> bytes:
    indexed = [_indexed(image) for image in images]
    clear = any("transparency" in image.info for image in indexed)
    options: dict[str, Any] = {"optimize": False}
    if len(indexed) > 1:
        options |= {
            "save_all": True,
            "append_images": indexed[1:],
            "duration": list(details.durations_ms)[-len(indexed) :],
            # a pixel that becomes transparent shows only if the frame before it is cleared
            "disposal": 2 if clear else 1,
        }
        if _plays(details) != 1:  # GIF counts what comes after the first showing, and says nothing for once
            options["loop"] = max(0, _plays(details) - 1)
    return _saved(indexed[0], "GIF", **options)


def _indexed(image: Any) -> Any:
    """A palette image: 256 colours, or 255 and a transparent one where alpha is below half."""
    if image.mode in ("L", "LA"):
        image = image.convert("RGB" if image.mode == "L" else "RGBA")
    clear = np.asarray(image.getchannel("A")) < 128 if image.mode == "RGBA" else np.zeros((1, 1), np.bool_)
    plain = image.convert("RGB")
    module = require("PIL.Image", _PURPOSE)
    some = bool(clear.any())
    indexed = plain.quantize(255 if some else 256, method=module.Quantize.MEDIANCUT, dither=module.Dither.NONE)
    if not some:
        return indexed
    codes = np.array(indexed)
    codes[clear] = 255
    result = module.fromarray(codes, "P")
    palette = (indexed.getpalette("RGB") or [])[:765]
    result.putpalette(palette + [0] * (768 - len(palette)), "RGB")
    result.info["transparency"] = 255
    return result
