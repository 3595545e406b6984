"""What a file carries besides its pixels: a secret is planted in every place, and the output's bytes are searched."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image, ImageCms, PngImagePlugin

from trt_anon.api import Anonymizer

SECRET = "Erika Muster"
FORMS = (SECRET.encode(), SECRET.encode("utf-16-le"), SECRET.encode("utf-16-be"), SECRET.encode().hex().encode())


@pytest.fixture(scope="module")
def nothing() -> Iterator[Anonymizer]:
    """Finds nothing: what is dropped here is dropped for all."""
    with Anonymizer(runtime="null") as made:
        yield made


def unpacked(data: bytes) -> Iterator[bytes]:
    """The bytes, and whatever is deflated among them."""
    yield data
    for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data):
        try:
            yield zlib.decompressobj().decompress(data[match.start() :], 1 << 20)
        except zlib.error:
            continue


def tells(path: Path) -> bool:
    """Whether a file holds the secret, in any of its forms."""
    return any(form in part for part in unpacked(path.read_bytes()) for form in FORMS)


# --- images


def profile_with_words() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    words = "sRGB built-in".encode("utf-16-be")
    at = profile.index(words)
    profile[at : at + len(words)] = SECRET.ljust(13).encode("utf-16-be")
    return bytes(profile)


def thumbnail() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(out, "JPEG", comment=SECRET.encode())
    return out.getvalue()


def exif(with_thumbnail: bool = True) -> bytes:
    """Description, maker note, position, comment, and a directory of a thumbnail."""
    tags = Image.Exif()
    tags[0x010E] = SECRET
    tags[0x013B] = SECRET
    ifd = tags.get_ifd(0x8769)
    ifd[0x927C] = b"Maker\0" + SECRET.encode()
    ifd[0x9286] = b"ASCII\0\0\0" + SECRET.encode()
    ifd[0x9003] = "2024:05:06 07:08:09"
    tags.get_ifd(0x8825)[29] = SECRET
    block = bytearray(tags.tobytes())
    if with_thumbnail:
        body = block[6:]
        order = "<" if body[:2] == b"II" else ">"
        first = struct.unpack(order + "I", body[4:8])[0]
        count = struct.unpack(order + "H", body[first : first + 2])[0]
        link = first + 2 + 12 * count
        at = len(body) + len(body) % 2
        small = thumbnail()
        body += b"\0" * (len(body) % 2)
        body[link : link + 4] = struct.pack(order + "I", at)
        offset = at + 2 + 2 * 12 + 4
        body += struct.pack(order + "H", 2)
        body += struct.pack(order + "HHII", 0x0201, 4, 1, offset)
        body += struct.pack(order + "HHII", 0x0202, 4, 1, len(small))
        body += struct.pack(order + "I", 0) + small
        block[6:] = body
    return bytes(block)


XMP = f"<x:xmpmeta xmlns:x='adobe:ns:meta/'><dc:creator>{SECRET}</dc:creator></x:xmpmeta>".encode()
IPTC = (
    b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", 5 + len(SECRET)) + b"\x1c\x02\x50\0\x10" + SECRET.encode()
)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def movie() -> bytes:
    return struct.pack(">I4s", 16, b"ftyp") + b"isommp42" + struct.pack(">I4s", 24, b"mdat") + SECRET.encode()


def jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90, exif=exif(), icc_profile=profile_with_words(), comment=SECRET.encode())
    data = out.getvalue()
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", len(XMP), 0) + XMP
    parts = [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        segment(0xE1, extended),
        segment(0xED, IPTC),
        segment(0xE7, b"private\0" + SECRET.encode()),
        segment(0xE2, b"MPF\0" + SECRET.encode()),
    ]
    second = io.BytesIO()
    picture.save(second, "JPEG", comment=SECRET.encode())
    return data[:2] + b"".join(parts) + data[2:] + second.getvalue() + movie()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(picture: Image.Image) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", SECRET)
    text.add_text("Comment", SECRET, zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=text, exif=exif(with_thumbnail=False))
    data = out.getvalue()
    named = SECRET.encode() + b"\0\0" + zlib.compress(profile_with_words())
    extra = chunk(b"iCCP", named) + chunk(b"prVt", SECRET.encode())
    end = data.index(b"IEND") - 4
    return data[:33] + extra + data[33:end] + chunk(b"zzAa", SECRET.encode()) + data[end:] + movie()


def webp(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "WEBP", lossless=True, exif=exif(), xmp=XMP, icc_profile=profile_with_words())
    data = bytearray(out.getvalue())
    data += b"PRVT" + struct.pack("<I", len(SECRET)) + SECRET.encode()
    data[4:8] = struct.pack("<I", len(data) - 8)
    return bytes(data) + movie()


def gif(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.quantize(64).save(out, "GIF", comment=SECRET.encode())
    data = out.getvalue()
    xmp = b"\x21\xff\x0bXMP DataXMP" + bytes([len(SECRET)]) + SECRET.encode() + b"\0"
    text = b"\x21\x01\x0c" + bytes(12) + bytes([len(SECRET)]) + SECRET.encode() + b"\0"
    end = len(data) - 1
    return data[:end] + xmp + text + data[end:] + movie()


def tiff(picture: Image.Image) -> bytes:
    tags = Image.Exif()
    for tag in (270, 305, 315, 316, 33432, 65000):
        tags[tag] = SECRET
    tags[700], tags[33723] = XMP, IPTC
    tags.get_ifd(0x8825)[29] = SECRET
    out = io.BytesIO()
    picture.save(out, "TIFF", exif=tags, icc_profile=profile_with_words())
    return out.getvalue() + movie()


def bmp(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "BMP")
    data = bytearray(out.getvalue())
    start = int.from_bytes(data[10:14], "little")
    note = SECRET.encode()
    data[10:14] = (start + len(note)).to_bytes(4, "little")  # between header and pixels
    return bytes(data[:start]) + note + bytes(data[start:]) + movie()


IMAGES = {"jpg": jpeg, "png": png, "webp": webp, "gif": gif, "tiff": tiff, "bmp": bmp}


@pytest.mark.parametrize("metadata", ["drop", "keep"])
@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind: str, metadata: str, spots: ModuleType, tmp_path: Path) -> None:
    source, target = tmp_path / f"a.{kind}", tmp_path / f"b.{kind}"
    picture = Image.fromarray(spots.dark(64, 48))
    source.write_bytes(IMAGES[kind](picture))
    assert tells(source)
    with Anonymizer(runtime="null", metadata=metadata) as made:
        made.file(source, target)
    assert not tells(target)
    data = target.read_bytes()
    for trace in (b"Photoshop", b"ns.adobe.com", b"adobe:ns:meta", b"MPF\0", b"Maker", b"mdat"):
        assert trace not in data
    with Image.open(target) as image:
        image.load()
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - spots.dark(64, 48)).mean() < 6
        assert not image.getexif().get_ifd(0x8825)
        captured = image.getexif().get_ifd(0x8769).get(0x9003)
        if metadata == "keep" and kind in ("jpg", "png", "webp"):
            assert captured == "2024:05:06 07:08:09"
        else:
            assert captured is None


# --- video


def with_sei(path: Path, source: Path) -> Path:
    """The clip with unregistered user data in its stream, as cameras write positions and serial numbers there."""
    user_data = f"h264_metadata=sei_user_data=086f3693-b7b3-4f2c-9653-21492feee5b8+{SECRET.replace(' ', '_')}"
    with av.open(str(source)) as read, av.open(str(path), "w") as write:
        stream = read.streams.video[0]
        put_in = BitStreamFilterContext(user_data, stream)
        copy = write.add_stream_from_template(stream, opaque=True)
        for packet in read.demux(stream):
            for changed in put_in.filter(packet if packet.size else None):
                changed.stream = copy
                write.mux(changed)
    return path


def holds(path: Path, words: bytes) -> bool:
    return words in path.read_bytes()


@pytest.mark.parametrize("codec", ["same", "hevc"])
def test_messages_inside_the_video_stream(codec: str, nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    words = SECRET.replace(" ", "_").encode()
    source = with_sei(tmp_path / "b.mp4", clips.make_clip(tmp_path / "a.mp4", frames=6))
    assert holds(source, words)
    with Anonymizer(nothing.config, codec=codec) as made:
        made.file(source, tmp_path / "c.mp4")
    assert not holds(tmp_path / "c.mp4", words)


def udta(data: bytes) -> bytes:
    """An MP4 file with user data of several kinds at the end of its index, which lies behind the media."""
    words = SECRET.encode()

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), kind) + body

    boxes = (
        box(b"\xa9xyz", struct.pack(">HH", len(words), 0x15C7) + words)
        + box(b"\xa9mak", struct.pack(">HH", len(words), 0) + words)
        + box(b"GPMF", words)
        + box(b"free", words)
    )
    extra = box(b"udta", boxes) + box(b"uuid", bytes(16) + words)
    moov = data.rindex(b"moov") - 4
    length = int.from_bytes(data[moov : moov + 4], "big")
    assert moov + length == len(data)
    return data[:moov] + struct.pack(">I", length + len(extra)) + data[moov + 4 :] + extra + box(b"free", words)


def full_of_secrets(clips: ModuleType, path: Path, **options: Any) -> Path:
    """Title, artist, comment, position, chapter, cover, names of streams; and the file's own boxes of user data."""
    names = {"title": SECRET, "artist": SECRET, "comment": SECRET, "location": SECRET, "encoder": SECRET}
    names |= {"service_name": SECRET, "service_provider": SECRET, "make": SECRET, "com.apple.quicktime.model": SECRET}
    names |= {"creation_time": "2024-05-06T07:08:09.000000Z"}
    plain = clips.make_clip(path.with_name(f"plain{path.suffix}"), frames=6, **options)
    with av.open(str(plain)) as read, av.open(str(path), "w", container_options=muxer_options(path)) as write:
        copies = {}
        for stream in read.streams:
            copies[stream.index] = write.add_stream_from_template(stream, opaque=True)
            copies[stream.index].metadata.update({"title": SECRET, "handler_name": SECRET, "encoder": SECRET})
        write.metadata.update(names)
        if path.suffix in (".mp4", ".mov", ".mkv"):
            chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": SECRET}}
            write.set_chapters([chapter])
        if path.suffix == ".mkv":
            write.add_attachment("face.jpg", "image/jpeg", thumbnail())
        for packet in read.demux(list(read.streams)):
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                write.mux(packet)
    plain.unlink()
    if path.suffix == ".mp4":
        path.write_bytes(udta(path.read_bytes()))
    return path


def muxer_options(path: Path) -> dict[str, str]:
    return {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}


VIDEOS: dict[str, dict[str, Any]] = {
    "a.mp4": {"audio": ["aac"], "subtitles": "mov_text"},
    "a.mov": {"audio": ["aac"]},
    "a.mkv": {"audio": ["libopus", "flac"], "options": {"bf": "0"}},
    "a.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}, "audio": ["libopus"]},
    "a.ts": {"audio": ["mp2"]},
    "a.avi": {"codec": "mpeg4", "audio": ["pcm_s16le"]},
}


@pytest.mark.parametrize("metadata", ["drop", "keep"])
@pytest.mark.parametrize("name", VIDEOS)
def test_containers(name: str, metadata: str, nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    source = full_of_secrets(clips, tmp_path / name, **VIDEOS[name])
    target = tmp_path / f"out{source.suffix}"
    assert tells(source)
    with Anonymizer(nothing.config, metadata=metadata) as made:
        made.file(source, target)
    assert not tells(target)
    with av.open(str(target)) as container:
        assert [s.type for s in container.streams if s.type in ("video", "attachment", "data")] == ["video"]
        assert not container.chapters()
        kept = container.metadata.get("creation_time")
        assert (kept is not None) == (metadata == "keep" and name not in ("a.ts", "a.avi"))
    if metadata == "drop":
        assert b"2024" not in target.read_bytes()


def remuxed(source: Path, target: Path, tags: dict[str, str], extradata: bytes | None = None) -> Path:
    """The file once more, with these tags on its first stream and perhaps another header of its sound."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        copies = {s.index: write.add_stream_from_template(s, opaque=True) for s in read.streams}
        copies[0].metadata.update(tags)
        if extradata is not None:
            copies[read.streams.audio[0].index].codec_context.extradata = extradata
        for packet in read.demux(list(read.streams)):
            if packet.size:
                packet.stream = copies[packet.stream_index]
                write.mux(packet)
    return target


def vorbis_clip(clips: ModuleType, path: Path) -> Path:
    """FFmpeg's own encoder of Vorbis is experimental, and good enough here."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25, width=64, height=48)
        sound = out.add_stream("vorbis", rate=48000, layout="stereo", options={"strict": "experimental"})
        for number in range(47):
            tone = 0.1 * np.sin(np.arange(2048).reshape(2, 1024) * 0.05 + number)
            frame = av.AudioFrame.from_ndarray(tone.astype(np.float32), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 48000, 1024 * number
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        for index in range(25):
            out.mux(video.encode(clips.picture(index, 64, 48)))
        out.mux(video.encode(None))
    return path


def test_comments_inside_the_headers_of_audio(nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    """Vorbis carries its tags in the stream's own headers, which are copied with the packets."""
    plain = vorbis_clip(clips, tmp_path / "plain.mkv")
    with av.open(str(plain)) as container:
        headers = container.streams.audio[0].codec_context.extradata
    words = SECRET.encode()
    comments = b"\x03vorbis" + struct.pack("<I", len(words)) + words + struct.pack("<II", 1, 7 + len(words))
    comments += b"ARTIST=" + words + b"\1"
    first = headers.index(b"\x01vorbis")
    identity, setup = headers[first : first + 30], headers[headers.index(b"\x05vorbis") :]
    extradata = b"\2" + bytes([len(identity), len(comments)]) + identity + comments + setup
    source = remuxed(plain, tmp_path / "a.mkv", {}, extradata)
    assert tells(source)
    nothing.file(source, tmp_path / "b.mkv")
    assert not tells(tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as before, av.open(str(plain)) as after:
        sounds = [np.concatenate([f.to_ndarray() for f in c.decode(audio=0)], axis=1) for c in (before, after)]
    assert np.array_equal(*sounds)
    assert sounds[0].std() > 0.01


def test_a_time_of_creation_that_is_words(nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    """Matroska's tags hold any text."""
    plain = clips.make_clip(tmp_path / "plain.mkv", frames=3, options={"bf": "0"})
    source = remuxed(plain, tmp_path / "a.mkv", {"creation_tixx": SECRET})
    source.write_bytes(source.read_bytes().replace(b"CREATION_TIXX", b"creation_time"))
    with av.open(str(source)) as container:
        assert container.streams[0].metadata["creation_time"] == SECRET
    with Anonymizer(nothing.config, metadata="keep") as made:
        made.file(source, tmp_path / "b.mkv")
    assert not tells(tmp_path / "b.mkv")


def test_what_is_kept_is_said(clips: ModuleType, spots: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(Image.fromarray(spots.dark(64, 48))))
    full_of_secrets(clips, tmp_path / "a.mp4", audio=["aac"], color=(1, 1, 1, 1))
    with Anonymizer(runtime="null", metadata="keep") as made:
        report = made.files([tmp_path / "a.jpg", tmp_path / "a.mp4"], tmp_path / "out")
    by_name = {file.source.name: file.metadata_kept for file in report.files}
    assert by_name["a.jpg"] == ("time of capture", "colour profile")
    assert by_name["a.mp4"] == ("time of creation", "colour")
    assert report.metadata_kept["time of capture"] == 1
    with Anonymizer(runtime="null") as made:
        assert made.file(tmp_path / "a.jpg", tmp_path / "b.jpg").metadata_kept == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_subtitles_with_names_go_when_asked(name: str, nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / name, frames=15, subtitles="mov_text" if name == "a.mp4" else "subrip")
    assert holds(source, b"second words")
    nothing.file(source, tmp_path / f"with{source.suffix}")
    assert holds(tmp_path / f"with{source.suffix}", b"second words")
    with Anonymizer(nothing.config, subtitles="drop") as made:
        made.file(source, tmp_path / f"without{source.suffix}")
    assert not holds(tmp_path / f"without{source.suffix}", b"words")


def test_audio_goes_when_asked(nothing: Anonymizer, clips: ModuleType, tmp_path: Path) -> None:
    source = clips.make_clip(tmp_path / "a.mkv", frames=15, audio=["flac", "libopus"])
    with Anonymizer(nothing.config, audio="drop") as made:
        made.file(source, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert [s.type for s in container.streams] == ["video"]


@pytest.mark.parametrize("suffix", ["png", "mkv"])
def test_times_of_the_file_stay_when_asked(
    suffix: str, nothing: Anonymizer, clips: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    source = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(spots.dark(64, 48)).save(source)
    else:
        clips.make_clip(source, frames=3)
    then = 1_600_000_000_123_456_789
    os.utime(source, ns=(then, then))
    nothing.file(source, tmp_path / f"b.{suffix}")
    assert (tmp_path / f"b.{suffix}").stat().st_mtime_ns > then + 10**17
    with Anonymizer(nothing.config, file_times="keep") as made:
        made.file(source, tmp_path / f"c.{suffix}")
    assert (tmp_path / f"c.{suffix}").stat().st_mtime_ns == then


def motion_jpeg(path: Path, *pictures: bytes) -> Path:
    """A clip whose packets are these files."""
    with av.open(str(path), "w") as write:
        stream = write.add_mux_stream("mjpeg", width=64, height=48, time_base=Fraction(1, 25))
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.duration, packet.stream = Fraction(1, 25), 1, stream
            write.mux(packet)
    return path


@pytest.mark.parametrize("codec", ["same", "h264", "hevc", "vp9", "av1"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_what_every_frame_of_motion_jpeg_carries(
    with_exif: bool, codec: str, nothing: Anonymizer, spots: ModuleType, tmp_path: Path
) -> None:
    """Decoders hand profiles and EXIF on with the frame, and encoders write what came with it."""
    picture = Image.fromarray(spots.dark(64, 48))
    out = io.BytesIO()
    picture.save(out, "JPEG", icc_profile=profile_with_words(), comment=SECRET.encode())
    source = motion_jpeg(tmp_path / "a.mkv", *[jpeg(picture) if with_exif else out.getvalue()] * 3)
    assert tells(source)
    with Anonymizer(nothing.config, codec=codec) as made:
        report = made.file(source, tmp_path / "b.mkv")
    assert report.frames == 3
    assert not tells(tmp_path / "b.mkv")
    assert b"ICC_PROFILE" not in (tmp_path / "b.mkv").read_bytes()


@pytest.mark.parametrize(("orientation", "degrees"), [(1, 0), (6, 90), (3, 180), (8, 270)])
def test_motion_jpeg_that_is_turned_by_its_exif(
    orientation: int, degrees: int, faces: ModuleType, spots: ModuleType, tmp_path: Path
) -> None:
    """EXIF goes, its turning stays."""
    from trt_anon.source.pyav import PyAVSource

    tags = Image.Exif()
    tags[0x0112], tags[0x010E] = orientation, SECRET
    out = io.BytesIO()
    Image.fromarray(spots.dark(64, 48)).save(out, "JPEG", exif=tags)
    source = PyAVSource(motion_jpeg(tmp_path / "a.mkv", out.getvalue(), out.getvalue()))
    expected = faces.MATRICES[degrees]
    assert source.info.orientation == orientation
    assert (source.info.display_matrix or (65536,))[:5] == (expected or (65536,))[:5]


def captioned(path: Path, source: Path) -> Path:
    """A bare H.264 stream with a closed caption (CTA-708 in a registered message, ATSC A/53 part 4) in every frame."""
    words = b"ErikaM"
    triples = b"".join(b"\xfc" + words[n : n + 2] for n in range(0, 6, 2))
    payload = b"\xb5\x00\x31GA94\x03" + bytes([0x40 | 3]) + b"\xff" + triples + b"\xff"
    message = b"\0\0\0\1\x06\x04" + bytes([len(payload)]) + payload + b"\x80"
    data = source.read_bytes()
    slices = [m.start() for m in re.finditer(rb"\x00\x00\x01[\x65\x41\x01\x61]", data)]
    for at in reversed(slices):
        at -= data[at - 1] == 0
        data = data[:at] + message + data[at:]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", ["same", "hevc"])
def test_closed_captions_go_with_the_subtitles(
    codec: str, nothing: Anonymizer, clips: ModuleType, tmp_path: Path
) -> None:
    plain = clips.make_clip(tmp_path / "plain.h264", frames=6, options={"bf": "0", "x264-params": "slices=1:aud=0"})
    source = captioned(tmp_path / "a.h264", plain)
    for subtitles in ("copy", "drop"):
        target = tmp_path / f"{subtitles}.mp4"
        with Anonymizer(nothing.config, codec=codec, subtitles=subtitles) as made:
            assert made.file(source, target).frames == 6
        assert holds(target, b"GA94") is (subtitles == "copy")
