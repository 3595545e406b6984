"""What a regions file may say, and what it is told when it says something else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trt_anon.regions.schema import RegionsConfig

BOX = {"box": [0, 0, 10, 10]}


def one(**region: Any) -> RegionsConfig:
    return RegionsConfig.model_validate({"regions": [region]})


def test_nothing_said_changes_nothing() -> None:
    assert RegionsConfig().empty
    assert not one(**BOX).empty
    assert not RegionsConfig.model_validate({"treatments": {"face": {"method": "solid"}}}).empty


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({}, "a shape of its own, or keyframes"),
        ({**BOX, "keyframes": [{"at": 0, **BOX}]}, "a shape of its own, or keyframes"),
        ({**BOX, "ellipse": [0, 0, 4, 4]}, "one shape, not box and ellipse"),
        ({"box": [5, 0, 5, 10]}, "x0 < x1"),
        ({"box": [0, 0, float("nan"), 10]}, "finite"),
        ({"polygon": [[0, 0], [1, 1]]}, "at least 3"),
        ({"keyframes": [{"at": 0}]}, 'a shape, or "outside"'),
        ({"keyframes": [{"at": 0, "outside": True, **BOX}]}, 'a shape, or "outside"'),
        ({"keyframes": [{"at": 0, "outside": True}]}, "nowhere"),
        ({"keyframes": [{"at": 2, **BOX}, {"at": 1, **BOX}]}, "in order of time"),
        ({"keyframes": [{"at": 1, **BOX}, {"at": 1, **BOX}]}, "in order of time"),
        ({"keyframes": [{"at": 1, **BOX}, {"at": 2, "ellipse": [0, 0, 1, 1]}]}, "nothing moves from the shape at 1"),
        ({**BOX, "start": 3, "end": 2}, "end 2 is before start 3"),
        ({**BOX, "action": "keep", "redact": {"method": "solid"}}, "region to keep is not redacted"),
        ({**BOX, "classes": ["face"]}, "has no class"),
        ({**BOX, "colour": "red"}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(region: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        one(**region)


def test_sizes_out_of_order() -> None:
    with pytest.raises(ValidationError, match="less than min_size_px"):
        RegionsConfig.model_validate({"treatments": {"face": {"min_size_px": 20, "max_size_px": 10}}})


def test_different_shapes_may_follow_each_other_where_nothing_moves() -> None:
    one(keyframes=[{"at": 0, **BOX, "hold": True}, {"at": 1, "polygon": [[0, 0], [1, 0], [0, 1]]}])
    one(keyframes=[{"at": 0, **BOX}, {"at": 1, "outside": True}, {"at": 2, "ellipse": [0, 0, 1, 1]}])
