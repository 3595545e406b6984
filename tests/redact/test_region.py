"""What exactly a region covers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.geometry import turn_upright, upright_size
from trt_anon.redact.region import (
    MIN_REGION_PX,
    ROUNDED_CORNER_SHARE,
    Rect,
    check_region,
    covered_rect,
    expand_mask,
    grow_regions,
    region_mask,
    regions_to_stored,
)
from trt_anon.types import Orientation, Region, Shape

SHAPES: tuple[Shape, ...] = ("ellipse", "box", "rounded")
BLOCKS = ((1, 1), (2, 1), (2, 2))
eighths = st.integers(-200, 400).map(lambda n: n / 8)
regions = st.builds(
    lambda x, y, w, h, shape: Region(x, y, x + w, y + h, shape),
    eighths,
    eighths,
    st.integers(0, 300).map(lambda n: n / 8),
    st.integers(0, 300).map(lambda n: n / 8),
    st.sampled_from(SHAPES),
)


def picture_mask(region: Region, width: int, height: int, block: tuple[int, int] = (1, 1)) -> np.ndarray:
    """The luma pixels of a whole picture that a region takes."""
    mask = np.zeros((height, width), np.bool_)
    rect = covered_rect(region, width, height, block)
    if rect is not None:
        mask[rect.y0 : rect.y1, rect.x0 : rect.x1] = expand_mask(region_mask(region, rect, block), rect, block)
    return mask


def is_inside(region: Region, x: float, y: float, slack: float = 0.0) -> bool:
    """Whether a point lies in the region's shape, from the definition of each shape; slack in pixels widens it."""
    half_x, half_y = (region.x1_px - region.x0_px) / 2 + slack, (region.y1_px - region.y0_px) / 2 + slack
    dx = abs(x - (region.x0_px + region.x1_px) / 2)
    dy = abs(y - (region.y0_px + region.y1_px) / 2)
    if dx > half_x or dy > half_y:
        return False
    if region.shape == "ellipse":
        return math.hypot(dx / half_x, dy / half_y) <= 1 if half_x and half_y else True
    if region.shape == "rounded":
        radius = ROUNDED_CORNER_SHARE * min(region.x1_px - region.x0_px, region.y1_px - region.y0_px) + slack
        corner_x, corner_y = dx - (half_x - radius), dy - (half_y - radius)
        return corner_x <= 0 or corner_y <= 0 or math.hypot(corner_x, corner_y) <= radius
    return True


class TestGrow:
    def test_about_the_centre(self) -> None:
        (region,) = grow_regions(np.array([[10, 20, 30, 60]], np.float32), grow=1.5, shape="rounded")
        assert (region.x0_px, region.y0_px, region.x1_px, region.y1_px) == (5, 10, 35, 70)
        assert (region.shape, region.object_px) == ("rounded", 40)

    @given(
        st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False, width=32)] * 4), min_size=1, max_size=4),
        st.floats(1, 4),
    )
    def test_never_drops_a_box_and_never_overflows(self, boxes: list[tuple[float, ...]], grow: float) -> None:
        grown = grow_regions(np.array(boxes, np.float32), grow=grow, shape="ellipse")
        assert len(grown) == len(boxes)
        for region in regions_to_stored(grown, 640, 480, Orientation.ROTATE_90_CLOCKWISE) + grown:
            check_region(region)
        for box, region in zip(boxes, grown, strict=True):
            if max(map(abs, box)) < 1e5:
                assert region.x1_px - region.x0_px >= MIN_REGION_PX - 1e-6
                assert region.x0_px <= min(box[0], box[2])
                assert region.y1_px >= max(box[1], box[3])

    @pytest.mark.parametrize("box", [[5, 5, 5, 5], [9, 7, 1, 3], [5, 1, 5, 9], [5.2, 5.2, 5.7, 5.4]])
    def test_a_tiny_or_inverted_box_still_covers_pixels(self, box: list[float]) -> None:
        (region,) = grow_regions(np.array([box], np.float32), grow=1.0, shape="ellipse")
        assert picture_mask(region, 64, 64).sum() >= 40

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_errors(self, value: float) -> None:
        boxes = np.array([[0, 0, 5, 5], [0, 0, value, 5]], np.float32)
        with pytest.raises(ValueError, match="not finite"):
            grow_regions(boxes, grow=1.3, shape="ellipse")

    def test_no_boxes_and_wrong_shapes(self) -> None:
        assert grow_regions(np.zeros((0, 4), np.float32), grow=1.3, shape="box") == []
        with pytest.raises(ValueError, match=r"\(N, 4\)"):
            grow_regions(np.zeros(4, np.float32), grow=1.3, shape="box")


@pytest.mark.parametrize("orientation", Orientation)
@given(region=regions, width=st.integers(1, 40), height=st.integers(1, 40))
def test_stored_regions_cover_what_the_upright_ones_do(
    orientation: Orientation, region: Region, width: int, height: int
) -> None:
    if region.x0_px == region.x1_px or region.y0_px == region.y1_px:
        return  # a region without extent takes the pixel to its right, which is another one in a mirrored picture
    (stored,) = regions_to_stored([region], width, height, orientation)
    assert stored.shape == region.shape
    expected = picture_mask(region, *upright_size(width, height, orientation))
    np.testing.assert_array_equal(turn_upright(picture_mask(stored, width, height), orientation), expected)


class TestRect:
    @given(regions, st.integers(1, 41), st.integers(1, 41), st.sampled_from(BLOCKS))
    def test_is_made_of_whole_blocks_inside_the_picture(
        self, region: Region, width: int, height: int, block: tuple[int, int]
    ) -> None:
        rect = covered_rect(region, width, height, block)
        outside = (
            region.x1_px <= 0 < region.x1_px - region.x0_px
            or region.y1_px <= 0 < region.y1_px - region.y0_px
            or region.x0_px >= width
            or region.y0_px >= height
        )
        if rect is None:
            assert outside or region.x1_px < 0 or region.y1_px < 0
            return
        assert not outside
        assert 0 <= rect.x0 < rect.x1 <= width
        assert 0 <= rect.y0 < rect.y1 <= height
        assert rect.x0 % block[0] == 0
        assert rect.x1 % block[0] == 0 or rect.x1 == width
        assert rect.y0 % block[1] == 0
        assert rect.y1 % block[1] == 0 or rect.y1 == height
        assert rect.x0 <= max(region.x0_px, 0)
        assert rect.x1 >= min(region.x1_px, width)
        assert rect.y0 <= max(region.y0_px, 0)
        assert rect.y1 >= min(region.y1_px, height)

    @pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 47), (1, 1)])
    def test_reaches_the_last_row_and_column(self, width: int, height: int) -> None:
        assert covered_rect(Region(0, 0, width, height), width, height, (2, 2)) == Rect(0, 0, width, height)

    def test_huge_coordinates(self) -> None:
        assert covered_rect(Region(-1e9, -1e9, 1e9, 1e9), 30, 20, (2, 2)) == Rect(0, 0, 30, 20)
        assert covered_rect(Region(1e9, 0, 2e9, 5), 30, 20) is None
        assert covered_rect(Region(-2e9, 0, -1e9, 5), 30, 20) is None


class TestMask:
    @settings(max_examples=40)
    @given(regions, st.sampled_from(BLOCKS))
    def test_takes_every_pixel_that_the_shape_touches(self, region: Region, block: tuple[int, int]) -> None:
        mask = picture_mask(region, 41, 37, block)
        steps = np.linspace(0.001, 0.999, 5)
        for y, x in zip(*np.nonzero(~mask), strict=True):
            assert not any(is_inside(region, x + u, y + v) for u in steps for v in steps)

    @given(regions)
    def test_takes_no_pixel_far_from_the_shape(self, region: Region) -> None:
        for y, x in zip(*np.nonzero(picture_mask(region, 41, 37)), strict=True):
            assert is_inside(region, x + 0.5, y + 0.5, slack=1.5)

    @given(regions, st.sampled_from(BLOCKS))
    def test_luma_is_taken_in_whole_blocks(self, region: Region, block: tuple[int, int]) -> None:
        mask = picture_mask(region, 40, 36, block)
        blocks = mask.reshape(36 // block[1], block[1], 40 // block[0], block[0])
        np.testing.assert_array_equal(blocks.any((1, 3)), blocks.all((1, 3)))
        assert mask[picture_mask(region, 40, 36)].all()  # and never less than pixel by pixel

    @given(st.tuples(eighths, eighths), st.floats(1, 3))
    def test_a_box_covers_the_corners_of_a_plate(self, corner: tuple[float, float], grow: float) -> None:
        x, y = corner
        (region,) = grow_regions(np.array([[x, y, x + 20, y + 6]], np.float32), grow=grow, shape="box")
        mask = picture_mask(region, 41, 37)
        left, top = max(math.floor(x), 0), max(math.floor(y), 0)
        assert mask[top : max(math.ceil(y + 6), 0), left : max(math.ceil(x + 20), 0)].all()

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_region_over_the_whole_picture_takes_its_edges(self, shape: Shape) -> None:
        mask = picture_mask(Region(0, 0, 33, 21, shape), 33, 21, (2, 2))
        assert mask[:, -1].any()
        assert mask[-1].any()
        assert mask[0].any()
        assert mask[:, 0].any()

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_region_far_beyond_the_picture_takes_all_of_it(self, shape: Shape) -> None:
        assert picture_mask(Region(-1e9, -1e9, 1e9, 1e9, shape), 33, 21, (2, 2)).all()


@pytest.mark.parametrize(
    "region",
    [
        Region(math.nan, 0, 1, 1),
        Region(0, 0, math.inf, 1),
        Region(0, 0, 1, 1, object_px=math.nan),
        Region(5, 0, 4, 1),
        Region(0, 5, 1, 4),
        Region(0, 0, 1, 1, object_px=-1),
        Region(-1.7e308, 0, 1.7e308, 1),
    ],
)
def test_broken_regions_are_errors(region: Region) -> None:
    with pytest.raises(ValueError, match="a region"):
        check_region(region)
