"""Parts of frames: the reference against whole pixels, the kernel against the reference."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.preprocess.rois import rois
from trt_anon.preprocess.rois_cuda import RoisCuda
from trt_anon.types import PIXEL_FORMATS, Frame, InputSpec, Orientation

PLAIN = RoisCuda()
STRICT = RoisCuda(host=HostOptions(seed=7, poison=255, check=True))
SPEC = InputSpec(channels="bgr", mean=(104.0, 117.0, 123.0), scale=(0.5, 1.0, 0.25), size_px=(24, 16))


def noise(name, width, height, seed=0, orientation=Orientation.NORMAL, place=guarded):
    form, rng = PIXEL_FORMATS[name], np.random.default_rng(seed)
    planes = [
        place((rng.integers(0, 1 << form.bit_depth, shape) << form.sample_shift).astype(form.dtype))
        for shape in form.plane_shapes(width, height)
    ]
    return Frame(tuple(planes), form, width, height, orientation=orientation)


def test_a_part_of_its_own_size_is_its_pixels():
    frame = noise("rgb24", 50, 40)
    boxes = np.array([[3.2, 5.0, 26.9, 21.0], [-9, 30, 11.5, 46], [49.5, 39.5, 49.5, 39.5]])
    spec = InputSpec(size_px=(24, 16))
    out = rois(frame, boxes, spec)
    np.testing.assert_array_equal(out[0].transpose(1, 2, 0), frame.planes[0][5:21, 3:27])
    assert out.shape == (3, 3, 16, 24)
    exact = frame.planes[0][30:40, 0:12].mean(axis=(0, 1))
    assert np.abs(out[1].mean(axis=(1, 2)) - exact).max() < 12  # all of what is inside, and nothing else
    assert (out[2] == frame.planes[0][39, 49].reshape(3, 1, 1)).all()


places = st.floats(-30, 120)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(["nv12", "p010le", "yuv422p", "yuv444p10le", "rgb24", "gray"]),
    st.sampled_from(list(Orientation)),
    st.lists(st.tuples(places, places, st.floats(0, 90), st.floats(0, 90)), max_size=5),
    st.sampled_from([PLAIN, STRICT]),
)
def test_any_boxes(width, height, name, orientation, corners, kernel):
    frame = noise(name, width, height, orientation=orientation)
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners]).reshape(-1, 4)
    inside = [
        math.floor(x) < width
        and math.floor(y) < height
        and max(math.ceil(x + w), math.floor(x) + 1) > 0
        and max(math.ceil(y + h), math.floor(y) + 1) > 0
        for x, y, w, h in corners
    ]
    if not all(inside):
        for implementation in (rois, kernel):
            with pytest.raises(ValueError, match="covers nothing"):
                implementation(frame, boxes, SPEC)
        boxes = boxes[inside]
    off = np.abs(kernel(frame, boxes, SPEC) - rois(frame, boxes, SPEC)) / np.reshape(SPEC.scale, (3, 1, 1))
    assert off.max(initial=0) <= 1


def test_many_of_several_frames_in_few_launches():
    accounting = Accounting()
    frames = [noise("nv12", 90, 60, seed=i) for i in range(3)]
    rng = np.random.default_rng(2)
    first = rng.uniform(0, 50, (40, 2))
    boxes, pictures = np.concatenate((first, first + rng.uniform(1, 40, (40, 2))), axis=1), [i % 3 for i in range(40)]
    out = np.full((40, 3, 16, 24), 9, np.float16)
    RoisCuda(accounting=accounting).batch(frames, boxes, pictures, SPEC, out)
    for box, number, part in zip(boxes, pictures, out, strict=True):
        assert np.abs(part - rois(frames[number], box[None], SPEC)[0]).max() <= 1 + 0.1
    assert accounting.total.launches == 2


def test_wrong_arguments():
    frame, out = noise("nv12", 40, 40), np.zeros((1, 3, 16, 24), np.float32)
    for bad in ([math.nan, 0, 5, 5], [9, 0, 5, 5], [0, 0, math.inf, 5]):
        for implementation in (rois, PLAIN):
            with pytest.raises(ValueError, match="four finite numbers"):
                implementation(frame, np.array([bad]), SPEC)
    with pytest.raises(ValueError, match=r"give spec\.size_px"):
        rois(frame, np.array([[0, 0, 5, 5]]), InputSpec())
    with pytest.raises(ValueError, match="do not match"):
        PLAIN.batch([frame], np.zeros((1, 4)), [], SPEC, out)
    with pytest.raises(ValueError, match="must index"):
        PLAIN.batch([frame], np.zeros((1, 4)), [1], SPEC, out)


def test_it_is_called_like_the_specification():
    assert inspect.signature(PLAIN.__call__) == inspect.signature(rois)
