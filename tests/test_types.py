"""The values between stages refuse what is inconsistent, and keep what is personal out of their repr."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation, Region


def frame_of(name: str, width: int, height: int, **more: object) -> Frame:
    form = PIXEL_FORMATS[name]
    planes = tuple(np.zeros(shape, form.dtype) for shape in form.plane_shapes(width, height))
    return Frame(planes, form, width, height, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("yuv420p", ((5, 7), (3, 4), (3, 4))),
        ("yuv422p", ((5, 7), (5, 4), (5, 4))),
        ("yuv444p12le", ((5, 7), (5, 7), (5, 7))),
        ("nv12", ((5, 7), (3, 4, 2))),
        ("p010le", ((5, 7), (3, 4, 2))),
        ("gray16le", ((5, 7),)),
        ("rgba64le", ((5, 7, 4),)),
        ("ya8", ((5, 7, 2),)),
    ],
)
def test_planes_of_odd_sizes_round_chroma_up(name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    assert PIXEL_FORMATS[name].plane_shapes(7, 5) == shapes


@pytest.mark.parametrize("name", sorted(PIXEL_FORMATS))
def test_formats_describe_what_ffmpeg_means_by_their_name(name: str) -> None:
    av = pytest.importorskip("av")
    form, theirs = PIXEL_FORMATS[name], av.VideoFormat(name, 64, 32)
    assert form.name == name
    assert {c.bits for c in theirs.components} == {form.bit_depth}
    assert len(form.channels or "g" * len(theirs.components)) == len(theirs.components)
    assert form.dtype.itemsize == (theirs.components[0].bits + 7) // 8
    if "yuv" in form.kind:
        chroma = theirs.components[1]
        assert (chroma.width, chroma.height) == (64 >> form.log2_chroma_w, 32 >> form.log2_chroma_h)
    assert theirs.is_rgb == form.channels.startswith(("rgb", "bgr"))


def test_a_frame_refuses_planes_of_another_shape_or_type() -> None:
    form = PIXEL_FORMATS["yuv420p"]
    luma, chroma = np.zeros((4, 6), np.uint8), np.zeros((2, 3), np.uint8)
    Frame((luma, chroma, chroma), form, 6, 4)
    with pytest.raises(ValueError, match="has planes"):
        Frame((luma, chroma), form, 6, 4)
    with pytest.raises(ValueError, match="has planes"):
        Frame((luma, chroma, chroma.T), form, 6, 4)
    with pytest.raises(ValueError, match="uint8"):
        Frame((luma, chroma, chroma.astype(np.uint16)), form, 6, 4)


@pytest.mark.parametrize("orientation", Orientation)
def test_upright_size_swaps_for_quarter_turns(orientation: Orientation) -> None:
    expected = (6, 8) if orientation in (5, 6, 7, 8) else (8, 6)
    assert frame_of("gray", 8, 6, orientation=orientation).upright_size_px == expected


def test_pts_in_seconds() -> None:
    assert frame_of("gray", 2, 2).pts_seconds is None
    assert frame_of("gray", 2, 2, pts=3003, time_base=Fraction(1, 90000)).pts_seconds == pytest.approx(3003 / 90000)


def detections(n: int = 2, **changed: object) -> Detections:
    values: dict[str, object] = {
        "boxes_xyxy_px": np.full((n, 4), 12345, np.float32),
        "scores": np.ones(n, np.float32),
        "class_ids": np.zeros(n, np.int32),
        "class_names": ("face",),
    }
    return Detections(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"boxes_xyxy_px": np.zeros((3, 4), np.float32)},
        {"boxes_xyxy_px": np.zeros((2, 4), np.float64)},
        {"scores": np.ones((2, 1), np.float32)},
        {"class_ids": np.zeros(2, np.int64)},
        {"class_ids": np.ones(2, np.int32)},
        {"class_ids": np.full(2, -1, np.int32)},
        {"landmarks_px": np.zeros((1, 5, 2), np.float32)},
        {"landmarks_px": np.zeros((2, 5, 3), np.float32)},
    ],
)
def test_detections_refuse_arrays_that_do_not_fit(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changed))):
        detections(**changed)


def test_empty_detections() -> None:
    empty = Detections.empty(["face", "license_plate"])
    assert len(empty) == 0
    assert empty.class_names == ("face", "license_plate")


def test_boxes_never_show_in_a_repr() -> None:
    assert "12345" not in repr(detections())
    assert "12345" not in f"{Region(12345, 12345, 12345, 12345)!r}"
