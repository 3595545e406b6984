"""Video files decoded on the CPU by FFmpeg, frame by frame, in the decoder's own pixel format."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trt_anon._optional import require
from trt_anon.container import check_readable, open_input, pick_video
from trt_anon.errors import InputError
from trt_anon.media import MediaInfo
from trt_anon.source.damage import DamagedSpans, find_damage
from trt_anon.source.display_crop import Margins, display_crop
from trt_anon.source.layout import BT709, FULL_RANGE, in_layout, is_rgb, nearest_format, plane_views
from trt_anon.source.ledger import Ledger
from trt_anon.source.truncation import check_complete
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Orientation

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_PIXELS = 1 << 26
"""A frame may have so many pixels, twice 8K: small files may announce any size, and a dozen frames are held."""

# Demuxers of streams without a container: they hold no times at all.
BARE = {"h264", "hevc", "m4v", "mpegvideo", "obu", "av1", "vc1", "mjpeg"}
# Demuxers whose packets may lack presentation times that FFmpeg can find reliably by looking ahead.
_LOOK_AHEAD = {"mpegts", "mpeg"}
_GENERATE_PTS = 0x1  # AVFMT_FLAG_GENPTS
# H.264's decoder marks frames that it had to repair, and in strict mode refuses sound pictures for a malformed
# supplementary message. Others pass over errors without a mark unless they are strict.
_MARKS_DAMAGE = {"h264"}
# ITU-T H.273 matrix coefficients to the matrices that detection knows.
_MATRICES = {1: "bt709", 7: "bt709", 12: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}
_UNSUPPORTED_MATRICES = {8: "YCgCo", 11: "YDzDx", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}


class PyAVSource:
    """Frames of the video stream of a file, in presentation order, each with its exact time.

    The stream is the one a player shows (FFmpeg's choice), never a cover picture. Formats that the stages do not know
    are converted as `trt_anon.source.layout.nearest_format` says; all others are untouched. Where the file does not
    name the colour matrix, detection assumes BT.709 for pictures wider than 1279 or higher than 576 pixels and BT.601
    below, as players do; nothing is written into the output for it. `threads` are the decoder's, None for all cores.

    Raises InputError on anything that cannot be shown as the file means it: damaged or missing frames, files cut off,
    times that do not increase, a change of size or pixel format in mid-stream, no video, no frames. Damage that still
    decodes to some picture (HEVC, VP8 and VP9 have no means to notice) shows that picture, as any player would.

    With `conceal_damage`, damage to single packets and frames is no error: all frames of the groups of pictures that it
    may have spread to are marked `concealed`, and a frame that did not come out is given without a picture, to be
    redacted whole like them. The file is decoded once more for that, before the first frame. Files cut off, and streams
    whose packets carry no times (AVI, bare streams), are refused as ever.
    """

    _first_index = 0

    def __init__(self, path: str | Path, *, threads: int | None = None, conceal_damage: bool = False) -> None:
        self._av = require("av", "reading video")
        self._path = Path(path)
        self._conceals = conceal_damage
        self._damaged = DamagedSpans([])
        size_bytes = check_readable(self._path)
        self._container: InputContainer | None = open_input(self._path)
        try:
            check_complete(self._path, self._container.format.name, size_bytes)
            if conceal_damage:
                self._damaged = self._find_damage(threads)
            self._info, self._frames = self._start(self._container, threads)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> MediaInfo:
        """What is known before the first frame; the first one has been decoded for it."""
        return self._info

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once; their planes are the caller's to change. Raises InputError."""
        frames, self._frames = self._frames, None
        if frames is None:
            raise RuntimeError("a source is iterated once; open the file again")
        return self._views(frames)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        container, self._container = self._container, None
        if container is not None:
            container.close()

    def _find_damage(self, threads: int | None) -> DamagedSpans:
        with open_input(self._path) as container:
            stream, _, ledger = self._prepare(container, threads, "NONE")
            try:
                return find_damage(container, stream, ledger)
            except (self._av.FFmpegError, ValueError) as error:
                raise self._broken(ledger, None, error) from error

    def _start(
        self, container: InputContainer, threads: int | None
    ) -> tuple[MediaInfo, Iterator[tuple[VideoFrame | None, int]] | None]:
        stream, rate, ledger = self._prepare(container, threads, "AUTO")
        frames = self._decode(container, stream, ledger)
        seen: list[tuple[VideoFrame | None, int]] = []
        first = None
        while first is None:
            first, pts = next(frames)  # `_decode` raises where there is none
            seen.append((first, pts))
        info = self._describe(container, stream, rate, first)
        return info, _chain(seen, frames)

    def _prepare(
        self, container: InputContainer, threads: int | None, thread_type: Literal["AUTO", "NONE"]
    ) -> tuple[VideoStream, Fraction, Ledger]:
        """The stream to show, ready to be decoded, its rate, and new books for it."""
        name = container.format.name
        stream = pick_video(container)
        if stream is None:
            raise InputError(f"{self._path} holds no video stream")
        context = stream.codec_context
        if context is None:
            raise InputError(f"{self._path} holds video of a codec that cannot be decoded here")
        codec = context.codec.canonical_name
        if context.width * context.height > MAX_PIXELS:
            raise InputError(
                f"{self._path} has pictures of {context.width}x{context.height}; the limit is {MAX_PIXELS} pixels"
            )
        stream.thread_type = thread_type
        context.thread_count = threads or 0
        context.options = {"max_pixels": str(MAX_PIXELS)}
        if codec not in _MARKS_DAMAGE:
            context.options = {**context.options, "err_detect": "explode+crccheck+bitstream+buffer"}
        names = set(name.split(","))
        if not names & _LOOK_AHEAD:
            container.flags &= ~_GENERATE_PTS
        bare = bool(names & BARE)
        # Bare streams state no average rate, FFmpeg reports its default of 25 there; the codec's own is the guess.
        rate = (stream.guessed_rate if bare else stream.average_rate) or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or Fraction(1, 90000)
        step = 1 / (rate * time_base)
        ledger = Ledger(
            str(self._path),
            codec,
            time_base,
            step if bare else None,
            counted=name == "avi",
            forgiving=self._conceals,
            known_damage=self._damaged,
        )
        return stream, rate, ledger

    def _broken(self, ledger: Ledger, at: int | None, error: Exception) -> InputError:
        reason = getattr(error, "strerror", None) or str(error)
        return InputError(f"{self._path} is damaged or cut off near {ledger.time(at)}: {reason}")

    def _decode(
        self, container: InputContainer, stream: VideoStream, ledger: Ledger
    ) -> Iterator[tuple[VideoFrame | None, int]]:
        """Frames as the decoder gives them, each with its time, checked by the ledger; None is one that never came."""
        at: int | None = None
        lost = 0
        try:
            for packet in container.demux(stream):
                ledger.packet(packet)
                at = packet.pts if packet.pts is not None else at
                try:
                    decoded = packet.decode()
                except (self._av.FFmpegError, ValueError):
                    if not ledger.forgives:
                        raise
                    continue
                for frame in decoded:
                    pts = ledger.frame(frame)
                    yield from ((None, missing) for missing in ledger.lost[lost:])
                    lost = len(ledger.lost)
                    yield frame, pts
        except (self._av.FFmpegError, ValueError) as error:
            raise self._broken(ledger, at, error) from error
        if "mov" in container.format.name and ledger.packets_read < len(stream.index_entries):
            raise InputError(
                f"{self._path} is cut off near {ledger.time(at)}: "
                f"{ledger.packets_read} of {len(stream.index_entries)} frames are there"
            )
        ledger.finish()
        yield from ((None, missing) for missing in ledger.lost[lost:])

    def _describe(self, container: InputContainer, stream: VideoStream, rate: Fraction, frame: VideoFrame) -> MediaInfo:
        native = frame.format.name
        target = nearest_format(native)
        context = stream.codec_context
        matrix = frame.colorspace if frame.colorspace != 2 else context.colorspace
        color_range = frame.color_range or context.color_range
        if is_rgb(native):  # converted by `in_layout`
            matrix, color_range = BT709, FULL_RANGE
        elif target.startswith("yuvj"):
            color_range = FULL_RANGE
        if matrix in _UNSUPPORTED_MATRICES or (matrix == 0 and not is_rgb(native)):
            kind = _UNSUPPORTED_MATRICES.get(matrix, "GBR")
            raise InputError(f"{self._path} holds colours as {kind}, which is not supported; convert it to YUV first")
        large = frame.width >= 1280 or frame.height > 576
        display = _display_matrix(frame)
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        if duration is None and container.duration:
            duration = Fraction(container.duration, self._av.time_base)
        return MediaInfo(
            kind="video",
            width_px=frame.width,
            height_px=frame.height,
            pixel_format=PIXEL_FORMATS[target],
            codec=context.codec.canonical_name,
            container=container.format.name,
            time_base=stream.time_base or Fraction(1, 90000),
            average_rate=rate,
            frames_estimate=stream.frames or None,
            duration_seconds=None if duration is None else float(duration),
            bit_rate=stream.bit_rate or None,
            sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
            orientation=orientation_of(display),
            display_matrix=display,
            color=Color(
                matrix=_MATRICES.get(matrix, "bt709" if large else "bt601"),  # type: ignore[arg-type]
                full_range=color_range == FULL_RANGE,
            ),
            color_range=color_range,
            color_primaries=frame.color_primaries if frame.color_primaries != 2 else context.color_primaries,
            color_trc=frame.color_trc if frame.color_trc != 2 else context.color_trc,
            color_space=matrix,
            field_order=context.field_order,
            hidden_margins_px=self._hidden_margins(container, stream, frame),
        )

    def _hidden_margins(self, container: InputContainer, stream: VideoStream, frame: VideoFrame) -> Margins | None:
        order = [s.index for s in container.streams.video].index(stream.index)
        return display_crop(self._path, container.format.name, stream.id, order, frame.width, frame.height)

    def _views(self, frames: Iterator[tuple[VideoFrame | None, int]]) -> Iterator[Frame]:
        info = self._info
        native_format: str | None = None
        for index, (decoded, pts) in enumerate(frames, self._first_index):
            if decoded is None:
                yield self._view(self._av.VideoFrame(info.width_px, info.height_px, info.pixel_format.name), pts, index)
                continue
            native_format = native_format or decoded.format.name
            if (decoded.width, decoded.height) != (
                info.width_px,
                info.height_px,
            ) or decoded.format.name != native_format:
                raise InputError(
                    f"{self._path} changes from {info.width_px}x{info.height_px} {native_format} to "
                    f"{decoded.width}x{decoded.height} {decoded.format.name} at {float(pts * info.time_base):.3f} s; "
                    "split the file there first"
                )
            own = in_layout(decoded, info.pixel_format.name, info.color.full_range)
            concealed = decoded.is_corrupt or pts in self._damaged
            yield self._view(own, pts, index, concealed=concealed, interlaced=decoded.interlaced_frame)

    def _view(
        self, own: VideoFrame, pts: int, index: int, *, concealed: bool = True, interlaced: bool = False
    ) -> Frame:
        info = self._info
        own.pts, own.time_base = pts, info.time_base
        return Frame(
            planes=plane_views(own, info.pixel_format),
            pixel_format=info.pixel_format,
            width_px=info.width_px,
            height_px=info.height_px,
            index=index,
            pts=pts,
            time_base=info.time_base,
            color=info.color,
            orientation=info.orientation,
            pixel_aspect=info.sample_aspect_ratio,
            native=own,
            concealed=concealed,
            hidden_margins_px=info.hidden_margins_px,
            interlaced=bool(interlaced),
        )


def _chain(
    seen: list[tuple[VideoFrame | None, int]], rest: Iterator[tuple[VideoFrame | None, int]]
) -> Iterator[tuple[VideoFrame | None, int]]:
    while seen:
        yield seen.pop(0)
    yield from rest


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    try:
        side_data: Any = frame.side_data
    except ValueError:  # PyAV knows no EXIF, which comes with motion JPEG: of the turning, the angle remains
        return _TURNED.get(frame.rotation % 360)
    found = side_data.get("DISPLAYMATRIX")
    return None if found is None else tuple(int(v) for v in np.frombuffer(bytes(found), np.int32)[:9])


# By what PyAV calls the rotation, in degrees counterclockwise.
_TURNED = {
    90: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
}

_TURNS = {
    (True, 1, 1): Orientation.NORMAL,
    (True, -1, 1): Orientation.FLIP_HORIZONTAL,
    (True, -1, -1): Orientation.ROTATE_180,
    (True, 1, -1): Orientation.FLIP_VERTICAL,
    (False, 1, 1): Orientation.TRANSPOSE,
    (False, 1, -1): Orientation.ROTATE_90_CLOCKWISE,
    (False, -1, -1): Orientation.TRANSVERSE,
    (False, -1, 1): Orientation.ROTATE_90_COUNTERCLOCKWISE,
}


def orientation_of(display_matrix: tuple[int, ...] | None) -> Orientation:
    """The right-angled turn nearest to a display matrix (a b u, c d v, x y w): x' = a x + c y, y' = b x + d y."""
    if display_matrix is None:
        return Orientation.NORMAL
    a, b, _, c, d = display_matrix[:5]
    straight = abs(a) + abs(d) >= abs(b) + abs(c)
    first, second = (a, d) if straight else (b, c)
    return _TURNS[straight, -1 if first < 0 else 1, -1 if second < 0 else 1]
