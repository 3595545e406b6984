"""Video files encoded on the CPU by FFmpeg, with the input's times, colour, shape, audio and subtitles."""

from __future__ import annotations

import math
import os
from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_anon._optional import require
from trt_anon.config import SinkConfig
from trt_anon.errors import OutputError, UsageError
from trt_anon.media import MediaInfo
from trt_anon.sink.annexb import without_encoder_note
from trt_anon.sink.containers import choose_encoder, container_kind
from trt_anon.sink.copies import StreamCopies, time_of_creation
from trt_anon.sink.picture import picture_of
from trt_anon.types import Frame, Orientation

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_FINEST_MOVIE_UNITS = 100_000_000  # per second
_MUXER_BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no version of the muxer, no random identifiers


class PyAVSink:
    """Writes frames as video, and copies the input's audio and subtitles beside them.

    The container is `container` (a key of `trt_anon.sink.containers.CONTAINERS`), or what the suffix of `path` means;
    the codec is the input's family unless `config` names one. Pixel format, bit depth, colour, sample aspect ratio,
    rotation, frame count and, as far as the container can, every time are the input's. Matroska rounds times to
    milliseconds; AVI and bare streams hold only a constant rate, and anything else is refused. Metadata is dropped but
    for the language of copied streams; `metadata="keep"` keeps the creation time too, and nothing else. `faststart`
    moves an MP4's index to its beginning, which rewrites the file once. `threads` are the encoder's, None for all.

    Raises UsageError for what does not fit together, with what would; OutputError where writing fails; InputError where
    the streams to copy are damaged.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        source_path: str | Path,
        info: MediaInfo,
        config: SinkConfig,
        container: str | None = None,
        threads: int | None = None,
        faststart: bool = False,
    ) -> None:
        self._av = require("av", "writing video")
        self._path, self._info = Path(path), info
        self._kind = container_kind(self._path, container)
        self._encoder, self._format = choose_encoder(
            self._kind, config.codec, info.codec, info.pixel_format.name, info.width_px, info.height_px
        )
        if info.orientation is not Orientation.NORMAL and not self._kind.display_matrix:
            raise UsageError(f"{self._kind.name} cannot say that the picture is rotated; choose .mp4, .mov or .mkv")
        if (
            info.sample_aspect_ratio != 1
            and self._kind.muxer in ("matroska", "webm")
            and not self._encoder.tells_aspect
        ):
            raise UsageError(
                f"{self._encoder.family} in {self._kind.name} cannot say here that pixels are not square "
                f"({info.sample_aspect_ratio}); choose .mkv with codec h264 or hevc, or .mp4"
            )
        self._rate = info.average_rate or Fraction(25)
        self._time_base = self._output_time_base()
        # Encoders that do not reorder are fed the numbers of the frames, as some take no fine time units; the packets
        # come out in the same order and get the frames' own times.
        self._numbered = not (self._reorders and self._kind.b_frames)
        self._pending: deque[tuple[int, int]] = deque()
        self._durations: dict[int, int] = {}
        self._held: Packet[VideoStream] | None = None
        self._first_dts: int | None = None
        self._end_pts = 0
        self._written = self._muxed = 0
        self._first_pts: int | None = None  # in the input's units
        self._start_pts: int | None = None  # in the output's
        self._last_pts: int | None = None
        self._output: OutputContainer | None = None
        self._copies = StreamCopies(Path(source_path), self._kind, self._copied(config))
        try:
            self._stream = self._open(config, threads, faststart)
        except BaseException:
            self.abort()
            raise

    def write(self, frame: Frame) -> None:
        """Add a frame; its planes are read before this returns or, if they are its native frame's, soon after.

        Raises OutputError.
        """
        output = self._output
        if output is None:
            raise OutputError(f"{self._path} is closed; nothing more can be written to it")
        picture, pts, duration = self._picture(frame)
        if self._numbered:
            self._pending.append((pts, duration))
            picture.pts, picture.time_base = self._written, self._encoder_time_base
        else:
            self._durations[pts] = duration
            picture.pts, picture.time_base = pts, self._time_base
        self._written += 1
        try:
            self._mux(output, self._encode(picture))
            self._copies.advance(pts * self._time_base)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Flush the encoder, copy the rest of the other streams and close the file, complete. Raises OutputError."""
        output = self._output
        if output is None:
            raise OutputError(f"{self._path} is closed already")
        if not self._written:
            raise OutputError(f"{self._path}: no frame was written")
        try:
            self._mux(output, self._encode(None))
            self._mux_last(output)
            self._copies.advance(None)
            output.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error) from error
        self._output = None
        self._copies.close()
        if self._muxed != self._written:
            raise OutputError(f"{self._path}: the encoder made {self._muxed} frames of {self._written}")

    def abort(self) -> None:
        """Release the file, encoder and input; what was written so far stays at the path, incomplete."""
        output, self._output = self._output, None
        self._copies.close()
        self._pending.clear()
        self._durations.clear()
        self._held = None
        if output is not None:
            try:
                output.close()
            except (self._av.FFmpegError, OSError, ValueError):
                # The file is given up: why its end could not be written no longer matters.
                return

    def _copied(self, config: SinkConfig) -> SinkConfig:
        """By which settings other streams are copied."""
        return config

    def _target(self) -> Any:
        """What the container is written to."""
        return f"file:{self._path.absolute()}"

    @property
    def _reorders(self) -> bool:
        """Whether packets come in another order than frames."""
        return self._encoder.reorders

    def _encode(self, picture: VideoFrame | None) -> list[Packet[VideoStream]]:
        """The packets that a picture, or the end, makes the encoder give."""
        return self._stream.encode(picture)

    def _output_time_base(self) -> Fraction:
        info = self._info
        if self._kind.timing == "none":
            return 1 / self._rate
        if self._kind.timing == "slots":
            return info.time_base if info.container == "avi" else 1 / self._rate
        return info.time_base

    def _open(self, config: SinkConfig, threads: int | None, faststart: bool) -> VideoStream:
        encoder, kind = self._encoder, self._kind
        if encoder.family == "av1":
            os.environ.setdefault(
                "SVT_LOG", "1"
            )  # errors only; SVT-AV1 writes to standard error, and has no other switch
        try:
            output = self._av.open(
                self._target(),
                "w",
                format=kind.muxer,
                container_options=self._muxer_options(faststart),
            )
            self._output = output
            output.flags |= _MUXER_BITEXACT
            before, after = self._copies.wanted()
            for copied in before:
                self._copies.add(copied, output)
            stream = self._add_video(output, config, threads)
            for copied in after:
                self._copies.add(copied, output)
            if config.metadata == "keep":
                self._keep_metadata(output, stream)
            self._open_encoder(stream, config)
            output.start_encoding()
            self._copies.start(output)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error) from error
        return stream

    def _muxer_options(self, faststart: bool) -> dict[str, str]:
        if self._kind.muxer in ("mp4", "mov"):
            options = {"movflags": "+faststart"} if faststart else {}
            # Track starts are written in movie units: fine enough for all tracks, or audio moves against the picture.
            units = math.lcm(self._time_base.denominator, *self._copies.ticks_per_second())
            options["movie_timescale"] = str(units if units <= _FINEST_MOVIE_UNITS else self._time_base.denominator)
            if self._time_base.numerator == 1:
                options["video_track_timescale"] = str(self._time_base.denominator)
            return options
        # Otherwise the muxer adds 0.7 s or more to every time.
        return {"mpegts_copyts": "1"} if self._kind.muxer == "mpegts" else {}

    def _add_video(self, output: OutputContainer, config: SinkConfig, threads: int | None) -> VideoStream:
        info, encoder = self._info, self._encoder
        self._encoder_time_base = self._time_base if not self._numbered else 1 / _plain_rate(self._rate)
        stream: Any = output.add_stream(
            encoder.name,
            rate=self._rate,
            options=encoder.options(
                config.quality,
                config.encoder_preset,
                self._kind.b_frames,
                config.subtitles == "copy",
                self._rate * info.width_px * info.height_px,
            ),
            width=info.width_px,
            height=info.height_px,
            pix_fmt=self._format,
            time_base=self._encoder_time_base,
        )
        context = stream.codec_context
        stream.time_base = self._time_base
        context.thread_count = threads or 0
        context.thread_type = "AUTO"  # with slices alone x264 is slower and worse
        context.flags |= self._av.codec.context.Flags.bitexact
        context.sample_aspect_ratio = info.sample_aspect_ratio
        context.color_range = info.color_range
        context.color_primaries = info.color_primaries
        context.color_trc = info.color_trc
        context.colorspace = info.color_space
        context.field_order = info.field_order
        if info.field_order > 1 and encoder.family in ("h264", "mpeg4"):
            flags = self._av.codec.context.Flags
            context.flags |= flags.interlaced_dct | flags.interlaced_me
        if encoder.family == "hevc" and self._kind.muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players refuse the other one, hev1
        if info.display_matrix is not None and self._kind.display_matrix:
            stream.set_display_matrix(info.display_matrix)
        return stream  # type: ignore[no-any-return]

    def _open_encoder(self, stream: VideoStream, config: SinkConfig) -> None:
        context = stream.codec_context
        try:
            context.open()
        except (self._av.FFmpegError, ValueError) as error:
            preset = f" with preset {config.encoder_preset!r}" if config.encoder_preset else ""
            raise UsageError(
                f"{self._path}: the encoder {self._encoder.name} does not start{preset} for {self._info.width_px}x"
                f"{self._info.height_px} {self._format}: {getattr(error, 'strerror', None) or error}"
            ) from error

    def _keep_metadata(self, output: OutputContainer, stream: VideoStream) -> None:
        """The time of recording; everything else may name people, places or devices."""
        container, video = self._copies.metadata
        for source, target in ((container, output.metadata), (video, stream.metadata)):
            target.update(time_of_creation(source))

    def _picture(self, frame: Frame) -> tuple[VideoFrame, int, int]:
        """The frame for the encoder, its time and duration in units of the output's time base."""
        info = self._info
        if (frame.width_px, frame.height_px, frame.pixel_format) != (info.width_px, info.height_px, info.pixel_format):
            raise OutputError(f"{self._path}: a frame differs from the video in size or pixel format")
        if frame.pts is None:
            raise OutputError(f"{self._path}: frame {frame.index} has no presentation time")
        pts = self._output_pts(frame.pts, frame.time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            raise OutputError(f"{self._path}: presentation times do not increase at frame {frame.index}")
        self._last_pts = pts
        self._start_pts = pts if self._start_pts is None else self._start_pts
        picture = self._for_encoder(frame)
        shown = (
            frame.duration if frame.duration is not None else frame.native.duration if frame.native is not None else 0
        )
        duration = round(shown * frame.time_base / self._time_base)
        return picture, pts, duration or round(1 / (self._rate * self._time_base))

    def _for_encoder(self, frame: Frame) -> VideoFrame:
        bare = replace(frame, native=None) if self._encoder.writes_side_data else frame
        return picture_of(bare, self._format)

    def _output_pts(self, pts: int, time_base: Fraction) -> int:
        exact = pts * time_base / self._time_base
        if self._kind.timing == "none":
            self._first_pts = pts if self._first_pts is None else self._first_pts
            exact = (pts - self._first_pts) * time_base / self._time_base
            wrong = abs(exact - self._written) > Fraction(1, 2)
        else:
            wrong = self._kind.timing == "slots" and abs(exact - round(exact)) > Fraction(1, 10)
        if wrong:
            raise OutputError(
                f"{self._path}: {self._kind.name} holds a constant frame rate only, but the times of this video vary; "
                "choose .mp4, .mov or .mkv"
            )
        return round(exact)

    def _mux(self, output: OutputContainer, packets: list[Packet[VideoStream]]) -> None:
        for made in packets:
            packet = made
            if self._encoder.family == "h264" and not self._muxed:
                packet = self._without_note(made)
            if self._numbered:
                packet.pts, packet.duration = self._pending.popleft()
                packet.dts = packet.pts
            elif packet.pts is not None:
                packet.duration = self._durations.pop(packet.pts)
            packet.time_base = self._time_base
            self._muxed += 1
            self._emit(output, packet)

    def _emit(self, output: OutputContainer, packet: Packet[VideoStream]) -> None:
        """Write a packet whose times are final, but for the last: that waits for `_mux_last`."""
        self._end_pts = max(self._end_pts, (packet.pts or 0) + (packet.duration or 0))
        if self._held is None:
            self._first_dts = packet.dts
        else:
            output.mux_one(self._held)
        self._held = packet

    def _mux_last(self, output: OutputContainer) -> None:
        """Write the last packet, given a duration that makes the track end when the last frame does.

        MP4 adds up durations in decoding order; the last packet there is often not the last picture shown.
        """
        packet, self._held = self._held, None
        if packet is None:
            return
        reordered = not self._numbered and self._kind.muxer in ("mp4", "mov")
        if reordered and packet.dts is not None and self._first_dts is not None and self._start_pts is not None:
            shown = self._end_pts - self._start_pts
            packet.duration = max(shown - (packet.dts - self._first_dts), 1)
        output.mux_one(packet)

    def _without_note(self, made: Packet[VideoStream]) -> Packet[VideoStream]:
        data = bytes(made)
        shorter = without_encoder_note(data)
        if len(shorter) == len(data):
            return made
        packet: Packet[VideoStream] = self._av.Packet(shorter)
        packet.stream = self._stream
        packet.pts, packet.dts, packet.time_base = made.pts, made.dts, made.time_base
        packet.is_keyframe = made.is_keyframe
        return packet

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}")


def _plain_rate(rate: Fraction) -> Fraction:
    """A frame rate near `rate` of small terms: MPEG-4 counts at most 65535 ticks per second."""
    plain = rate.limit_denominator(1001)
    return plain if plain.numerator <= 65535 else Fraction(max(round(rate), 1))
