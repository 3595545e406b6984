"""The kernel against the specification: within one code, in every format, way up, layout and type."""

from __future__ import annotations

import inspect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.errors import UsageError
from trt_anon.geometry import turn_upright
from trt_anon.preprocess.crop import crop
from trt_anon.preprocess.letterbox import _to_rgb, letterbox, plan_letterbox
from trt_anon.preprocess.letterbox_cuda import MAX_JOBS, TOLERANCE_CODES, LetterboxCuda
from trt_anon.types import PIXEL_FORMATS, Color, Frame, InputSpec, Orientation

SQUARE = Fraction(1)
PLAIN = LetterboxCuda()
STRICT = LetterboxCuda(host=HostOptions(seed=7, poison=255, check=True))


def noise(name, width, height, *, color=None, orientation=Orientation.NORMAL, seed=0, padding=0, place=guarded):
    """A frame of white noise; its planes end where memory ends, their rows `padding` samples further apart."""
    form, rng, planes = PIXEL_FORMATS[name], np.random.default_rng(seed), []
    for shape in form.plane_shapes(width, height):
        wide = (shape[0], shape[1] + padding, *shape[2:])
        codes = (rng.integers(0, 1 << form.bit_depth, wide) << form.sample_shift).astype(form.dtype)
        planes.append(place(codes)[:, padding:])
    return Frame(tuple(planes), form, width, height, color=color or Color(), orientation=orientation)


def plan_of(frame, factor, spec, aspect=SQUARE):
    return plan_letterbox(frame.width_px, frame.height_px, frame.orientation, aspect, factor, spec)


def compare(kernel, frame, factor, spec, aspect=SQUARE):
    plan = plan_of(frame, factor, spec, aspect)
    before = [plane.copy() for plane in frame.planes]
    wanted = letterbox(frame, plan, spec)
    out = guarded(np.full_like(wanted, 201))
    assert kernel(frame, plan, spec, out) is out
    assert all(np.array_equal(plane, old) for plane, old in zip(frame.planes, before, strict=True))
    off = np.abs(out.astype(int) - wanted)
    assert off.max() <= TOLERANCE_CODES
    # Where they differ at all, the specification itself is within float32's reach of a half.
    width, height = plan.content_size_px
    exact = turn_upright(np.clip(_to_rgb(frame, plan.stored_content_size_px), 0, 255), frame.orientation)
    exact = exact[..., :: -1 if spec.channels == "bgr" else 1][off[:height, :width] > 0]
    assert (np.abs(exact - np.floor(exact) - 0.5) < 2e-3).all()
    assert not off[height:].any()
    assert not off[:, width:].any()


@pytest.mark.parametrize("name", list(PIXEL_FORMATS))
@pytest.mark.parametrize("size", [(96, 64), (97, 65)])
def test_every_format(name, size):
    for factor in (1.0, 0.5, 0.31, 0.77, 1.4):
        for color in (Color("bt601", False), Color("bt709", True), Color("bt2020", False)):
            compare(
                STRICT, noise(name, *size, color=color, padding=3), factor, InputSpec(channels="bgr", pad_value=114)
            )


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from(list(PIXEL_FORMATS)),
    st.sampled_from(list(Orientation)),
    st.floats(0.02, 2.5),
    st.sampled_from([SQUARE, Fraction(4, 3), Fraction(8, 9)]),
    st.booleans(),
    st.sampled_from(["rgb", "bgr"]),
    st.sampled_from(["letterbox", "stretch"]),
    st.sampled_from([1, 32]),
    st.sampled_from([PLAIN, STRICT]),
)
def test_any_size(width, height, name, orientation, factor, aspect, full, channels, fit, stride, kernel):
    frame = noise(name, width, height, color=Color("bt709", full), orientation=orientation)
    compare(kernel, frame, factor, InputSpec(channels=channels, pad_value=3, fit=fit, stride_px=stride), aspect)


@pytest.mark.parametrize("size", [(1, 1), (20000, 3), (3, 20000)])
@pytest.mark.parametrize("name", ["nv12", "rgb24"])
def test_extreme_sizes(size, name):
    compare(STRICT, noise(name, *size), 1280 / max(size), InputSpec())


def test_8k_to_a_small_input():
    frame = noise("nv12", 7680, 4320, place=lambda array: array)
    compare(PLAIN, frame, 1.0, InputSpec(size_px=(320, 192)))


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
def test_layouts_and_types(layout, dtype):
    spec = InputSpec(channels="bgr", mean=(104.0, 117.0, 123.0), scale=(0.5, 1 / 58.0, 0.25), pad_value=9)
    frame = noise("p010le", 150, 90)
    plan = plan_of(frame, 0.6, spec)
    picture = np.empty((*plan.target_hw_px, 3), np.uint8)
    PLAIN(frame, plan, spec, picture)
    value = (picture.astype(np.float32) - np.float32(spec.mean)) * np.float32(spec.scale)
    if dtype == np.uint8:
        wanted = picture
    elif dtype == np.int8:
        wanted = np.clip(np.rint(value / np.float32(0.37)), -128, 127).astype(np.int8)
        assert (np.abs(value / 0.37) > 128).any()  # some saturate
    else:
        wanted = value.astype(dtype)
    if layout == "nchw":
        wanted = wanted.transpose(2, 0, 1)
    out = guarded(np.full(wanted.shape, 77, dtype))
    STRICT.batch([frame], [plan], spec, [out], layout=layout, int8_scale=0.37)
    assert np.array_equal(out, wanted)


def check_batch(to_device, to_host, kernel):
    """Several formats, scales, ways up and parts of frames, more than fit into one launch."""
    spec = InputSpec(pad_value=50)
    frames, plans, outs = [], [], []
    for i in range(MAX_JOBS + 3):
        name = ["nv12", "yuv420p", "yuv420p10le", "bgr24", "gray"][i % 5]
        frame = noise(name, 64 + 2 * i, 80, orientation=Orientation(1 + i % 8), seed=i, place=np.array)
        if i % 3 == 1:
            frame = crop(frame, 8, 6, 41, 33)
        frames.append(frame)
        plans.append(plan_of(frame, 0.4 + i / 30, spec))
        outs.append(to_device(np.zeros((*plans[-1].target_hw_px, 3), np.uint8)))
    there = []
    for frame in frames:
        moved = Frame.__new__(Frame)
        for field in Frame.__dataclass_fields__:
            value = getattr(frame, field)
            object.__setattr__(moved, field, tuple(map(to_device, value)) if field == "planes" else value)
        there.append(moved)
    kernel.batch(there, plans, spec, outs, layout="nhwc")
    for frame, plan, out in zip(frames, plans, outs, strict=True):
        assert np.abs(to_host(out).astype(int) - letterbox(frame, plan, spec)).max() <= TOLERANCE_CODES


@pytest.mark.parametrize("kernel", [PLAIN, STRICT])
def test_a_mixed_batch(kernel):
    check_batch(lambda array: array, lambda array: array, kernel)


@pytest.mark.gpu
def test_a_mixed_batch_on_a_gpu(cupy):
    check_batch(cupy.asarray, cupy.asnumpy, LetterboxCuda())


def test_a_batch_into_slices_of_one_tensor_in_one_launch():
    accounting = Accounting()
    kernel, spec = LetterboxCuda(accounting=accounting), InputSpec()
    frames = [noise("nv12", 96, 64, seed=i, place=np.array) for i in range(MAX_JOBS)]
    plan = plan_of(frames[0], 1.0, spec)
    tensor = np.zeros((MAX_JOBS, 3, *plan.target_hw_px), np.float32)
    kernel.batch(frames, [plan] * MAX_JOBS, spec, list(tensor))
    assert np.abs(tensor[9].transpose(1, 2, 0) - letterbox(frames[9], plan, spec)).max() <= TOLERANCE_CODES
    assert accounting.by_kernel["letterbox"].launches == 1
    # Every byte of the sources and of the tensor, once.
    assert accounting.total.bytes_moved == MAX_JOBS * (96 * 64 * 3 // 2) + tensor.nbytes


def test_crop_shares_memory_and_keeps_chroma_in_place():
    frame = noise("nv12", 64, 48, place=np.array)
    part = crop(frame, 10, 4, 21, 44)
    assert np.shares_memory(part.planes[0], frame.planes[0])
    assert np.array_equal(part.planes[0], frame.planes[0][4:48, 10:31])
    assert np.array_equal(part.planes[1], frame.planes[1][2:24, 5:16])
    for wrong in ((1, 0, 8, 8), (0, 3, 8, 8), (0, 0, 65, 8), (60, 0, 8, 8), (0, 0, 0, 8), (-2, 0, 8, 8)):
        with pytest.raises(UsageError, match="are no part of a nv12 frame"):
            crop(frame, *wrong)


def test_wrong_arguments():
    spec = InputSpec()
    frame = noise("nv12", 64, 48, place=np.array)
    plan = plan_of(frame, 1.0, spec)
    out = np.zeros((3, *plan.target_hw_px), np.float32)
    other = noise("nv12", 66, 48)
    cases = [
        (([frame], [plan], spec, []), "do not match"),
        (([other], [plan], spec, [out]), "which the frame is not"),
        (([frame], [plan], spec, [out[:, 1:]]), "expected a C-contiguous nchw"),
        (([frame], [plan], spec, [out.transpose(0, 2, 1)]), "expected a C-contiguous nchw"),
        (([frame], [plan], spec, [out.astype(np.float64)]), "outs must all be one of"),
        (([frame] * 2, [plan] * 2, spec, [out, out.astype(np.int8)]), "outs must all be one of"),
    ]
    for args, message in cases:
        with pytest.raises(ValueError, match=message):
            PLAIN.batch(*args)
    with pytest.raises(ValueError, match="int8_scale"):
        PLAIN.batch([frame], [plan], spec, [out], int8_scale=0)
    upside_down = Frame(tuple(plane[::-1] for plane in frame.planes), frame.pixel_format, 64, 48)
    with pytest.raises(ValueError, match="positive stride"):
        PLAIN.batch([upside_down], [plan], spec, [out])
    PLAIN.batch([], [], spec, [])


def test_a_picture_that_is_part_of_another():
    frame, spec = noise("rgb24", 40, 40), InputSpec()
    plan = plan_of(frame, 1.0, spec)
    canvas = np.zeros((64, 100, 3), np.uint8)
    PLAIN(frame, plan, spec, canvas[:, 10:74])
    assert np.array_equal(canvas[:, 10:74], letterbox(frame, plan, spec))
    assert not canvas[:, :10].any()
    assert not canvas[:, 74:].any()


def test_it_is_called_like_the_specification():
    mine, theirs = inspect.signature(PLAIN.__call__), inspect.signature(letterbox)
    assert list(mine.parameters.values()) == list(theirs.parameters.values())
