"""Opening a media file: only containers that hold their streams themselves, and no other file, ever."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon._optional import require
from trt_anon.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg's demuxer names. A list of what is allowed, because playlists (HLS, DASH, concat), devices, SDP, picture
# sequences and text "movies" would open other files or the network, or turn any text into a video.
DEMUXERS = (
    "mov", "matroska", "webm", "avi", "mpegts", "mpeg", "h264", "hevc", "m4v", "mpegvideo", "obu", "av1", "ivf", "flv",
    "asf", "ogg", "mxf", "nut", "vc1", "dv", "wtv", "yuv4mpegpipe", "mjpeg",
)  # fmt: skip

# Still pictures in an MP4-like box structure: FFmpeg shows them as one-frame videos, or as one video per tile.
_HEIF_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"miaf"}


def check_readable(path: Path) -> int:
    """Size in bytes of a regular file that can be read; InputError says why it is not one."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder, not a video")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is not a regular file; copy its contents into one first")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if status.st_size == 0:
        raise InputError(f"{path} is empty")
    return status.st_size


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is a HEIF or AVIF picture."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def open_input(path: Path) -> InputContainer:
    """Open a container for reading; it reads `path` and nothing else, whatever the name looks like or the file says.

    Raises InputError where the file is missing, empty, not a regular file, or no container of `DEMUXERS`.
    """
    av = require("av", "reading video")
    check_readable(path)
    with path.open("rb") as file:
        if is_heif(file.read(16)):
            raise InputError(f"{path} is a HEIF or AVIF picture, which is not supported; convert it to PNG or JPEG")
    try:
        # `file:` keeps names such as `http://x` or `concat:a|b` names of files; absolute, so that `-x` is one too.
        container: InputContainer = av.open(
            f"file:{path.absolute()}",
            metadata_errors="replace",
            container_options={"protocol_whitelist": "file", "format_whitelist": ",".join(DEMUXERS)},
        )
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{path} is not a video that can be read ({reason}): it is damaged, cut off before its index, "
            "or of no supported container (MP4, MOV, MKV, WebM, AVI, TS, raw H.264 among others)"
        ) from error
    return container


def pick_video(container: InputContainer) -> VideoStream | None:
    """The video stream that a player shows: FFmpeg's choice among those that are not cover pictures; None if none is.

    Streams for which there is no decoder count: a caller must refuse them rather than take another one.
    """
    av = require("av", "reading video")
    still = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    real = [s for s in container.streams.video if not s.disposition & still]
    if not real:
        return None
    best = container.streams.best("video")
    return best if best in real else real[0]
