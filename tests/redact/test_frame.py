"""Whole frames: what is inside a region is destroyed, what is outside keeps every bit, in every format."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon import _optional
from trt_anon.config import RedactConfig
from trt_anon.errors import PackageMissing
from trt_anon.redact import frame as frame_module
from trt_anon.redact.frame import MIN_CELL_PX, MIN_SIGMA_PX, Redactor
from trt_anon.redact.region import covered_rect, expand_mask, grow_regions, region_mask
from trt_anon.types import PIXEL_FORMATS, Color, Frame, Region

FORMATS = sorted(PIXEL_FORMATS)
METHODS = ("gaussian", "pixelate", "solid")
SHAPES = ("ellipse", "box", "rounded")
IMPLEMENTATIONS = ("reference", "cpu")
TOLERANCE_CODES = 2

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
methods = pytest.mark.parametrize("method", METHODS)
shapes = pytest.mark.parametrize("shape", SHAPES)


def plane_masks(frame: Frame, regions: list[Region]) -> list[np.ndarray]:
    """For each plane, the samples that the regions take together."""
    form = frame.pixel_format
    chroma = "yuv" in form.kind
    block = (1 << form.log2_chroma_w, 1 << form.log2_chroma_h) if chroma else (1, 1)
    luma = np.zeros((frame.height_px, frame.width_px), np.bool_)
    for region in regions:
        rect = covered_rect(region, frame.width_px, frame.height_px, block)
        if rect is not None:
            mask = expand_mask(region_mask(region, rect, block), rect, block)
            luma[rect.y0 : rect.y1, rect.x0 : rect.x1] |= mask
    return [luma] + [luma[:: block[1], :: block[0]]] * (len(frame.planes) - 1)


def redacted(frame: Frame, regions: list[Region], implementation: str, **config: object) -> list[np.ndarray]:
    """Redact in place; the planes as they were before."""
    before = [plane.copy() for plane in frame.planes]
    Redactor(RedactConfig(**config), implementation=implementation).redact(frame, regions)
    return before


@implementations
@methods
@pytest.mark.parametrize("name", FORMATS)
def test_outside_keeps_every_bit_and_inside_changes(make_frame, name: str, method: str, implementation: str) -> None:
    frame = make_frame(name, 61, 47, pitch=5)
    regions = [Region(8.3, 6.1, 30.4, 29.7, "ellipse", 18), Region(38, 20, 70, 60, "rounded", 24)]
    before = redacted(frame, regions, implementation, method=method)
    for old, new, mask in zip(before, frame.planes, plane_masks(frame, regions), strict=True):
        np.testing.assert_array_equal(new[~mask], old[~mask])
        assert (new[mask] != old[mask]).mean() > 0.9
        assert new.base.shape[1] == new.shape[1] + 5
        assert (new.base[:, new.shape[1] :] == 0xAA).all()


@implementations
@shapes
@pytest.mark.parametrize("name", ["yuv420p", "nv12", "rgb24", "yuv422p10le"])
def test_last_row_and_column_are_masked(make_frame, name: str, shape: str, implementation: str) -> None:
    frame = make_frame(name, 63, 47)
    boxes = np.array([[40, 30, 63, 47]], np.float32)
    before = redacted(frame, grow_regions(boxes, grow=1.3, shape=shape), implementation, method="solid")
    for old, new in zip(before, frame.planes, strict=True):
        assert (new[-1] != old[-1]).sum() >= new.shape[1] // 6
        assert (new[:, -1] != old[:, -1]).sum() >= new.shape[0] // 6


@pytest.mark.parametrize("grow", [1.0, 1.3])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "rgb24"])
def test_a_box_hides_a_plate_to_its_corners(make_frame, name: str, grow: float) -> None:
    frame = make_frame(name, 80, 40)
    regions = grow_regions(np.array([[11.5, 9.5, 51.2, 20.3]], np.float32), grow=grow, shape="box")
    redacted(frame, regions, "cpu", method="solid")
    black = 0 if name == "rgb24" else 16
    assert (frame.planes[0][9:21, 11:52] == black).all()


@implementations
@methods
@shapes
def test_a_real_face_is_destroyed(method: str, shape: str, implementation: str) -> None:
    picture = pytest.importorskip("skimage.data").astronaut()
    frame = Frame((picture.copy(),), PIXEL_FORMATS["rgb24"], 512, 512)
    box = np.array([[175, 60, 260, 170]], np.float32)
    redacted(frame, grow_regions(box, grow=1.3, shape=shape), implementation, method=method, shape=shape)
    face = slice(75, 155), slice(190, 245)  # inside the smallest shape
    old, new = (p.mean(axis=2)[face] for p in (picture, frame.planes[0]))

    def detail(gray: np.ndarray) -> float:
        """Energy above one cycle per 11 pixels: eyes, nose and mouth live there."""
        spectrum = np.abs(np.fft.rfft2((gray - gray.mean()) * np.outer(np.hanning(80), np.hanning(55)))) ** 2
        rows, columns = np.fft.fftfreq(80)[:, None], np.fft.rfftfreq(55)[None]
        return float(spectrum[np.hypot(rows, columns) > 1 / 11].sum())

    assert detail(new) < (0.12 if method == "pixelate" else 0.005) * detail(old)
    if method == "solid":
        assert not new.any()
        return
    ndimage = pytest.importorskip("scipy.ndimage")
    features = [g - ndimage.gaussian_filter(g, 8) for g in (old, new)]
    assert abs(np.corrcoef(features[0].ravel(), features[1].ravel())[0, 1]) < 0.5
    # the measure itself: features of the untouched face are found again
    assert np.corrcoef(features[0].ravel(), (old - ndimage.gaussian_filter(old, 9)).ravel())[0, 1] > 0.9


region_lists = st.lists(
    st.builds(
        lambda x, y, w, h, shape, size: Region(x, y, x + w, y + h, shape, size),
        st.one_of(st.floats(-60, 90), st.sampled_from([-1e9, 1e9])),
        st.floats(-60, 90),
        st.one_of(st.floats(0, 90), st.just(2e9)),
        st.floats(0, 90),
        st.sampled_from(SHAPES),
        st.one_of(st.floats(0, 200), st.just(1e9)),
    ),
    max_size=5,
)


@methods
@settings(max_examples=60)
@given(
    regions=region_lists,
    name=st.sampled_from(FORMATS),
    width=st.integers(1, 64),
    height=st.integers(1, 64),
    pitch=st.integers(0, 3),
    strength=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
def test_fast_agrees_with_reference(
    make_frame,
    method: str,
    regions: list[Region],
    name: str,
    width: int,
    height: int,
    pitch: int,
    strength: float,
    seed,
) -> None:
    results = []
    for implementation in IMPLEMENTATIONS:
        frame = make_frame(name, width, height, seed=seed, pitch=pitch)
        before = redacted(frame, regions, implementation, method=method, strength=strength)
        for old, new, mask in zip(before, frame.planes, plane_masks(frame, regions), strict=True):
            np.testing.assert_array_equal(new[~mask], old[~mask])
        results.append(frame.planes)
    tolerance = TOLERANCE_CODES << PIXEL_FORMATS[name].sample_shift if method == "gaussian" else 0
    for reference, fast in zip(*results, strict=True):
        assert np.abs(reference.astype(int) - fast).max() <= tolerance


@implementations
@methods
def test_every_region_is_computed_from_the_pixels_before_the_call(make_frame, method: str, implementation: str) -> None:
    small, large = Region(10, 10, 40, 40, "ellipse", 20), Region(25, 18, 60, 60, "ellipse", 30)
    alone = {}
    for region in (small, large):
        frame = make_frame("yuv420p", 64, 64)
        redacted(frame, [region], implementation, method=method)
        alone[region.object_px] = frame
    for order in ([small, large], [large, small]):  # the larger object wins, whatever the order
        both = make_frame("yuv420p", 64, 64)
        redacted(both, order, implementation, method=method)
        masks = plane_masks(both, [large])
        for number, (plane, mask) in enumerate(zip(both.planes, masks, strict=True)):
            expected = np.where(mask, alone[30].planes[number], alone[20].planes[number])
            np.testing.assert_array_equal(plane, expected)


@implementations
def test_of_equal_objects_the_later_wins(make_frame, implementation: str) -> None:
    first, second = Region(0, 0, 30, 30, "box", 20), Region(10, 10, 40, 40, "box", 20)
    alone, both = make_frame("gray", 50, 50), make_frame("gray", 50, 50)
    redacted(alone, [second], implementation)
    redacted(both, [first, second], implementation)
    np.testing.assert_array_equal(both.planes[0][10:40, 10:40], alone.planes[0][10:40, 10:40])


@implementations
def test_many_regions_over_the_same_pixels_are_as_few(make_frame, implementation: str) -> None:
    region = Region(2, 2, 60, 44, "box", 30)
    once, often = make_frame("yuv420p", 64, 48), make_frame("yuv420p", 64, 48)
    redacted(once, [region], implementation)
    redacted(often, [region] * 9, implementation)  # more than the frame holds: computed from a copy of it
    for a, b in zip(once.planes, often.planes, strict=True):
        np.testing.assert_array_equal(a, b)


@implementations
@methods
def test_broken_regions_leave_the_frame_as_it_was(make_frame, method: str, implementation: str) -> None:
    for bad in (Region(math.nan, 0, 5, 5), Region(0, 0, math.inf, 5), Region(9, 9, 3, 12)):
        frame = make_frame("yuv420p", 32, 32)
        before = [p.copy() for p in frame.planes]
        with pytest.raises(ValueError, match="a region"):
            Redactor(RedactConfig(method=method), implementation=implementation).redact(
                frame, [Region(0, 0, 20, 20), bad]
            )
        for old, new in zip(before, frame.planes, strict=True):
            np.testing.assert_array_equal(old, new)


@implementations
def test_a_frame_that_cannot_be_written_is_an_error(make_frame, implementation: str) -> None:
    frame = make_frame("gray", 32, 32)
    frame.planes[0].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        redacted(frame, [Region(0, 0, 20, 20)], implementation)


@implementations
@methods
@pytest.mark.parametrize("name", ["rgba", "rgba64le", "ya8"])
def test_alpha_becomes_opaque(make_frame, name: str, method: str, implementation: str) -> None:
    frame = make_frame(name, 40, 40)
    frame.planes[0][..., -1] = np.arange(40)  # a silhouette
    region = Region(5, 5, 35, 35, "ellipse", 24)
    redacted(frame, [region], implementation, method=method)
    (mask,) = plane_masks(frame, [region])
    alpha = frame.planes[0][..., -1]
    assert (alpha[mask] == (1 << frame.pixel_format.bit_depth) - 1).all()
    assert (alpha[~mask] == np.broadcast_to(np.arange(40), (40, 40))[~mask]).all()


@implementations
@pytest.mark.parametrize("strength", [0.1, 0.15, 0.2, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("name", ["yuv420p", "yuv444p", "nv12", "gray"])
def test_pixelation_leaves_at_most_n_cells_over_the_object(
    make_frame, name: str, strength: float, implementation: str
) -> None:
    frame = make_frame(name, 240, 200)
    redacted(frame, [Region(31, 15, 201, 170, "box", 120)], implementation, method="pixelate", strength=strength)

    def cells_begin(plane: np.ndarray) -> np.ndarray:
        return np.flatnonzero(np.diff(plane.astype(int), axis=1).any(axis=0)) + 1

    luma = cells_begin(frame.planes[0][16:170, 32:200])
    assert np.diff(luma).min(initial=1000) >= 120 / math.floor(1 / strength)
    if name == "yuv420p":  # the same cells in luma and chroma
        np.testing.assert_array_equal(cells_begin(frame.planes[1][8:85, 16:100]) * 2, luma)


@implementations
@pytest.mark.parametrize(("method", "floor"), [("gaussian", MIN_SIGMA_PX), ("pixelate", MIN_CELL_PX)])
def test_tiny_objects_are_destroyed_too(make_frame, method: str, floor: float, implementation: str) -> None:
    stripes = make_frame("gray", 64, 64)
    stripes.planes[0][...] = 255 * (np.arange(64) % 2)
    regions = grow_regions(np.array([[30, 30, 33, 33]], np.float32), grow=1.0, shape="box")
    redacted(stripes, regions, implementation, method=method, strength=0.01)
    inside = stripes.planes[0][28:36, 28:36].astype(int)
    assert floor > 0
    assert np.ptp(inside, axis=1).max() < 128
    assert np.abs(np.diff(inside, axis=1)).max() < 64


@implementations
def test_a_region_without_object_size_takes_its_own(make_frame, implementation: str) -> None:
    given_size, own = make_frame("gray", 64, 64), make_frame("gray", 64, 64)
    redacted(given_size, [Region(5, 5, 45, 35, "box", 40)], implementation)
    redacted(own, [Region(5, 5, 45, 35, "box")], implementation)
    np.testing.assert_array_equal(given_size.planes[0], own.planes[0])


@implementations
def test_nothing_outside_the_crop_is_read(make_frame, implementation: str) -> None:
    one, other = make_frame("yuv420p", 64, 64), make_frame("yuv420p", 64, 64, seed=5)
    for a, b in zip(one.planes, other.planes, strict=True):
        share = 64 // a.shape[0]
        a[16 // share : 48 // share, 16 // share : 48 // share] = b[
            16 // share : 48 // share, 16 // share : 48 // share
        ]
    for frame in (one, other):
        redacted(frame, [Region(16, 16, 48, 48, "box", 26)], implementation)
    np.testing.assert_array_equal(one.planes[0][16:48, 16:48], other.planes[0][16:48, 16:48])


@pytest.mark.parametrize("color", [Color(), Color(full_range=True)])
@pytest.mark.parametrize("name", FORMATS)
def test_whole_frame(make_frame, name: str, color: Color) -> None:
    frame = make_frame(name, 33, 21, pitch=3, color=color)
    Redactor(RedactConfig()).redact_whole(frame)
    as_region = make_frame(name, 33, 21, color=color)
    redacted(as_region, [Region(-1, -1, 99, 99, "box")], "reference", method="solid")
    for a, b in zip(frame.planes, as_region.planes, strict=True):
        assert len(np.unique(a.reshape(-1, *a.shape[2:]), axis=0)) == 1
        np.testing.assert_array_equal(a, b)


class TestImplementations:
    def test_auto_takes_the_fast_path(self) -> None:
        assert Redactor(RedactConfig()).implementation == "cpu"

    def test_auto_without_opencv_says_so_once(self, monkeypatch: pytest.MonkeyPatch, caplog, make_frame) -> None:
        monkeypatch.setattr(frame_module, "available", lambda module: False)
        with caplog.at_level(logging.WARNING):
            redactor = Redactor(RedactConfig())
            for _ in range(3):
                redactor.redact(make_frame("gray", 32, 32), [Region(0, 0, 9, 9)])
        assert redactor.implementation == "reference"
        assert [r.message for r in caplog.records] == [
            "OpenCV is not installed: redaction runs on NumPy, many times slower"
        ]

    def test_cpu_without_opencv_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(name: str) -> None:
            raise ImportError(name)

        monkeypatch.setattr(_optional.importlib, "import_module", absent)
        monkeypatch.setattr(_optional, "available", lambda module: False)
        with pytest.raises(PackageMissing, match=r"trt-anon\[cpu\]"):
            Redactor(RedactConfig(), implementation="cpu")

    def test_unknown_names_are_refused(self) -> None:
        with pytest.raises(ValueError, match="none of auto, reference, cpu"):
            Redactor(RedactConfig(), implementation="gpu")  # type: ignore[arg-type]


@implementations
@pytest.mark.parametrize(("name", "scale_x", "scale_y"), [("yuv420p", 2, 2), ("yuv422p", 2, 1), ("yuv444p", 1, 1)])
def test_chroma_is_blurred_as_far_as_luma(make_frame, name: str, scale_x: int, scale_y: int, implementation) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    frame = make_frame(name, 120, 120)
    region = Region(0, 0, 120, 120, "box", 60)  # sigma 12
    before = redacted(frame, [region], implementation, strength=0.2)
    for plane, (sx, sy) in enumerate([(1, 1), (scale_x, scale_y), (scale_x, scale_y)]):
        true = ndimage.gaussian_filter(before[plane].astype(float), (12 / sy, 12 / sx), mode="nearest", truncate=6)
        assert np.sqrt(np.mean((frame.planes[plane] - true) ** 2)) < 255 * 10 ** (-46 / 20)
