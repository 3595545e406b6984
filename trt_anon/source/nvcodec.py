"""Video files decoded by NVDEC into device memory, through PyNvVideoCodec.

FFmpeg takes the file apart, exactly as for decoding on a CPU, so that times, edit lists, missing and damaged packets
are held to the same books; only the pictures are NVDEC's. It repairs damaged pictures without a mark, as decoders of
HEVC do on a CPU, too: what it shows is what is redacted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trt_anon._optional import require
from trt_anon.container import check_readable, open_input, pick_video
from trt_anon.cuda.frames import BatchBuffer
from trt_anon.cuda.memory import DeviceMemory
from trt_anon.errors import DeviceFailed, DeviceMissing, InputError
from trt_anon.media import MediaInfo
from trt_anon.source.device import NVDEC_SURFACES, frame_of, surface_info
from trt_anon.source.ledger import Ledger
from trt_anon.source.pyav import BARE, PyAVSource
from trt_anon.source.span import Span, check_key

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# FFmpeg's codec names to members of cudaVideoCodec, and the filter that turns a container's packets into the stream
# that NVDEC's parser reads.
_CODECS: Mapping[str, tuple[str, str | None]] = {
    "h264": ("H264", "h264_mp4toannexb"),
    "hevc": ("HEVC", "hevc_mp4toannexb"),
    "av1": ("AV1", None),
    "vp9": ("VP9", None),
    "vp8": ("VP8", None),
    "mpeg2video": ("MPEG2", None),
}
_PROGRESSIVE = (0, 1)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What the books want to know of a frame; see `Ledger.frame`."""

    pts: int | None
    dts: int | None
    duration: int
    is_corrupt: bool = False
    interlaced_frame: bool = False


def open_codec() -> Any:
    """The module PyNvVideoCodec. Raises PackageMissing, or DeviceMissing without the driver's libraries."""
    try:
        return require("PyNvVideoCodec", "decoding on a GPU")
    except RuntimeError as error:  # what the package raises without the driver's libraries
        reason = str(error).strip().splitlines()[0]
        raise DeviceMissing(
            f"PyNvVideoCodec does not start: {reason}; a container needs the driver capability `video` "
            f"(NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)"
        ) from error


def why_not_nvcodec(info: MediaInfo, codec_module: Any, device: int) -> str | None:
    """Why NVDEC does not decode this video here, in words; None where it does."""
    known = _CODECS.get(info.codec)
    if known is None:
        return f"NVDEC is not used for {info.codec} video"
    if info.pixel_format.name not in NVDEC_SURFACES:
        return f"NVDEC gives 4:2:0 of 8 or 10 bits, not {info.pixel_format.name}"
    if info.width_px % 2 or info.height_px % 2:
        return f"NVDEC rounds the odd size {info.width_px}x{info.height_px} up"
    if info.field_order not in _PROGRESSIVE:
        return "NVDEC would blend the fields of interlaced video"
    caps = codec_module.GetDecoderCaps(
        gpuid=device,
        codec=getattr(codec_module.cudaVideoCodec, known[0]),
        bitdepth=info.pixel_format.bit_depth,
    )
    if not caps.get("num_decoder_engines", 0):
        return f"this GPU has no NVDEC for {info.codec} of {info.pixel_format.bit_depth} bits"
    widest, highest = caps.get("width_max", 0), caps.get("height_max", 0)
    if (widest and info.width_px > widest) or (highest and info.height_px > highest):
        return f"this GPU's NVDEC decodes {info.codec} up to {widest}x{highest}"
    return None


class NvcodecSource:
    """Frames of the video stream of a file, decoded by NVDEC, as NV12 or P010; see `source.device.DeviceSource`.

    Every frame is copied once, inside the device, from the decoder's picture into its batch: the decoder has few.
    Raises what `PyAVSource` does, and DeviceMissing where NVDEC does not decode this file, with the reason.
    """

    needs_twin = False

    def __init__(self, path: str | Path, memory: DeviceMemory, span: Span | None = None) -> None:
        """span: the part of the video to give; None is all of it."""
        self._av = require("av", "reading video")
        self._codec = open_codec()
        self._path, self._memory = Path(path), memory
        self._span = span or Span(None, None)
        first = PyAVSource(self._path, threads=1)  # the first frame says what the stream is
        try:
            plain = first.info
        finally:
            first.close()
        reason = why_not_nvcodec(plain, self._codec, memory.device)
        if reason is not None:
            raise DeviceMissing(f"{self._path}: {reason}; use --decoder pyav or auto")
        self._info = surface_info(plain)
        name, self._filter = _CODECS[plain.codec]
        self._stream = memory.new_stream()  # the decoder's own copies are on it, too, and so in order with those here
        with memory.using():
            self._decoder, self._shares_stream = self._open_decoder(getattr(self._codec.cudaVideoCodec, name))
        check_readable(self._path)
        self._container: InputContainer | None = open_input(self._path)
        try:
            self._decoded = self._decode(self._container)
        except BaseException:
            self.close()
            raise
        self._index = self._span.first_index

    def _open_decoder(self, codec: Any) -> tuple[Any, bool]:
        """A decoder, and whether its own copies are on this source's stream.

        Not every release takes the stream of CuPy's context; those that refuse work on one of their own.
        """
        memory = self._memory
        options = {"gpuid": memory.device, "codec": codec, "usedevicememory": True}
        shared = {"cudacontext": memory.context(), "cudastream": memory.handle(self._stream)}
        refused: Exception | None = None
        for more in (shared, {}):
            try:
                return self._codec.CreateDecoder(**options, **more), bool(more)
            except Exception as error:  # noqa: BLE001 - the binding raises its own exceptions, of no common base
                refused = error
        raise DeviceFailed(f"{self._path}: NVDEC does not start: {refused}") from refused

    @property
    def info(self) -> MediaInfo:
        """That of the file, in NVDEC's pixel format."""
        return self._info

    def fill(self, batch: BatchBuffer) -> int:
        """See `DeviceSource.fill`."""
        info = self._info
        batch.frames = []
        while len(batch.frames) < batch.capacity:
            found = next(self._decoded, None)
            if found is None:
                break
            picture, pts, duration = found
            self._copy(picture, batch.planes[len(batch.frames)], pts)
            batch.frames.append(frame_of(info, batch.planes[len(batch.frames)], self._index, pts, duration))
            self._index += 1
        batch.filled = self._memory.record(self._stream)
        return len(batch.frames)

    def close(self) -> None:
        """Release the file and the decoder; safe to call twice."""
        container, self._container = self._container, None
        if container is not None:
            container.close()
        self._decoder = None

    def _copy(self, picture: Any, planes: tuple[Any, ...], pts: int) -> None:
        views = picture.cuda()
        if len(views) != len(planes):
            raise InputError(f"{self._path}: NVDEC gave {len(views)} planes at {self._time(pts)}, not {len(planes)}")
        try:
            for target, view in zip(planes, views, strict=True):
                self._memory.copy(target, view, self._stream)
        except ValueError as error:
            raise InputError(
                f"{self._path} changes its size or pixel format at {self._time(pts)} ({error}); split it there first"
            ) from error

    def _time(self, pts: int) -> str:
        return f"{float(pts * self._info.time_base):.3f} s"

    def _decode(self, container: InputContainer) -> Iterator[tuple[Any, int, int]]:
        """The decoder's pictures, each with its time and duration, checked by the ledger."""
        stream = pick_video(container)
        if stream is None:
            raise InputError(f"{self._path} holds no video stream")
        info, name = self._info, container.format.name
        bare = bool(set(name.split(",")) & BARE)
        rate = info.average_rate or Fraction(25)
        step = 1 / (rate * info.time_base)
        ledger = Ledger(str(self._path), info.codec, info.time_base, step if bare else None, counted=name == "avi")
        books, span = _Times(), self._span
        at: int | None = span.seek_pts
        key_pts: int | None = None
        try:
            if span.seek_pts is not None:
                container.seek(span.seek_pts, stream=stream)
            for packet in self._packets(container, stream):
                ledger.packet(packet)
                books.enter(packet)
                if key_pts is None:
                    key_pts = check_key(self._path, span.seek_pts, packet.pts, packet.is_keyframe, ledger)
                at = packet.pts if packet.pts is not None else at
                for part in self._parts(packet, stream):
                    for shown in self._shown(part, books, ledger, key_pts):
                        if span.seek_pts is None or shown[1] >= span.seek_pts:
                            yield shown
                        if span.stop_pts is not None and shown[1] >= span.stop_pts:
                            return
        except (self._av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(f"{self._path} is damaged or cut off near {ledger.time(at)}: {reason}") from error
        for shown in self._shown(None, books, ledger, key_pts):
            if span.seek_pts is None or shown[1] >= span.seek_pts:
                yield shown
            if span.stop_pts is not None and shown[1] >= span.stop_pts:
                return
        whole = span.seek_pts is None and span.stop_pts is None
        if whole and "mov" in name and ledger.packets_read < len(stream.index_entries):
            raise InputError(
                f"{self._path} is cut off near {ledger.time(at)}: "
                f"{ledger.packets_read} of {len(stream.index_entries)} frames are there"
            )
        ledger.finish()

    def _packets(self, container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
        for packet in container.demux(stream):
            if packet.size:
                yield packet

    def _parts(self, packet: Packet[VideoStream], stream: VideoStream) -> list[Packet[VideoStream]]:
        """The packet as NVDEC's parser reads it."""
        if self._filter is None or stream.codec_context is None:
            return [packet]
        if not hasattr(self, "_bitstream"):
            self._bitstream = self._av.bitstream.BitStreamFilterContext(self._filter, in_stream=stream)
        parts: list[Packet[VideoStream]] = self._bitstream.filter(packet)
        return parts

    def _shown(
        self, part: Packet[VideoStream] | None, books: _Times, ledger: Ledger, key_pts: int | None
    ) -> Iterator[tuple[Any, int, int]]:
        data = self._codec.PacketData()
        if part is None:  # an empty packet makes the decoder give what it holds
            data.bsl_data, data.bsl = 0, 0
        else:
            data.bsl_data, data.bsl = part.buffer_ptr, part.buffer_size
            data.pts = data.dts = part.pts if part.pts is not None else 0
        try:
            pictures = self._decoder.Decode(data)
            if pictures and not self._shares_stream:
                self._decoder.WaitOnCUStream(self._memory.handle(self._stream))
        except Exception as error:  # the binding raises its own exceptions, of no common base
            raise DeviceFailed(f"{self._path}: NVDEC failed: {error}") from error
        for picture in pictures:
            decoded = books.frame(int(picture.getPTS()))
            before = self._span.seek_pts is not None and decoded is not None and (decoded.pts or 0) < (key_pts or 0)
            if decoded is not None and not before:  # else it may lack what it refers to
                yield picture, ledger.frame(decoded), decoded.duration  # type: ignore[arg-type]
        if pictures and not self._shares_stream:
            # synchronises: the decoder's next pictures take the memory of these, on a stream of its own
            self._memory.wait(self._memory.record(self._stream), "decoded frames")


class _Times:
    """What packets say of times that NVDEC does not hand on: durations, and which pictures an edit list hides."""

    def __init__(self) -> None:
        self._durations: dict[int, int] = {}
        self._hidden: set[int] = set()
        self._stated = True

    def enter(self, packet: Packet[VideoStream]) -> None:
        if packet.pts is None:
            self._stated = False
            return
        self._durations[packet.pts] = packet.duration or 0
        if packet.is_discard:
            self._hidden.add(packet.pts)

    def frame(self, pts: int) -> _Decoded | None:
        """A decoded picture for the ledger; None where an edit list hides it."""
        if not self._stated:
            return _Decoded(None, None, 0)
        duration = self._durations.pop(pts, 0)
        if pts in self._hidden:
            self._hidden.discard(pts)
            return None
        return _Decoded(pts, pts, duration)


__all__ = ["NvcodecSource", "open_codec", "why_not_nvcodec"]
