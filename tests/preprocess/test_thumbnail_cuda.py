"""The kernel against the specification: the same bits, in every format and way up."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.preprocess import thumbnail
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.preprocess.thumbnail_cuda import MAX_JOBS, ThumbnailCuda, stored_hw_px
from trt_anon.types import PIXEL_FORMATS, Frame, Orientation

pytest.importorskip("cv2")
PLAIN = ThumbnailCuda()
STRICT = ThumbnailCuda(host=HostOptions(seed=7, poison=255, check=True))


def noise(name, width, height, *, orientation=Orientation.NORMAL, seed=0, padding=0):
    """A frame of white noise; its planes end where memory ends."""
    form, rng, planes = PIXEL_FORMATS[name], np.random.default_rng(seed), []
    for shape in form.plane_shapes(width, height):
        wide = (shape[0], shape[1] + padding, *shape[2:])
        codes = (rng.integers(0, 1 << form.bit_depth, wide) << form.sample_shift).astype(form.dtype)
        planes.append(guarded(codes)[:, padding:])
    return Frame(tuple(planes), form, width, height, orientation=orientation)


@pytest.mark.parametrize("name", list(PIXEL_FORMATS))
def test_every_format(name, monkeypatch):
    for long_side in (512, 60, 30):
        monkeypatch.setattr(thumbnail, "LONG_SIDE_PX", long_side)
        frame = noise(name, 97, 65, padding=3)
        np.testing.assert_array_equal(STRICT(frame), grey_thumbnail(frame))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["nv12", "p010le", "rgb24", "gray"]),
    st.sampled_from(list(Orientation)),
    st.sampled_from([2, 16, 100]),
    st.sampled_from([PLAIN, STRICT]),
)
def test_any_size(width, height, name, orientation, long_side, kernel):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnail, "LONG_SIDE_PX", long_side)
        frame = noise(name, width, height, orientation=orientation)
        found, wanted = kernel(frame), grey_thumbnail(frame)
        assert found.shape == wanted.shape
        np.testing.assert_array_equal(found, wanted)


def test_8k_and_extreme_sizes():
    for size in ((7680, 4320), (65535, 3), (1, 4000)):
        frame = noise("nv12", *size)
        np.testing.assert_array_equal(PLAIN(frame), grey_thumbnail(frame))


def test_a_batch_is_few_launches_and_nothing_else_is_written():
    accounting = Accounting()
    kernel = ThumbnailCuda(host=HostOptions(check=True), accounting=accounting)
    frames = [noise("nv12", 640, 48, seed=seed) for seed in range(MAX_JOBS + 2)]
    before = [frame.planes[0].copy() for frame in frames]
    block = guarded(np.full((len(frames), *stored_hw_px(48, 640)), 201, np.uint8))
    kernel.batch(frames, list(block))
    for frame, plane, out in zip(frames, before, block, strict=True):
        np.testing.assert_array_equal(out, grey_thumbnail(frame))
        np.testing.assert_array_equal(frame.planes[0], plane)
    assert accounting.total.launches == 2
    kernel.batch([], [])


@pytest.mark.gpu
def test_on_a_gpu(cupy):
    for name in ("nv12", "p010le", "rgb24"):
        frame = noise(name, 1930, 1081)
        there = Frame(tuple(cupy.asarray(plane) for plane in frame.planes), frame.pixel_format, 1930, 1081)
        out = cupy.full(stored_hw_px(1081, 1930), 201, np.uint8)
        ThumbnailCuda().batch([there], [out])
        np.testing.assert_array_equal(cupy.asnumpy(out), grey_thumbnail(frame))


def test_what_does_not_fit_is_refused():
    frame = noise("nv12", 64, 48)
    out = np.zeros((48, 64), np.uint8)
    with pytest.raises(ValueError, match="do not match"):
        PLAIN.batch([frame], [])
    with pytest.raises(ValueError, match="expected C-contiguous uint8"):
        PLAIN.batch([frame], [out.T])
    with pytest.raises(ValueError, match="one format, size and stride"):
        PLAIN.batch([frame, noise("nv12", 64, 48, padding=1)], [out, out.copy()])
    with pytest.raises(ValueError, match="65535"):
        PLAIN.batch([noise("gray", 70000, 1)], [out])
    assert inspect.signature(ThumbnailCuda.__call__).return_annotation == (
        inspect.signature(grey_thumbnail).return_annotation
    )
