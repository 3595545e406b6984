"""The tables of encoders and containers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.errors import UsageError
from trt_anon.sink.containers import CONTAINERS, choose_encoder, container_kind
from trt_anon.sink.encoders import DEFAULT_QUALITY, ENCODERS, accepted_format
from trt_anon.types import PIXEL_FORMATS


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_better_quality_is_never_a_coarser_quantizer(encoder: object) -> None:
    settings = [encoder.quantizer(quality) for quality in range(1, 101)]  # type: ignore[attr-defined]
    assert settings == sorted(settings, reverse=True)
    assert settings[0] == encoder.worst  # type: ignore[attr-defined]
    assert settings[-1] == encoder.best  # type: ignore[attr-defined]
    assert encoder.quantizer(None) == encoder.quantizer(DEFAULT_QUALITY) == encoder.default  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_encoders_exist_and_know_their_options(encoder: object) -> None:
    av = pytest.importorskip("av")
    codec = av.Codec(encoder.name, "w")  # type: ignore[attr-defined]
    assert {f.name for f in codec.video_formats} >= encoder.pixel_formats  # type: ignore[attr-defined]
    context = av.CodecContext.create(codec)
    context.width, context.height, context.time_base = 64, 48, Fraction(1, 25)
    context.pix_fmt = "yuvj420p" if encoder.family == "mjpeg" else "yuv420p"  # type: ignore[attr-defined]
    context.options = encoder.options(None, None, False, True, Fraction(64 * 48 * 25))  # type: ignore[attr-defined]
    context.open()
    assert not context.options  # what FFmpeg did not understand stays


def test_suffixes_mean_one_container_each() -> None:
    suffixes = [suffix for kind in CONTAINERS.values() for suffix in kind.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert container_kind(Path("A.MP4"), None).name == "mp4"
    assert container_kind(Path("whatever.partial"), "mkv").name == "mkv"
    for path, name in (("a.xyz", None), ("a", None), ("a.mp4", "ogg")):
        with pytest.raises(UsageError):
            container_kind(Path(path), name)


@pytest.mark.parametrize(
    ("container", "codec", "input_codec", "pixel_format", "expected"),
    [
        ("mp4", "same", "h264", "yuv420p", ("h264", "yuv420p")),
        ("mp4", "same", "prores", "yuv422p10le", ("h264", "yuv422p10le")),
        ("mp4", "same", "prores", "yuv444p12le", ("hevc", "yuv444p12le")),
        ("avi", "same", "msmpeg4v3", "yuv420p", ("mpeg4", "yuv420p")),
        ("avi", "same", "huffyuv", "yuv422p", ("h264", "yuv422p")),
        ("webm", "same", "theora", "yuv420p", ("vp9", "yuv420p")),
        ("mkv", "vp9", "h264", "nv12", ("vp9", "yuv420p")),
        ("mkv", "hevc", "h264", "p010le", ("hevc", "yuv420p10le")),
        ("webm", "same", "vp9", "yuvj420p", ("vp9", "yuv420p")),
    ],
)
def test_choice_of_encoder(
    container: str, codec: str, input_codec: str, pixel_format: str, expected: tuple[str, str]
) -> None:
    encoder, target = choose_encoder(CONTAINERS[container], codec, input_codec, pixel_format, 64, 48)
    assert (encoder.family, target) == expected


@pytest.mark.parametrize(
    ("container", "codec", "input_codec", "pixel_format", "size", "message"),
    [
        ("mp4", "same", "vp8", "yuv420p", (64, 48), r"mp4 does not hold vp8.*\.mkv.*h264"),
        ("webm", "same", "h264", "yuv420p", (64, 48), r"webm does not hold h264.*vp9"),
        ("mov", "av1", "h264", "yuv420p", (64, 48), "mov does not hold av1"),
        ("mp4", "same", "h264", "yuv420p", (65, 48), "65x48.*another codec.*vp9"),
        ("mp4", "same", "h264", "yuv420p12le", (64, 48), "hevc"),
        ("webm", "same", "vp9", "yuv420p10le", (64, 48), "another codec for webm: av1"),
        ("h264", "same", "h264", "yuv420p12le", (64, 48), r"another kind of file.*\.mp4 with hevc"),
        ("avi", "same", "dvvideo", "yuv444p12le", (64, 48), r"\.mkv with hevc"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(
    container: str, codec: str, input_codec: str, pixel_format: str, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose_encoder(CONTAINERS[container], codec, input_codec, pixel_format, *size)


@given(
    st.sampled_from(sorted(ENCODERS)), st.sampled_from(sorted(PIXEL_FORMATS)), st.integers(1, 99), st.integers(1, 99)
)
def test_samples_are_never_changed_to_fit(family: str, name: str, width: int, height: int) -> None:
    target = accepted_format(ENCODERS[family], name, width, height)
    if target is None:
        return
    given_format, taken = PIXEL_FORMATS[name], PIXEL_FORMATS[target]
    assert taken.bit_depth == given_format.bit_depth
    if given_format.kind != "gray":
        assert (taken.log2_chroma_w, taken.log2_chroma_h) == (given_format.log2_chroma_w, given_format.log2_chroma_h)
