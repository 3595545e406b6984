"""Masks of a bit per pixel: the references against definitions, the kernels against the references to the bit."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions
from trt_anon.metrics.privacy import cover
from trt_anon.redact import mask as reference
from trt_anon.redact.bitmap import pack_bits, unpack_bits
from trt_anon.redact.mask_cuda import MaskCuda

PLAIN = MaskCuda()
STRICT = MaskCuda(host=HostOptions(seed=7, poison=255, check=True))
IMPLEMENTATIONS = {"reference": reference, "plain": PLAIN, "strict": STRICT}

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
sizes = st.integers(1, 80)
shares = st.sampled_from([0.0, 0.01, 0.3, 1.0])


def noise(height, width, share, seed):
    return np.random.default_rng(seed).random((height, width)) < share


@implementations
@settings(max_examples=60, deadline=None)
@given(
    sizes,
    sizes,
    shares,
    st.one_of(st.floats(0, 12), st.sampled_from([1.0, math.sqrt(2), 5.0, 40.5, 4096.0])),
    st.integers(0, 999),
)
def test_dilation_is_the_definition(implementation, height, width, share, radius, seed):
    mask = noise(height, width, share, seed)
    found = implementation.dilate(mask, radius)
    points = np.argwhere(mask)
    squares = np.full((height, width), np.iinfo(np.int64).max)
    y, x = np.mgrid[:height, :width]
    for py, px in points:
        np.minimum(squares, (y - py) ** 2 + (x - px) ** 2, out=squares)
    np.testing.assert_array_equal(found, squares <= math.floor(radius * radius))


@implementations
def test_dilation_agrees_with_scipy(implementation):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = noise(90, 131, 0.002, 3)
    wanted = ndimage.distance_transform_edt(~mask) <= 9.49
    np.testing.assert_array_equal(implementation.dilate(mask, 9.49), wanted)


@implementations
@settings(max_examples=80, deadline=None)
@given(
    sizes,
    sizes,
    shares,
    st.lists(st.tuples(*[st.one_of(st.integers(-20, 100), st.sampled_from([-(2**31), 2**31 - 1]))] * 4), max_size=8),
    st.integers(0, 999),
)
def test_cover_is_that_of_the_metrics(implementation, height, width, share, corners, seed):
    mask = noise(height, width, share, seed)
    boxes = np.array(corners, np.int32).reshape(-1, 4)
    found = implementation.covered_px(mask, boxes)
    clipped = np.clip(boxes.astype(np.int64), 0, [width, height, width, height])
    area = np.prod(np.maximum(clipped[:, 2:] - clipped[:, :2], 0), axis=1)
    wanted = cover(boxes.astype(np.float64), mask)
    np.testing.assert_allclose(np.where(area, found / np.maximum(area, 1), 1.0), wanted)
    assert (found[area == 0] == 0).all()


def check_batches(kernel, there, back):
    masks = np.stack([noise(33, 70, 0.02, i) for i in range(5)])
    words = there(pack_bits(masks) | np.uint32(0xFFFFFFC0) * np.array([0, 0, 1], np.uint32))  # beyond the width: junk
    out = there(np.full(words.shape, 0xABABABAB, np.uint32))
    kernel.dilate_batch(words, 70, 4.2, out)
    for mask, dilated in zip(masks, back(out), strict=True):
        np.testing.assert_array_equal(unpack_bits(dilated, 70), reference.dilate(mask, 4.2))
        assert not (dilated[:, 2] >> 6).any()
    rng = np.random.default_rng(1)
    boxes = np.sort(rng.integers(-5, 80, (50, 2, 2)), axis=1).reshape(-1, 4).astype(np.int32)
    pictures = rng.integers(-1, 6, 50).astype(np.int32)
    counts = there(np.full(50, 77, np.uint32))
    kernel.covered_batch(words, 70, there(boxes), there(pictures), counts)
    for box, picture, count in zip(boxes, pictures, back(counts), strict=True):
        inside = 0 <= picture < 5
        assert count == (reference.covered_px(masks[picture], box[None])[0] if inside else 0)


@pytest.mark.parametrize("kernel", [PLAIN, STRICT])
def test_batches(kernel):
    check_batches(kernel, lambda array: array, lambda array: array)


@pytest.mark.gpu
def test_batches_on_a_gpu(cupy):
    check_batches(MaskCuda(), cupy.asarray, cupy.asnumpy)


def test_a_batch_is_one_launch():
    accounting = Accounting()
    kernel = MaskCuda(accounting=accounting)
    words = np.zeros((6, 20, 2), np.uint32)
    kernel.dilate_batch(words, 64, 3, np.empty_like(words))
    kernel.covered_batch(words, 64, np.zeros((9, 4), np.int32), np.zeros(9, np.int32), np.zeros(9, np.uint32))
    assert [traffic.launches for traffic in accounting.by_kernel.values()] == [1, 1]
    assert accounting.by_kernel["mask_dilate"].bytes_moved == 2 * words.nbytes


def test_wrong_arguments():
    words = np.zeros((1, 8, 2), np.uint32)
    for width in (0, 32, 65):
        with pytest.raises(ValueError, match="wide are uint32"):
            PLAIN.dilate_batch(words, width, 1, np.empty_like(words))
    with pytest.raises(ValueError, match="another uint32"):
        PLAIN.dilate_batch(words, 64, 1, words)
    with pytest.raises(ValueError, match="sides of at most"):
        PLAIN.dilate_batch(np.zeros((1, 70000, 1), np.uint32), 8, 1, np.zeros((1, 70000, 1), np.uint32))
    for radius in (-1, math.nan, 5000):
        for implementation in (PLAIN, reference):
            with pytest.raises(ValueError, match="the radius must be"):
                implementation.dilate(np.zeros((8, 8), np.bool_), radius)
    with pytest.raises(ValueError, match="boxes_xyxy_px: expected int32"):
        PLAIN.covered_batch(words, 64, np.zeros((1, 4)), np.zeros(1, np.int32), np.zeros(1, np.uint32))


def test_they_are_called_like_the_specification():
    for name in ("dilate", "covered_px"):
        assert inspect.signature(getattr(PLAIN, name)) == inspect.signature(getattr(reference, name))
