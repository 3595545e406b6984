"""Where regions by hand are at a moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.regions.schema import RegionsConfig
from trt_anon.regions.timeline import Timeline
from trt_anon.types import Region

Corners = tuple[float, float, float, float]


def timeline(*regions: dict[str, Any], source: str = "cam1/a.mp4", **config: Any) -> Timeline:
    return Timeline(RegionsConfig.model_validate({"regions": regions, **config}), source)


def boxes(line: Timeline, seconds: float | None, *, shown: float = 0.0, index: int = 0) -> list[Corners]:
    placed = line.at(index, seconds, shown, 200, 100)
    return [(r.x0_px, r.y0_px, r.x1_px, r.y1_px) for p in placed for r in p.shapes]


MOVING = {"keyframes": [{"at": 1, "box": [0, 0, 10, 10]}, {"at": 3, "box": [20, 40, 30, 70]}]}


def test_a_region_without_times_is_always_there() -> None:
    line = timeline({"box": [1, 2, 3, 4]})
    assert boxes(line, 0) == boxes(line, 1e6) == boxes(line, None) == [(1, 2, 3, 4)]


def test_a_region_moves_in_a_straight_line_between_keyframes_and_is_nowhere_else() -> None:
    line = timeline(MOVING)
    assert boxes(line, 0.99) == []
    assert boxes(line, 1) == [(0, 0, 10, 10)]
    assert boxes(line, 2) == [(10, 20, 20, 40)]
    assert boxes(line, 3) == [(20, 40, 30, 70)]
    assert boxes(line, 3.01) == []


def test_start_and_end_stretch_the_ends() -> None:
    line = timeline({**MOVING, "start": 0.5, "end": 9})
    assert boxes(line, 0.5) == [(0, 0, 10, 10)]
    assert boxes(line, 9) == [(20, 40, 30, 70)]
    assert boxes(line, 0.4) == boxes(line, 9.1) == []


def test_a_frame_still_shown_when_a_region_comes_has_it() -> None:
    line = timeline({"box": [0, 0, 1, 1], "start": 1.0, "end": 2.0})
    assert boxes(line, 0.97, shown=0.04) == [(0, 0, 1, 1)]
    assert boxes(line, 0.95, shown=0.04) == []
    assert boxes(line, 2.0, shown=0.04) == [(0, 0, 1, 1)]
    assert boxes(line, 2.01, shown=0.04) == []


def test_a_frame_that_is_shown_while_a_region_jumps_has_both_places() -> None:
    line = timeline({"keyframes": [{"at": 0, "box": [0, 0, 1, 1], "hold": True}, {"at": 1, "box": [5, 5, 6, 6]}]})
    assert boxes(line, 0.5, shown=0.4) == [(0, 0, 1, 1)]
    assert boxes(line, 0.8, shown=0.4) == [(0, 0, 1, 1), (5, 5, 6, 6)]


def test_outside_takes_a_region_away_until_the_next_keyframe() -> None:
    keys = [
        {"at": 0, "box": [0, 0, 2, 2]},
        {"at": 1, "outside": True},
        {"at": 2, "box": [8, 8, 9, 9]},
        {"at": 3, "box": [8, 8, 9, 9]},
    ]
    line = timeline({"keyframes": keys})
    assert boxes(line, 0.9) == [(0, 0, 2, 2)]
    assert boxes(line, 1.0) == boxes(line, 1.5) == []
    assert boxes(line, 2.5) == [(8, 8, 9, 9)]


def test_a_single_keyframe_lasts() -> None:
    line = timeline({"keyframes": [{"at": 2, "box": [0, 0, 2, 2]}]})
    assert boxes(line, 1.9) == []
    assert boxes(line, 50) == [(0, 0, 2, 2)]


def test_frames_are_counted_where_the_file_says_so() -> None:
    line = timeline(MOVING, time_unit="frames")
    assert boxes(line, 77.0, index=2) == [(10, 20, 20, 40)]
    assert boxes(line, 2.0, index=9) == []


def test_shares_become_pixels_of_the_upright_picture() -> None:
    line = timeline({"box": [0.25, 0.5, 0.75, 1.0]}, coordinates="relative")
    assert boxes(line, 0) == [(50, 50, 150, 100)]


def test_polygons_move_corner_by_corner() -> None:
    keys = [
        {"at": 0, "polygon": [[0, 0], [10, 0], [0, 10]]},
        {"at": 2, "polygon": [[10, 10], [30, 10], [10, 30]]},
    ]
    ((placed,),) = [timeline({"keyframes": keys}).at(0, 1.0, 0.0, 100, 100)]
    (region,) = placed.shapes
    assert region == Region(5, 5, 20, 20, "polygon", 15, ((5, 5), (20, 5), (5, 20)))


@pytest.mark.parametrize(
    ("pattern", "source", "applies"),
    [
        ("*.mp4", "/data/cam1/a.mp4", True),
        ("cam1/*.mp4", "/data/cam1/a.mp4", True),
        ("cam2/*.mp4", "/data/cam1/a.mp4", False),
        ("a.mp4", "/data/aa.mp4", False),
        ("/data/cam1/a.mp4", "/data/cam1/a.mp4", True),
    ],
)
def test_files_by_the_end_of_their_path(pattern: str, source: str, applies: bool) -> None:
    line = timeline({"box": [0, 0, 1, 1], "files": [pattern]}, source=source)
    assert bool(line) == applies
    assert bool(boxes(line, 0)) == applies


@given(st.floats(0, 4), st.floats(0, 1))
def test_what_is_drawn_never_leaves_the_way_between_two_keyframes(seconds: float, shown: float) -> None:
    found = boxes(timeline(MOVING), seconds, shown=shown)
    assert bool(found) == (seconds + shown >= 1 and seconds <= 3)
    for x0, y0, x1, y1 in found:
        assert 0 <= x0 <= 20.000001
        assert x1 - x0 == pytest.approx(10)
        assert y0 == pytest.approx(2 * x0)
        assert y1 - y0 == pytest.approx(10 + x0)
