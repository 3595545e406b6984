"""The encoder of each codec family: what it takes, how fast it is set, and what a quality means for it.

Presets and default qualities were chosen by measurement on street, film and face clips of 640x272 to 1920x1080, against
the very frames given: the fastest preset that is not wasteful, at the quantizer where luma SSIM lies at or just around
0.99, which is visually lossless. At 768x432 (two cores of a shared machine, medians), core-milliseconds per frame, luma
PSNR and SSIM: H.264 2.8 (51.5 dB, .996), HEVC 11.5 (47.1, .990), VP8 2.3 (48.3, .992), VP9 3.6 (47.8, .992),
AV1 7.0 (47.4, .991), MPEG-4 1.1 (46.6, .989), MJPEG 1.7 (47.9, .993). At 1920x1080 H.264 takes 21 (50.1 dB, .995).
x264's `veryfast` halves the file for 40% more time; `ultrafast` doubles it for 40% less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

DEFAULT_QUALITY = 75  # of 1 to 100: where the visually lossless setting lies on that scale


@dataclass(frozen=True, slots=True)
class Encoder:
    """One FFmpeg encoder. `best`, `default`, `worst`: quantizer settings, lower is better.

    pixel_formats: what it takes. odd_sizes: whether width and height may be odd where chroma is subsampled.
    reorders: whether it makes B-frames, whose decoding times are then the encoder's own.
    preset_option: the option that a preset sets. tells_aspect: the stream itself names the shape of its pixels.
    writes_side_data: it writes EXIF and colour profiles that came with a decoded frame, which therefore must not.
    """

    family: str
    name: str
    pixel_formats: frozenset[str]
    best: int
    default: int
    worst: int
    preset_option: str
    preset: str
    odd_sizes: bool = True
    reorders: bool = False
    tells_aspect: bool = True
    writes_side_data: bool = False

    def quantizer(self, quality: int | None) -> int:
        """Setting for a quality of 1 to 100, never worse for a higher one; None is visually lossless."""
        if quality is None:
            return self.default
        if quality >= DEFAULT_QUALITY:
            return round(
                self.default + (self.best - self.default) * (quality - DEFAULT_QUALITY) / (100 - DEFAULT_QUALITY)
            )
        return round(self.worst + (self.default - self.worst) * (quality - 1) / (DEFAULT_QUALITY - 1))

    def options(
        self, quality: int | None, preset: str | None, b_frames: bool, captions: bool, pixels_per_second: Fraction
    ) -> dict[str, str]:
        """FFmpeg options. captions: keep closed captions that lie inside the video's frames."""
        quantizer = str(self.quantizer(quality))
        options = {self.preset_option: preset or self.preset} if self.preset_option else {}
        if self.family in ("h264", "hevc", "av1"):
            options["crf"] = quantizer
        if self.family in ("h264", "hevc"):
            options["a53cc"] = str(int(captions))
        if self.family == "h264" and not b_frames:
            options["bf"] = "0"
        if self.family == "hevc":  # info=0: no note about the encoder and its settings in the stream
            options["x265-params"] = "log-level=none:info=0" + ("" if b_frames else ":bframes=0")
        if self.family in ("vp8", "vp9"):
            options |= {"crf": quantizer, "deadline": "realtime", "lag-in-frames": "0", "auto-alt-ref": "0"}
        if self.family == "vp8":  # its constant quality is bounded by a bit rate, here never reached
            options["b"] = str(min(max(int(2 * pixels_per_second), 2_000_000), 2_000_000_000))
        if self.family == "vp9":
            options |= {"b": "0", "row-mt": "1", "tile-columns": "2"}
        if self.family in ("mpeg4", "mjpeg"):
            options |= {"qmin": quantizer, "qmax": quantizer}
        if self.family == "mpeg4":
            options["g"] = "120"
        if self.family == "mjpeg":
            options["strict"] = "unofficial"  # limited range
        return options


_YUV8 = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p")
_YUV10 = ("yuv420p10le", "yuv422p10le", "yuv444p10le")
_YUV12 = ("yuv420p12le", "yuv422p12le", "yuv444p12le")

ENCODERS: Mapping[str, Encoder] = {
    encoder.family: encoder
    for encoder in (
        Encoder(
            "h264", "libx264", frozenset((*_YUV8, *_YUV10, "nv12", "gray", "gray10le")), 8, 18, 45,
            "preset", "superfast", odd_sizes=False, reorders=True,
        ),
        Encoder(
            "hevc", "libx265", frozenset((*_YUV8, *_YUV10, *_YUV12, "gray", "gray10le")), 8, 17, 45,
            "preset", "ultrafast", odd_sizes=False, reorders=True,
        ),
        Encoder("vp8", "libvpx", frozenset(("yuv420p",)), 4, 10, 63, "cpu-used", "16", tells_aspect=False),
        Encoder(
            "vp9", "libvpx-vp9", frozenset(("yuv420p", "yuv422p", "yuv444p")), 6, 20, 63,
            "cpu-used", "8", tells_aspect=False,
        ),
        Encoder(
            "av1", "libsvtav1", frozenset(("yuv420p", "yuv420p10le")), 8, 22, 63, "preset", "10", tells_aspect=False
        ),
        Encoder("mpeg4", "mpeg4", frozenset(("yuv420p",)), 2, 2, 31, "", ""),
        Encoder("mjpeg", "mjpeg", frozenset(_YUV8), 1, 2, 31, "", "", writes_side_data=True),
    )
}  # fmt: skip
"""Encoders by codec family (FFmpeg's codec names)."""

# Formats of the same samples: an encoder that lacks the first may be given the second without any loss.
_SAME_SAMPLES = {
    "nv12": "yuv420p", "p010le": "yuv420p10le", "gray": "yuv420p", "gray10le": "yuv420p10le",
    "yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p",
}  # fmt: skip


def accepted_format(encoder: Encoder, pixel_format: str, width_px: int, height_px: int) -> str | None:
    """The format to give this encoder pictures of `pixel_format` in, of exactly the same samples; None if none is."""
    target = pixel_format if pixel_format in encoder.pixel_formats else _SAME_SAMPLES.get(pixel_format, "")
    if target not in encoder.pixel_formats:
        return None
    odd = (width_px % 2 and ("420" in target or "422" in target or target == "nv12")) or (
        height_px % 2 and ("420" in target or target == "nv12")
    )
    return None if odd and not encoder.odd_sizes else target
