"""Cells that stay on the object."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.config import RedactConfig
from trt_anon.redact.frame import Redactor
from trt_anon.redact.region import covered_rect
from trt_anon.redact.steady import steady_cells
from trt_anon.types import PIXEL_FORMATS, Frame, Region

STRENGTH = 0.2


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-100, 2000), st.floats(-100, 2000), st.floats(0, 600), st.floats(0, 600), st.floats(0, 500),
    st.sampled_from([(1, 1), (2, 1), (2, 2)]), st.sampled_from([0.05, 0.13, 0.2, 0.5, 1.0]),
)  # fmt: skip
def test_regions_only_grow_and_hold_an_odd_number_of_whole_cells(
    x: float, y: float, w: float, h: float, size: float, block: tuple[int, int], strength: float
) -> None:
    region = Region(x, y, x + w, y + h, "ellipse", size)
    (steady,) = steady_cells([region], strength, block)
    assert steady.x0_px <= region.x0_px
    assert steady.y0_px <= region.y0_px
    assert steady.x1_px >= region.x1_px
    assert steady.y1_px >= region.y1_px
    cell = steady.object_px / int(1 / strength + 1e-9)
    assert cell >= (size or max(w, h)) / int(1 / strength + 1e-9) - 1e-6
    for low, high, unit in ((steady.x0_px, steady.x1_px, block[0]), (steady.y0_px, steady.y1_px, block[1])):
        assert low % unit == 0
        assert cell % unit == 0
        assert (high - low) / cell % 2 == 1
    assert steady.x1_px - steady.x0_px <= w + 3 * cell + 2


def test_cells_lie_alike_over_an_object_of_any_region_size() -> None:
    edges = set()
    for size in (100.0, 103.0, 131.0, 170.0):
        (steady,) = steady_cells(
            [Region(200 - size / 2, 300 - size, 200 + size / 2, 300 + size, "box", 98)], 0.2, (2, 2)
        )
        edges.add((steady.x0_px % 20, steady.y0_px % 20, steady.object_px))
    assert edges == {(10.0, 10.0, 100.0)}


def test_polygons_stay_as_they_are() -> None:
    polygon = Region(0, 0, 10, 10, "polygon", 10, ((1, 1), (9, 1), (5, 9)), 1.0)
    assert steady_cells([polygon], 0.2, (2, 2)) == [polygon]


@pytest.mark.parametrize("steady", [True, False])
def test_averaging_frames_shows_no_more_than_one_frame(steady: bool) -> None:
    """An object of stripes drifts under the mask: aligned and averaged, its stripes must not come back."""
    side, cell = 100, 20
    stripes = 127 + 80 * np.sin(2 * np.pi * (np.arange(side) + 0.5) / 13)
    redactor = Redactor(RedactConfig(method="pixelate", strength=STRENGTH, shape="box"))
    total, single = np.zeros(side), []
    for step in range(60):
        at = 40 + step
        luma = np.full((160, 260), 127, np.uint8)
        luma[30:130, at : at + side] = np.round(stripes)
        frame = Frame((luma,), PIXEL_FORMATS["gray"], 260, 160)
        # the box of a detector wavers, and so do the cells of a region that begins at its edge
        waver = (step * 7) % 11 - 5
        region = Region(at - 15 + waver, 20, at + 115 + waver / 3, 140, "box", side)
        if steady:
            whole = Region(at - 15, 20, at + 115, 140, "box", side)
            (region,) = steady_cells([whole], STRENGTH, (1, 1))
            rect = covered_rect(region, 260, 160)
            assert rect is not None
            assert rect.width % cell == 0
        redactor.redact(frame, [region])
        seen = frame.planes[0][80, at : at + side].astype(float)
        total += seen
        single.append(abs(np.corrcoef(seen, stripes)[0, 1]))
    together = abs(np.corrcoef(total, stripes)[0, 1])
    if steady:
        assert together <= max(single) + 0.02
    else:
        assert together > max(single), "else this test says nothing"
