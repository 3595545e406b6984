"""What is redacted in a frame: by class, by hand, and what stays visible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trt_anon.config import AnonymizeConfig, RedactConfig
from trt_anon.pipeline.redaction import Redaction
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation

NAMES = ("face", "license_plate")


def picture(width: int = 60, height: int = 40, orientation: Orientation = Orientation.NORMAL) -> Frame:
    pixels = np.random.default_rng(1).integers(40, 216, (height, width, 3), np.uint8)
    return Frame((pixels,), PIXEL_FORMATS["rgb24"], width, height, orientation=orientation)


def found(*boxes: tuple[float, float, float, float], classes: tuple[int, ...] | None = None) -> Detections:
    ids = np.array(classes or (0,) * len(boxes), np.int32)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32), ids, NAMES)


def redaction(source: str | None = "a.png", redact: dict[str, Any] | None = None, **regions: Any) -> Redaction:
    chosen = RedactConfig(**{"method": "solid", "shape": "box", "grow": 1.0, **(redact or {})})
    return Redaction(AnonymizeConfig.model_validate({"redact": chosen, "regions": regions}), source)


def black(frame: Frame) -> np.ndarray:
    return ~frame.planes[0].any(axis=-1)


def test_without_rules_there_is_one_layer_as_configured() -> None:
    (layer,) = redaction().layers(picture(), found((0, 0, 10, 10), (20, 20, 30, 30), classes=(0, 1)))
    assert layer.config == RedactConfig(method="solid", shape="box", grow=1.0)
    assert len(layer.regions) == 2
    assert redaction().layers(picture(), found()) == ()


def test_each_class_as_it_is_said_and_the_stronger_lies_above() -> None:
    rules = redaction(
        redact={"method": "gaussian"}, treatments={"license_plate": {"method": "solid", "shape": "rounded", "grow": 2}}
    )
    frame = picture()
    layers = rules.layers(frame, found((0, 0, 10, 10), (20, 20, 30, 30), classes=(1, 0)))
    assert [layer.config.method for layer in layers] == ["gaussian", "solid"]
    assert layers[1].regions[0].shape == "rounded"
    assert layers[1].regions[0].x1_px == 15
    rules.apply(frame, found((0, 0, 20, 20), (10, 10, 30, 30), classes=(1, 0)))
    assert black(frame)[10:20, 10:20].all()


def test_each_class_grows_as_its_recipes_learnt_unless_somebody_chose() -> None:
    learned = {"grow": None, "learned_growth": (("face", 2.0), ("license_plate", 3.0))}
    boxes = found((20, 20, 30, 30), (60, 20, 70, 30), classes=(0, 1))
    (layer,) = redaction(redact=learned).layers(picture(), boxes)
    assert [region.x1_px - region.x0_px for region in layer.regions] == [20, 30]
    (layer,) = redaction(redact={**learned, "grow": 1.5}).layers(picture(), boxes)
    assert [region.x1_px - region.x0_px for region in layer.regions] == [15, 15]


def test_a_plate_is_redacted_up_to_its_corners_and_a_face_as_an_ellipse() -> None:
    frame = picture()
    before = frame.planes[0].copy()
    plate, face = (4, 4, 30, 12), (34, 14, 54, 34)
    rules = redaction(redact={"method": "pixelate", "shape": None, "strength": 1.0})
    rules.apply(frame, found(plate, face, classes=(1, 0)))
    changed = (frame.planes[0] != before).any(axis=-1)
    assert changed[4:12, 4:30].mean() > 0.98, "a cell's average may meet a pixel's own value"
    assert changed[4:12, (4, 29)].mean() > 0.9
    assert not changed[14:17, (34, 35, 52, 53)].any(), "the corners around a face are left"
    with_masks = rules.layers(frame, found(plate, face, classes=(1, 0)))
    assert sorted(region.shape for layer in with_masks for region in layer.regions) == ["box", "ellipse"]


def test_a_region_by_hand_is_destroyed_without_any_detection() -> None:
    frame = picture()
    redaction(regions=[{"box": [4, 6, 20, 30]}]).apply(frame, found())
    expected = np.zeros((40, 60), bool)
    expected[6:30, 4:20] = True
    np.testing.assert_array_equal(black(frame), expected)


def test_a_region_by_hand_is_drawn_in_the_upright_picture() -> None:
    frame = picture(40, 60, Orientation.ROTATE_90_CLOCKWISE)  # upright 60 x 40
    redaction(regions=[{"box": [0, 0, 10, 5]}]).apply(frame, found())
    expected = np.zeros((60, 40), bool)
    expected[50:, :5] = True  # the upright picture's top left is the stored one's bottom left
    np.testing.assert_array_equal(black(frame), expected)


def test_a_region_has_its_own_redaction() -> None:
    layers = redaction(regions=[{"ellipse": [0, 0, 9, 9], "redact": {"method": "pixelate", "strength": 0.5}}]).layers(
        picture(), found((20, 20, 30, 30))
    )
    assert [layer.config.method for layer in layers] == ["pixelate", "solid"]
    assert layers[0].config.strength == 0.5
    assert layers[0].regions[0].object_px == 9


def test_keep_leaves_those_visible_that_lie_in_it_by_half() -> None:
    rules = redaction(regions=[{"box": [0, 0, 20, 40], "action": "keep"}])
    assert rules.layers(picture(), found((2, 2, 18, 18), (11, 0, 29, 10))) == ()
    (layer,) = rules.layers(picture(), found((12, 2, 30, 18)))
    assert len(layer.regions) == 1


def test_a_kept_region_does_not_uncover_what_is_redacted_beside_it() -> None:
    frame = picture()
    redaction(regions=[{"box": [0, 0, 20, 40], "action": "keep"}]).apply(frame, found((2, 2, 10, 10), (8, 2, 40, 30)))
    assert black(frame)[2:30, 8:40].all()


def test_ignore_goes_by_the_centre() -> None:
    rules = redaction(regions=[{"ellipse": [0, 0, 20, 20], "action": "ignore"}])
    assert rules.layers(picture(), found((0, 0, 20, 20), (9, 9, 11, 11))) == ()
    assert rules.layers(picture(), found((16, 16, 20, 20)))  # in the ellipse's box, but not in it


def test_keep_for_one_class_alone() -> None:
    rules = redaction(
        regions=[{"polygon": [[0, 0], [60, 0], [60, 40], [0, 40]], "action": "keep", "classes": ["face"]}]
    )
    (layer,) = rules.layers(picture(), found((2, 2, 9, 9), (20, 2, 29, 9), classes=(0, 1)))
    assert [r.x0_px for r in layer.regions] == [20]


def test_sizes() -> None:
    rules = redaction(treatments={"face": {"min_size_px": 10, "max_size_px": 20}})
    (layer,) = rules.layers(picture(), found((0, 0, 9, 9.5), (0, 0, 10, 2), (0, 0, 3, 20), (0, 0, 21, 2)))
    assert [r.object_px for r in layer.regions] == [10, 20]


def test_a_detection_that_is_not_finite_is_an_error_and_never_kept_or_too_large() -> None:
    for rules in (
        redaction(regions=[{"box": [0, 0, 60, 40], "action": "keep"}]),
        redaction(treatments={"face": {"max_size_px": 20}}),
    ):
        with pytest.raises(ValueError, match="not finite"):
            rules.layers(picture(), found((0, 0, float("nan"), 10)))


def test_frames_of_a_caller_have_treatments_but_no_regions_by_hand() -> None:
    rules = redaction(None, regions=[{"box": [0, 0, 9, 9]}], treatments={"face": {"method": "pixelate"}})
    assert rules.layers(picture(), found()) == ()
    (layer,) = rules.layers(picture(), found((0, 0, 5, 5)))
    assert layer.config.method == "pixelate"


@pytest.mark.parametrize("method", ["solid", "pixelate"])
@pytest.mark.parametrize("outline", [False, True])
@pytest.mark.parametrize(("y0", "y1"), [(8, 16), (10, 18), (9, 15), (0, 6), (30, 40), (13, 14)])
def test_rows_of_both_fields_lose_luma_and_chroma(y0: int, y1: int, outline: bool, method: str) -> None:
    """In interlaced 4:2:0, row L of the picture has its chroma in the row of its own field's chroma picture."""
    rng = np.random.default_rng(2)
    planes = tuple(rng.integers(100, 200, s, np.uint8) for s in PIXEL_FORMATS["yuv420p"].plane_shapes(48, 40))
    before = [plane.copy() for plane in planes]
    frame = Frame(planes, PIXEL_FORMATS["yuv420p"], 48, 40, interlaced=True)
    corners = np.array([[12, y0], [30, y0], [30, y1], [12, y1]], np.float32)
    one = found((12, y0, 30, y1), classes=(1,))
    masked = Detections(one.boxes_xyxy_px, one.scores, one.class_ids, NAMES, contours_px=(corners,))
    redaction(redact={"method": method, "strength": 1.0, "shape": None}).apply(frame, masked if outline else one)
    for row in range(y0, y1):
        assert (planes[0][row, 12:30] != before[0][row, 12:30]).mean() > 0.8
        field, line = row % 2, row // 2
        chroma = 2 * (line // 2) + field
        for plane, old in zip(planes[1:], before[1:], strict=True):
            assert (plane[chroma, 6:15] != old[chroma, 6:15]).mean() > 0.6, row
    assert np.array_equal(planes[0][:, 40:], before[0][:, 40:])


def test_what_players_do_not_show_is_black_without_any_detection() -> None:
    frame = replace(picture(), hidden_margins_px=(4, 0, 6, 3))
    before = frame.planes[0].copy()
    redaction(redact={"method": "gaussian"}).apply(frame, found())
    expected = np.ones((40, 60), bool)
    expected[:37, 4:54] = False
    assert np.array_equal(black(frame), expected)
    assert np.array_equal(frame.planes[0][:37, 4:54], before[:37, 4:54])
