"""What a grown polygon covers, against point-in-polygon and point-to-segment distances one block at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.config import RedactConfig
from trt_anon.geometry import turn_upright, upright_size
from trt_anon.redact.frame import Redactor
from trt_anon.redact.polygon import polygon_mask
from trt_anon.redact.region import check_region, covered_rect, expand_mask, grow_regions, region_mask, regions_to_stored
from trt_anon.types import Orientation, Region

quarters = st.integers(-40, 120).map(lambda n: n / 4)
outlines = st.lists(st.tuples(quarters, quarters), min_size=3, max_size=9)
BLOCKS = ((1, 1), (2, 1), (2, 2))


def winding(points, x: float, y: float) -> int:
    """How often the outline goes around a point, from the signed crossings of a ray to the right."""
    turns = 0
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        if (ay <= y) != (by <= y) and ax + (y - ay) / (by - ay) * (bx - ax) > x:
            turns += 1 if by > ay else -1
    return turns


def distance(points, x: float, y: float) -> float:
    best = math.inf
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
        square = (bx - ax) ** 2 + (by - ay) ** 2
        share = 0.0 if square == 0 else min(max(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square, 0.0), 1.0)
        best = min(best, math.hypot(ax + share * (bx - ax) - x, ay + share * (by - ay) - y))
    return best


def holds(points, margin: float, x: float, y: float) -> bool:
    return winding(points, x, y) != 0 or distance(points, x, y) <= margin


def polygon(points, margin: float = 0.0) -> Region:
    array = np.array(points)
    (x0, y0), (x1, y1) = array.min(0) - margin, array.max(0) + margin
    return Region(x0, y0, x1, y1, "polygon", float(np.ptp(array, axis=0).max()), tuple(points), margin)


def picture_mask(region: Region, width: int, height: int, block=(1, 1)) -> np.ndarray:
    mask = np.zeros((height, width), np.bool_)
    rect = covered_rect(region, width, height, block)
    if rect is not None:
        mask[rect.y0 : rect.y1, rect.x0 : rect.x1] = expand_mask(region_mask(region, rect, block), rect, block)
    return mask


@settings(max_examples=60, deadline=None)
@given(outlines, st.integers(0, 20).map(lambda n: n / 4 + 0.013), st.sampled_from(BLOCKS))
def test_is_the_definition(points, margin, block):
    rows, columns = 9, 11
    mask = polygon_mask(np.array(points), margin, (2, 4), (rows, columns), block)
    radius = margin + math.hypot(*block) / 2
    for row in range(rows):
        for column in range(columns):
            x, y = 2 + (column + 0.5) * block[0], 4 + (row + 0.5) * block[1]
            if abs(distance(points, x, y) - radius) > 1e-4:
                assert mask[row, column] == holds(points, radius, x, y)


@settings(max_examples=40, deadline=None)
@given(outlines, st.integers(0, 12).map(lambda n: n / 4), st.sampled_from(BLOCKS))
def test_takes_every_block_that_the_polygon_touches_and_none_far_off(points, margin, block):
    region = polygon(points, margin)
    mask = picture_mask(region, 23, 21, block)
    steps = (0.01, 0.5, 0.99)
    for y in range(21):
        for x in range(23):
            if mask[y, x]:
                assert holds(points, margin + 2 * math.hypot(*block), x + 0.5, y + 0.5)
            else:
                assert not any(holds(points, margin, x + u, y + v) for u in steps for v in steps)
    blocks = np.pad(mask, ((0, 1), (0, 1)), "edge").reshape(11, 2, 12, 2) if block == (2, 2) else None
    if blocks is not None:
        np.testing.assert_array_equal(blocks.any((1, 3)), blocks.all((1, 3)))


def test_agrees_with_opencv_on_a_large_outline():
    cv2 = pytest.importorskip("cv2")
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = (np.stack((np.cos(angle), np.sin(angle)), -1) * (60 + 20 * np.sin(5 * angle))[:, None] + 100).astype(
        np.float32
    )
    mask = polygon_mask(points, 9.0, (0, 0), (200, 200))
    y, x = np.mgrid[:200, :200] + 0.5
    signed = np.array(
        [cv2.pointPolygonTest(points, (float(u), float(v)), True) for u, v in zip(x.ravel(), y.ravel(), strict=True)]
    ).reshape(200, 200)
    limit = -(9.0 + math.sqrt(0.5))
    clear = np.abs(signed - limit) > 1e-3
    np.testing.assert_array_equal(mask[clear], (signed >= limit)[clear])


@pytest.mark.parametrize("orientation", Orientation)
@settings(max_examples=15, deadline=None)
@given(
    points=outlines, margin=st.integers(0, 8).map(lambda n: n / 4), width=st.integers(1, 40), height=st.integers(1, 40)
)
def test_stored_polygons_cover_what_the_upright_ones_do(orientation, points, margin, width, height):
    region = polygon(points, margin + 0.1)
    (stored,) = regions_to_stored([region], width, height, orientation)
    check_region(stored)
    assert stored.object_px == region.object_px
    expected = picture_mask(region, *upright_size(width, height, orientation))
    np.testing.assert_array_equal(turn_upright(picture_mask(stored, width, height), orientation), expected)


def test_rounding_leaves_no_sliver_of_a_box_outside():
    (region,) = grow_regions(np.array([[8, 0, -7.168070511766243e-29, 0]], np.float32), grow=1.0, shape="box")
    assert region.x0_px < 0


class TestGrow:
    BOX = np.array([[10, 10, 30, 50]], np.float32)
    OUTLINE = np.array([[10, 10], [30, 10], [30, 20], [20, 20], [20, 50], [10, 50]], np.float32)

    def test_the_margin_is_the_larger_growth_of_the_box(self):
        (region,) = grow_regions(self.BOX, grow=1.5, shape="ellipse", contours_px=[self.OUTLINE])
        assert region.shape == "polygon"
        assert region.margin_px == 10
        assert region.object_px == 40
        assert (region.x0_px, region.y0_px, region.x1_px, region.y1_px) == (0, 0, 40, 60)
        check_region(region)

    def test_an_empty_outline_leaves_the_box(self):
        none = np.zeros((0, 2), np.float32)
        assert grow_regions(self.BOX, grow=1.3, shape="box", contours_px=[none]) == grow_regions(
            self.BOX, grow=1.3, shape="box"
        )

    @pytest.mark.parametrize("points", [[[5, 5]] * 3, [[5, 5], [6, 5], [7, 5]], [[5, 5], [5.5, 5], [5, 5.5]]])
    def test_a_tiny_outline_still_covers_pixels(self, points):
        box = np.array([[5, 5, 6, 6]], np.float32)
        (region,) = grow_regions(box, grow=1.0, shape="box", contours_px=[np.array(points, np.float32)])
        assert picture_mask(region, 32, 32).sum() >= 40

    def test_huge_outlines_are_cut_not_lost(self):
        outline = np.array([[-3e38, -3e38], [3e38, -3e38], [3e38, 3e38], [-3e38, 3e38]], np.float32)
        (region,) = grow_regions(self.BOX, grow=1.3, shape="box", contours_px=[outline])
        check_region(region)
        assert picture_mask(region, 33, 21, (2, 2)).all()

    def test_broken_outlines_are_errors(self):
        bad = self.OUTLINE.copy()
        bad[2, 0] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            grow_regions(self.BOX, grow=1.3, shape="box", contours_px=[bad])
        with pytest.raises(ValueError, match="1 boxes but 2 outlines"):
            grow_regions(self.BOX, grow=1.3, shape="box", contours_px=[self.OUTLINE] * 2)
        with pytest.raises(ValueError, match=r"\(K, 2\)"):
            grow_regions(self.BOX, grow=1.3, shape="box", contours_px=[np.zeros((4, 3), np.float32)])


SQUARE = ((2.0, 2.0), (8.0, 2.0), (8.0, 8.0), (2.0, 8.0))


@pytest.mark.parametrize(
    "region",
    [
        Region(2, 2, 8, 8, "polygon", 6),
        Region(2, 2, 8, 8, "box", 6, SQUARE),
        Region(2, 2, 8, 8, "polygon", 6, SQUARE[:2]),
        Region(2, 2, 8, 8, "polygon", 6, ((2, 2), (8, math.nan), (8, 8))),
        Region(2, 2, 8, 8, "polygon", 6, SQUARE, -1),
        Region(2, 2, 8, 8, "polygon", 6, SQUARE, 1),
        Region(2, 2, 7, 8, "polygon", 6, SQUARE),
        Region(2, 2, 8, 8, "polygon", 6, SQUARE, math.inf),
    ],
)
def test_broken_polygons_are_errors(region):
    with pytest.raises(ValueError, match="a region"):
        check_region(region)


def test_two_points_are_no_polygon():
    with pytest.raises(ValueError, match="three points"):
        polygon_mask(np.zeros((2, 2)), 1.0, (0, 0), (4, 4))


@pytest.mark.parametrize("method", ["gaussian", "pixelate", "solid"])
@pytest.mark.parametrize("implementation", ["reference", "cpu"])
@pytest.mark.parametrize("name", ["yuv420p", "nv12", "rgb24", "yuv422p10le"])
def test_redaction_destroys_the_mask_and_nothing_else(make_frame, name, implementation, method):
    frame = make_frame(name, 61, 47, pitch=3)
    outline = np.array([[5, 5], [50, 5], [50, 15], [15, 15], [15, 44], [5, 44]], np.float32)  # an L
    (region,) = grow_regions(np.array([[5, 5, 50, 44]], np.float32), grow=1.1, shape="ellipse", contours_px=[outline])
    before = [p.copy() for p in frame.planes]
    Redactor(RedactConfig(method=method), implementation=implementation).redact(frame, [region])
    chroma = "yuv" in frame.pixel_format.kind
    block = (1 << frame.pixel_format.log2_chroma_w, 1 << frame.pixel_format.log2_chroma_h) if chroma else (1, 1)
    luma = picture_mask(region, 61, 47, block)
    assert luma[5:44, 5:15].all()
    assert luma[5:15, 5:50].all()
    assert not luma[24:, 25:].any()  # the empty corner of the box keeps its pixels
    for number, (old, new) in enumerate(zip(before, frame.planes, strict=True)):
        mask = luma[:: block[1], :: block[0]] if number else luma
        np.testing.assert_array_equal(new[~mask], old[~mask])
        assert (new[mask] != old[mask]).mean() > 0.9
