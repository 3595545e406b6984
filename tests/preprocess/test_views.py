"""Views of a frame: what they cover, that they are right in every orientation and format, and how points come back."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.config import Scale
from trt_anon.errors import UsageError
from trt_anon.geometry import points_to_upright, turn_upright
from trt_anon.preprocess.crop import crop
from trt_anon.preprocess.letterbox import letterbox
from trt_anon.preprocess.letterbox_cpu import MEAN_TOLERANCE_CODES, letterbox_cpu
from trt_anon.preprocess.letterbox_cuda import TOLERANCE_CODES, LetterboxCuda
from trt_anon.preprocess.views import MIRRORED, View, parts_of, plan_views
from trt_anon.types import PIXEL_FORMATS, Frame, InputSpec, Orientation

SQUARE = Fraction(1)
SPEC = InputSpec(stride_px=8)


def views_of(frame: Frame, *scales: Scale, flip: bool = False, spec: InputSpec = SPEC) -> tuple[View, ...]:
    size = (frame.width_px, frame.height_px)
    return plan_views(*size, frame.orientation, frame.pixel_aspect, scales or (Scale(),), spec, flip=flip)


def noise(form: str, width: int, height: int, orientation: Orientation = Orientation.NORMAL) -> Frame:
    layout = PIXEL_FORMATS[form]
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, 256, shape, np.uint8) for shape in layout.plane_shapes(width, height)]
    return Frame(tuple(planes), layout, width, height, orientation=orientation)


@pytest.mark.parametrize("orientation", Orientation)
def test_a_mirror_is_the_upright_picture_with_its_columns_reversed(orientation: Orientation) -> None:
    picture = np.arange(6 * 4).reshape(4, 6)
    mirrored = turn_upright(picture, MIRRORED[orientation])
    assert np.array_equal(mirrored, turn_upright(picture, orientation)[:, ::-1])


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    tile=st.integers(64, 2000),
    overlap=st.floats(0, 0.5),
)
def test_parts_cover_the_picture_overlap_and_begin_on_even_pixels(
    width: int, height: int, tile: int, overlap: float
) -> None:
    parts = parts_of(width, height, Scale(tile_px=tile, tile_overlap=overlap))
    for axis, side in ((0, width), (1, height)):
        spans = sorted({(part[axis], part[axis] + part[axis + 2]) for part in parts})
        assert spans[0][0] == 0
        assert spans[-1][1] == side
        assert all(begin % 2 == 0 for begin, _ in spans)
        assert all(end - begin <= tile + 1 for begin, end in spans), "an odd side may add a pixel to the last part"
        assert all(a[1] - b[0] >= int(tile * overlap) for a, b in pairwise(spans))
        if side <= tile:
            assert spans == [(0, side)]
    assert len(parts) == len(set(parts))


def test_a_picture_too_small_to_be_cut_is_one_part_and_seen_once() -> None:
    frame = noise("rgb24", 300, 200)
    (only,) = views_of(frame, Scale(), Scale(tile_px=300))
    assert only.part_xywh_px is None
    assert only.of(frame) is frame


def test_the_views_of_a_large_frame_are_whole_and_cut_at_each_scale_and_mirrored() -> None:
    scales = (Scale(max_long_side_px=96), Scale(tile_px=128, max_long_side_px=96))
    views = views_of(noise("nv12", 240, 128), *scales, flip=True)
    assert [(view.part_xywh_px, view.mirrored) for view in views] == [
        (None, False),
        (None, True),
        ((0, 0, 128, 128), False),
        ((0, 0, 128, 128), True),
        ((56, 0, 128, 128), False),
        ((56, 0, 128, 128), True),
        ((112, 0, 128, 128), False),
        ((112, 0, 128, 128), True),
    ]
    assert [view.plan.target_hw_px for view in views] == [(56, 96)] * 2 + [(96, 96)] * 6


def test_a_detector_of_one_size_sees_each_part_at_that_size() -> None:
    views = views_of(noise("gray", 640, 240), Scale(tile_px=320, tile_overlap=0), spec=InputSpec(size_px=(320, 240)))
    assert len(views) == 3, "a part may begin on even pixels only, so two would leave none in common"
    assert {view.plan.target_hw_px for view in views} == {(240, 320)}


@pytest.mark.parametrize("orientation", Orientation)
@pytest.mark.parametrize("form", ["rgb24", "nv12", "yuv420p", "yuv444p"])
def test_a_view_shows_that_part_of_the_upright_picture(form: str, orientation: Orientation) -> None:
    frame = noise(form, 150, 101, orientation)
    (whole,) = views_of(frame)
    upright = letterbox(frame, whole.plan, SPEC)
    for view in views_of(frame, Scale(tile_px=64), flip=True):
        x, y = view.offset_xy_px
        width, height = view.plan.upright_size_px
        shown = letterbox(view.of(frame), view.plan, SPEC)[:height, :width]
        wanted = upright[y : y + height, x : x + width]
        assert np.array_equal(shown[:, ::-1] if view.mirrored else shown, wanted)


@pytest.mark.parametrize("form", ["rgb24", "yuv420p"])
def test_every_implementation_shows_the_same(form: str) -> None:
    frame = noise(form, 150, 102, Orientation.ROTATE_90_CLOCKWISE)
    kernel = LetterboxCuda()
    for view in views_of(frame, Scale(), Scale(tile_px=64, max_long_side_px=40), flip=True):
        wanted = letterbox(view.of(frame), view.plan, SPEC).astype(int)
        assert np.abs(kernel(view.of(frame), view.plan, SPEC) - wanted).max() <= TOLERANCE_CODES
        assert np.abs(letterbox_cpu(view.of(frame), view.plan, SPEC) - wanted).mean() <= MEAN_TOLERANCE_CODES


@pytest.mark.parametrize("orientation", Orientation)
def test_points_come_back_from_every_view(orientation: Orientation) -> None:
    frame = noise("yuv420p", 500, 301, orientation)
    mark = np.array([150.0, 130.0], np.float32)
    stored = np.array([[150.0, 130.0, 170.0, 140.0]], np.float32).reshape(1, 2, 2)
    upright = points_to_upright(stored, 500, 301, orientation)
    box = np.concatenate((upright.min(axis=1), upright.max(axis=1)), axis=1)
    seen = 0
    for view in views_of(frame, Scale(), Scale(tile_px=160, min_long_side_px=320), flip=True):
        x, y, width, height = view.part_xywh_px or (0, 0, 500, 301)
        inside = stored - np.array((x, y), np.float32)
        if inside.min() < 0 or (inside > (width, height)).any():
            continue
        turned = points_to_upright(inside, width, height, view.plan.orientation)
        there = view.plan.boxes_to_input_px(np.concatenate((turned.min(axis=1), turned.max(axis=1)), axis=1))
        np.testing.assert_allclose(view.boxes_to_upright_px(there), box, atol=0.01)
        corners = there.reshape(1, 2, 2)
        back = view.points_to_upright_px(corners)
        np.testing.assert_allclose(np.sort(back, axis=1), np.sort(box.reshape(1, 2, 2), axis=1), atol=0.01)
        seen += 1
    assert seen >= 4, mark


@pytest.mark.parametrize("orientation", Orientation)
def test_a_box_is_cut_where_a_part_ends_within_the_picture(orientation: Orientation) -> None:
    frame = noise("gray", 300, 200, orientation)
    width, height = frame.upright_size_px
    (whole,) = views_of(frame)
    assert whole.cut(np.zeros((1, 4), np.float32)) is None
    for view in views_of(frame, Scale(tile_px=128), flip=True):
        (x, y), (w, h) = view.offset_xy_px, view.plan.upright_size_px
        inside = [x + 20, y + 20, x + 60, y + 60]
        sides = [[x, *inside[1:]], [inside[0], y, *inside[2:]], [*inside[:2], x + w, y + 60], [*inside[:3], y + h]]
        cut = view.cut(np.array([inside, *sides], np.float32))
        assert cut is not None
        assert cut.tolist() == [False, x > 0, y > 0, x + w < width, y + h < height]


def test_landmarks_keep_their_meaning_in_a_mirror() -> None:
    # Right eye, left eye, nose, right and left corner of the mouth, as a face shows them: its right is the left here.
    face = np.array([[[40, 50], [60, 50], [50, 60], [42, 70], [58, 70]]], np.float32)
    view = next(v for v in views_of(noise("gray", 200, 100), flip=True) if v.mirrored)
    in_mirror = face.copy()
    in_mirror[..., 0] = 200 - in_mirror[..., 0]
    in_mirror = in_mirror[:, [1, 0, 2, 4, 3]]  # what a detector calls the right eye there
    np.testing.assert_array_equal(view.landmarks_to_upright_px(in_mirror), face)
    missing = np.full((1, 5, 2), np.nan, np.float32)
    assert np.isnan(view.landmarks_to_upright_px(missing)).all()


def test_a_real_face_is_found_where_it_is_in_every_view(faces: ModuleType) -> None:
    from trt_anon import Anonymizer

    x0, y0, x1, y1 = faces.FACE
    with Anonymizer() as plain, Anonymizer(flip=True, tile_px=192, tile_overlap=0.5, fusion="weighted") as looking:
        found = [one.detect([faces.picture()])[0] for one in (plain, looking)]
    for detections in found:
        assert detections.landmarks_px is not None
        box, marks = detections.boxes_xyxy_px[0], detections.landmarks_px[0]
        assert x0 - 12 < box[0] < box[2] < x1 + 12
        assert y0 - 12 < box[1] < box[3] < y1 + 12
        assert marks[0, 0] < marks[1, 0], "eyes are not exchanged"
        assert marks[3, 0] < marks[4, 0]


@pytest.mark.parametrize("part", [(1, 0, 8, 8), (0, 0, 0, 8), (0, 0, 65, 8), (-2, 0, 8, 8)])
def test_what_is_no_part_is_refused(part: tuple[int, int, int, int]) -> None:
    with pytest.raises(UsageError, match="no part"):
        crop(noise("nv12", 64, 48), *part)
