"""The specification itself, against values worked out by hand or by other means."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.errors import UsageError
from trt_anon.geometry import boxes_to_upright, turn_upright
from trt_anon.preprocess.letterbox import (
    MAX_CONTENT_PX,
    MAX_SIDE_PX,
    letterbox,
    plan_letterbox,
    resample,
    square_size_px,
    yuv_to_rgb,
)
from trt_anon.types import PIXEL_FORMATS, Color, Frame, InputSpec, Orientation

SQUARE = Fraction(1)
sides = st.integers(1, 5000)
orientations = st.sampled_from(list(Orientation))
aspects = st.sampled_from([SQUARE, Fraction(4, 3), Fraction(16, 11), Fraction(8, 9), Fraction(0)])


def gray_frame(codes: np.ndarray, full_range: bool = True, orientation: Orientation = Orientation.NORMAL) -> Frame:
    height, width = codes.shape
    return Frame(
        (codes,),
        PIXEL_FORMATS["gray"],
        width,
        height,
        color=Color(full_range=full_range),
        orientation=orientation,
    )


@given(sides, sides, orientations, aspects, st.floats(1e-4, 40), st.sampled_from([8, 32, 64]))
def test_plan_keeps_its_promises(width, height, orientation, aspect, factor, stride):
    plan = plan_letterbox(width, height, orientation, aspect, factor, InputSpec(stride_px=stride))
    (cw, ch), (th, tw) = plan.content_size_px, plan.target_hw_px
    assert 1 <= cw <= tw < cw + stride
    assert 1 <= ch <= th < ch + stride
    assert tw % stride == th % stride == 0
    assert max(cw, ch) <= MAX_SIDE_PX
    assert cw * ch <= MAX_CONTENT_PX * 1.01
    square_w, square_h = square_size_px(width, height, orientation, aspect)
    if square_w * factor <= 4000 and square_h * factor <= 4000:
        assert abs(cw - square_w * factor) <= 0.5 + 1e-6 or cw == 1
        assert abs(ch - square_h * factor) <= 0.5 + 1e-6 or ch == 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20000, 3), (3, 20000), (65535, 65535)])
@pytest.mark.parametrize("factor", [1.0, 1e-6, 1280.0])
def test_extreme_sizes_stay_bounded(width, height, factor):
    plan = plan_letterbox(width, height, Orientation.NORMAL, SQUARE, factor, InputSpec())
    assert min(plan.content_size_px) >= 1
    assert plan.target_hw_px[0] * plan.target_hw_px[1] <= 1.1 * MAX_CONTENT_PX + 64 * MAX_SIDE_PX


def test_fixed_size_takes_the_largest_content_that_fits():
    plan = plan_letterbox(1920, 1080, Orientation.NORMAL, SQUARE, None, InputSpec(size_px=(640, 480)))
    assert plan.content_size_px == (640, 360)
    assert plan.target_hw_px == (480, 640)
    turned = plan_letterbox(1920, 1080, Orientation.ROTATE_90_CLOCKWISE, SQUARE, None, InputSpec(size_px=(640, 480)))
    assert turned.content_size_px == (270, 480)
    stretched = plan_letterbox(
        1920, 1080, Orientation.NORMAL, SQUARE, None, InputSpec(size_px=(320, 240), fit="stretch")
    )
    assert stretched.content_size_px == (320, 240)
    assert stretched.factors_xy == (320 / 1920, 240 / 1080)


def test_pixel_aspect_follows_the_orientation():
    assert square_size_px(720, 576, Orientation.NORMAL, Fraction(16, 11)) == (pytest.approx(1047.27, abs=0.01), 576)
    assert square_size_px(720, 576, Orientation.ROTATE_90_CLOCKWISE, Fraction(16, 11)) == (
        576,
        pytest.approx(1047.27, abs=0.01),
    )
    assert square_size_px(720, 480, Orientation.NORMAL, Fraction(8, 9)) == (720, 540)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf"), None])
def test_senseless_factors_are_refused(factor):
    with pytest.raises(UsageError, match="scale factor"):
        plan_letterbox(10, 10, Orientation.NORMAL, SQUARE, factor, InputSpec())
    with pytest.raises(UsageError, match="0x10"):
        plan_letterbox(0, 10, Orientation.NORMAL, SQUARE, 1.0, InputSpec())


def test_area_average_by_hand():
    assert resample(np.array([[1.0], [2.0], [4.0]]), 2).ravel() == pytest.approx([(1 + 1) / 1.5, (1 + 4) / 1.5])
    assert resample(np.arange(8.0)[:, None], 2).ravel() == pytest.approx([1.5, 5.5])


def test_bilinear_by_hand():
    assert resample(np.array([[0.0], [4.0]]), 4).ravel() == pytest.approx([0, 1, 3, 4])
    assert resample(np.array([[7.0]]), 3).ravel() == pytest.approx([7, 7, 7])


@given(st.integers(1, 40), st.integers(1, 40))
def test_resampling_keeps_the_mean_when_it_shrinks_and_never_leaves_the_range(have, want):
    samples = np.random.default_rng(have * 41 + want).uniform(0, 255, (have, 2))
    result = resample(samples, want)
    assert result.min() >= samples.min() - 1e-9
    assert result.max() <= samples.max() + 1e-9
    if want <= have:
        assert result.mean(axis=0) == pytest.approx(samples.mean(axis=0))


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_colour_matrix_undoes_the_forward_definition(matrix, full_range, depth):
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    r, g, b = 0.8, 0.25, 0.4
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full_range:
        peak = 2**depth - 1
        codes = [y * peak, cb * peak + 2 ** (depth - 1), cr * peak + 2 ** (depth - 1)]
    else:
        unit = 2 ** (depth - 8)
        codes = [(219 * y + 16) * unit, (224 * cb + 128) * unit, (224 * cr + 128) * unit]
    table, offset = yuv_to_rgb(matrix, full_range, depth)
    assert table @ codes + offset == pytest.approx([255 * r, 255 * g, 255 * b], abs=1e-9)


def test_rounds_half_up_and_pads_right_and_below():
    frame = gray_frame(np.array([[10, 11], [10, 11]], np.uint8))
    plan = plan_letterbox(2, 2, Orientation.NORMAL, SQUARE, 0.5, InputSpec(pad_value=99))
    picture = letterbox(frame, plan, InputSpec(pad_value=99))
    assert picture.shape == (32, 32, 3)
    assert (picture[0, 0] == 11).all()  # the mean is 10.5
    assert (picture[1:] == 99).all()
    assert (picture[:, 1:] == 99).all()


def test_limited_gray_is_expanded_and_full_gray_is_not():
    codes = np.array([[16, 235]], np.uint8)
    plan = plan_letterbox(2, 1, Orientation.NORMAL, SQUARE, 1.0, InputSpec())
    assert letterbox(gray_frame(codes, full_range=False), plan, InputSpec())[0, :2, 0].tolist() == [0, 255]
    assert letterbox(gray_frame(codes), plan, InputSpec())[0, :2, 0].tolist() == [16, 235]


def test_channels_come_in_the_order_asked_for_and_alpha_is_ignored():
    for name, pixel in (("rgb24", (1, 2, 3)), ("bgr24", (3, 2, 1)), ("rgba", (1, 2, 3, 0))):
        frame = Frame((np.array([[pixel]], np.uint8),), PIXEL_FORMATS[name], 1, 1)
        plan = plan_letterbox(1, 1, Orientation.NORMAL, SQUARE, 1.0, InputSpec())
        assert letterbox(frame, plan, InputSpec(channels="rgb"))[0, 0].tolist() == [1, 2, 3]
        assert letterbox(frame, plan, InputSpec(channels="bgr"))[0, 0].tolist() == [3, 2, 1]


def test_the_callers_array_is_filled_and_wrong_ones_are_refused():
    frame = gray_frame(np.zeros((4, 4), np.uint8))
    plan = plan_letterbox(4, 4, Orientation.NORMAL, SQUARE, 1.0, InputSpec())
    batch = np.full((2, 32, 32, 3), 7, np.uint8)
    assert np.shares_memory(letterbox(frame, plan, InputSpec(), batch[1]), batch)
    assert (batch[0] == 7).all()
    assert (batch[1] == 0).all()
    with pytest.raises(ValueError, match="expected uint8"):
        letterbox(frame, plan, InputSpec(), np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="plan is for"):
        letterbox(gray_frame(np.zeros((4, 5), np.uint8)), plan, InputSpec())


@settings(max_examples=60, deadline=None)
@given(st.data(), orientations, st.sampled_from([0.5, 0.8, 1.0, 1.7]), aspects)
def test_a_box_of_the_stored_picture_is_found_at_its_upright_place(data, orientation, factor, aspect):
    """A bright box, drawn into the stored picture, is looked for in the tensor and mapped back."""
    width, height = data.draw(st.integers(40, 90)), data.draw(st.integers(40, 90))
    x0, y0 = data.draw(st.integers(0, width - 20)), data.draw(st.integers(0, height - 20))
    x1, y1 = data.draw(st.integers(x0 + 12, width)), data.draw(st.integers(y0 + 12, height))
    codes = np.zeros((height, width), np.uint8)
    codes[y0:y1, x0:x1] = 255
    frame = gray_frame(codes, orientation=orientation)
    plan = plan_letterbox(width, height, orientation, aspect, factor, InputSpec())
    bright = letterbox(frame, plan, InputSpec())[..., 0] >= 128
    ys, xs = np.nonzero(bright)
    found = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
    truth = boxes_to_upright(np.array([[x0, y0, x1, y1]], np.float32), width, height, orientation)
    per_pixel = 1 / np.array([*plan.factors_xy, *plan.factors_xy])
    assert (np.abs(plan.boxes_to_upright_px(found) - truth) <= 0.5 * per_pixel + 0.51).all()


@given(st.integers(1, 5000), st.integers(1, 5000), orientations, aspects, st.floats(0.01, 8))
def test_boxes_return_from_where_they_went(width, height, orientation, aspect, factor):
    plan = plan_letterbox(width, height, orientation, aspect, factor, InputSpec())
    uw, uh = plan.upright_size_px
    boxes = np.array([[0, 0, uw, uh], [-5, -7, uw + 3, uh + 9]], np.float32)
    there = plan.boxes_to_input_px(boxes)
    assert there[0] == pytest.approx([0, 0, *plan.content_size_px], rel=1e-6)
    assert plan.boxes_to_upright_px(there) == pytest.approx(boxes, rel=1e-5, abs=1e-3)
    marks = there.reshape(2, 2, 2)
    marks[0, 0] = np.nan
    back = plan.landmarks_to_upright_px(marks)
    assert np.isnan(back[0, 0]).all()
    assert back[0, 1] == pytest.approx([uw, uh], rel=1e-5)


@pytest.mark.parametrize("orientation", list(Orientation))
def test_turning_is_the_geometry_modules(orientation):
    codes = np.arange(15, dtype=np.uint8).reshape(3, 5)
    plan = plan_letterbox(5, 3, orientation, SQUARE, 1.0, InputSpec())
    picture = letterbox(gray_frame(codes, orientation=orientation), plan, InputSpec())
    width, height = plan.content_size_px
    assert picture[:height, :width, 0].tolist() == turn_upright(codes, orientation).tolist()


@pytest.mark.parametrize(
    ("name", "space", "matrix"), [("bt601", 5, "bt601"), ("bt709", 1, "bt709"), ("2020", 9, "bt2020")]
)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("format_name", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "p010le"])
def test_colours_agree_with_libswscale(name, space, matrix, full_range, format_name):
    """Flat colours, so that nothing but the conversion is compared."""
    rng = np.random.default_rng(5)
    form = PIXEL_FORMATS[format_name]
    for _ in range(12):
        native = av.VideoFrame(64, 64, format_name)
        codes = rng.integers(40, 216, 3) << (form.bit_depth - 8)
        planes = []
        for i, shape in enumerate(form.plane_shapes(64, 64)):
            row = native.planes[i].line_size // form.dtype.itemsize
            view = np.frombuffer(native.planes[i], form.dtype).reshape(-1, row)[: shape[0], : int(np.prod(shape[1:]))]
            view = view.reshape(shape)
            view[...] = (codes[1:] if view.ndim == 3 else codes[i]) << form.sample_shift
            planes.append(view)
        theirs = native.reformat(
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=2 if full_range else 1,
            dst_color_range=2,
            threads=1,
        ).to_ndarray()
        frame = Frame(tuple(planes), form, 64, 64, color=Color(matrix, full_range))
        plan = plan_letterbox(64, 64, Orientation.NORMAL, SQUARE, 1.0, InputSpec())
        ours = letterbox(frame, plan, InputSpec())
        assert np.abs(ours[32, 32].astype(int) - theirs[32, 32]).max() <= 3, name
