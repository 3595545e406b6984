"""The containers that are written: their names, what each may hold, and how each keeps time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trt_anon.errors import UsageError
from trt_anon.sink.encoders import ENCODERS, Encoder, accepted_format


@dataclass(frozen=True, slots=True)
class ContainerKind:
    """One kind of file.

    families: video codecs, in order of preference where the input's own has no encoder. timing: `exact` keeps any time
    in the input's units; `milliseconds` rounds to them (Matroska); `slots` holds a constant rate with gaps (AVI);
    `none` a constant rate alone. other_streams: codecs of audio and subtitles it may hold, None to ask FFmpeg.
    """

    name: str
    muxer: str
    suffixes: tuple[str, ...]
    families: tuple[str, ...]
    timing: Literal["exact", "milliseconds", "slots", "none"] = "exact"
    b_frames: bool = True
    display_matrix: bool = False
    other_streams: frozenset[str] | None = None


_TS_STREAMS = frozenset(
    (
        "aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus", "s302m", "pcm_bluray",
        "dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle",
    )
)  # fmt: skip

CONTAINERS = {
    kind.name: kind
    for kind in (
        ContainerKind(
            "mp4", "mp4", (".mp4", ".m4v"), ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg"), display_matrix=True
        ),
        ContainerKind("mov", "mov", (".mov", ".qt"), ("h264", "hevc", "mpeg4", "mjpeg"), display_matrix=True),
        ContainerKind(
            "mkv", "matroska", (".mkv",), ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mjpeg"), "milliseconds",
            display_matrix=True,
        ),
        ContainerKind("webm", "webm", (".webm",), ("vp9", "vp8", "av1"), "milliseconds", display_matrix=True),
        ContainerKind("avi", "avi", (".avi",), ("mpeg4", "h264", "mjpeg"), "slots", b_frames=False),
        ContainerKind("ts", "mpegts", (".ts", ".mts", ".m2ts"), ("h264", "hevc"), b_frames=False,
                      other_streams=_TS_STREAMS),
        ContainerKind("h264", "h264", (".h264", ".264", ".avc"), ("h264",), "none", other_streams=frozenset()),
        ContainerKind("hevc", "hevc", (".hevc", ".h265", ".265"), ("hevc",), "none", other_streams=frozenset()),
    )
}  # fmt: skip
"""Every kind of file that is written, by name."""


def container_kind(path: Path, name: str | None) -> ContainerKind:
    """The kind called `name`, or else the one that the file's suffix means. Raises UsageError for an unknown one."""
    if name is not None:
        if name in CONTAINERS:
            return CONTAINERS[name]
        raise UsageError(f"unknown container {name!r}; choose one of {', '.join(CONTAINERS)}")
    for kind in CONTAINERS.values():
        if path.suffix.lower() in kind.suffixes:
            return kind
    known = ", ".join(suffix for kind in CONTAINERS.values() for suffix in kind.suffixes)
    raise UsageError(f"cannot write video to {path.name!r}: its suffix must be one of {known}")


def choose_encoder(
    kind: ContainerKind, codec: str, input_codec: str, pixel_format: str, width_px: int, height_px: int
) -> tuple[Encoder, str]:
    """The encoder, and the pixel format to feed it.

    `codec` is a family, or `same` for that of the input. An input family without an encoder here (msmpeg4, ProRes, VC-1
    and so on) becomes the container's first family that takes the pictures unchanged: H.264 in most, VP9 in WebM,
    MPEG-4 in AVI. Everything else that does not fit is a UsageError which says what would.
    """

    def fits(family: str) -> str | None:
        return accepted_format(ENCODERS[family], pixel_format, width_px, height_px)

    wanted = input_codec if codec == "same" else codec
    fitting = [family for family in kind.families if fits(family)]
    if wanted not in ENCODERS:
        if not fitting:
            raise UsageError(
                _advice(kind, f"{kind.name} holds no codec for", pixel_format, width_px, height_px, fitting)
            )
        wanted = fitting[0]
    if wanted not in kind.families:
        homes = [f"{k.suffixes[0]}" for k in CONTAINERS.values() if wanted in k.families]
        also = f", or one of the codecs {', '.join(f for f in fitting)}" if fitting else ""
        raise UsageError(
            f"{kind.name} does not hold {wanted} video; choose a file name that ends in {' or '.join(homes)}{also}"
        )
    target = fits(wanted)
    if target is None:
        raise UsageError(
            _advice(kind, f"the {wanted} encoder does not take", pixel_format, width_px, height_px, fitting)
        )
    return ENCODERS[wanted], target


def _advice(
    kind: ContainerKind, what: str, pixel_format: str, width_px: int, height_px: int, fitting: list[str]
) -> str:
    text = f"{what} pictures of {width_px}x{height_px} in {pixel_format} unchanged; "
    if fitting:
        return text + f"choose another codec for {kind.name}: {', '.join(fitting)}"
    elsewhere = {
        f"{k.suffixes[0]} with {family}"
        for k in CONTAINERS.values()
        for family in k.families
        if accepted_format(ENCODERS[family], pixel_format, width_px, height_px)
    }
    return text + (
        f"choose another kind of file: {', '.join(sorted(elsewhere))}" if elsewhere else "convert them first"
    )
