"""YOLO with masks against a loop over rows, and outlines against the interpolated mask, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import points_in_poly

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError
from trt_anon.redact.polygon import polygon_mask

HW = (64, 96)
ROWS, CLASSES, MASKS = 30, 3, 8
FORMS = ("anchor-free", "anchors", "end-to-end")


def made_up(form, seed=0, batch=2):
    """(rows, prototypes); each row as box, (objectness,) scores, (class,) coefficients."""
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(8, 56, (batch, ROWS, 2)), rng.uniform(5, 40, (batch, ROWS, 2))
    boxes = np.concatenate((centre, size), -1)
    if form == "end-to-end":
        boxes = np.concatenate((centre - size / 2, centre + size / 2), -1)
        scores = np.stack((rng.random((batch, ROWS)), rng.integers(0, CLASSES, (batch, ROWS))), -1)
    else:
        scores = rng.random((batch, ROWS, CLASSES + (form == "anchors")))
    rows = np.concatenate((boxes, scores, rng.normal(0, 1, (batch, ROWS, MASKS))), -1).astype(np.float32)
    prototypes = rng.normal(0, 1, (batch, MASKS, 16, 24))
    for axis in (2, 3):
        prototypes = prototypes + np.roll(prototypes, 1, axis) + np.roll(prototypes, 2, axis)
    return rows, prototypes.astype(np.float32)


def loop(rows, form, threshold):
    """(score, class, box, coefficients) of each row that counts."""
    for row in rows.astype(float):
        if form == "end-to-end":
            score, class_id, box = row[4], int(row[5]), tuple(row[:4])
        else:
            start = 4 + (form == "anchors")
            chances = row[start : start + CLASSES] * (row[4] if form == "anchors" else 1)
            class_id = int(max(range(CLASSES), key=lambda c: chances[c]))
            score = chances[class_id]
            box = (row[0] - row[2] / 2, row[1] - row[3] / 2, row[0] + row[2] / 2, row[1] + row[3] / 2)
        if score >= threshold:
            yield score, class_id, box, row[-MASKS:]


def mask_of(box, coefficients, prototypes):
    """Pixels of the input whose bilinearly interpolated mask reaches one half inside the box, one at a time."""
    values = np.einsum("c,chw->hw", coefficients, prototypes.astype(float))
    mask = np.zeros(HW, np.bool_)
    for y in range(HW[0]):
        for x in range(HW[1]):
            if not (box[0] <= x + 0.5 <= box[2] and box[1] <= y + 0.5 <= box[3]):
                continue
            v, u = min(max((y + 0.5) / 4 - 0.5, 0), 15), min(max((x + 0.5) / 4 - 0.5, 0), 23)
            j, i = min(math.floor(v), 14), min(math.floor(u), 22)
            b, a = v - j, u - i
            value = (1 - b) * ((1 - a) * values[j, i] + a * values[j, i + 1])
            value += b * ((1 - a) * values[j + 1, i] + a * values[j + 1, i + 1])
            mask[y, x] = 1 / (1 + math.exp(-value)) > 0.5
    return mask


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_the_loop(assert_same, form, transposed):
    rows, prototypes = made_up(form)
    family = get_family("yolo-seg", {"form": form, "classes": CLASSES, "masks": MASKS, "transposed": transposed})
    given = rows.transpose(0, 2, 1) if (form == "anchor-free") != transposed else rows
    for image, found in enumerate(family.decode({"output0": given, "output1": prototypes}, HW, 0.4)):
        wanted = list(loop(rows[image], form, 0.4))
        assert_same(found, [(*w[:3], None) for w in wanted])
        assert found.distinct == (form == "end-to-end")
        assert len(found.contours) == len(wanted)


@pytest.mark.parametrize("form", ["anchor-free", "end-to-end"])
def test_outlines_cover_the_mask_and_stay_near_it(form):
    rows, prototypes = made_up(form, seed=3)
    family = get_family("yolo-seg", {"form": form, "classes": CLASSES, "masks": MASKS})
    given = rows.transpose(0, 2, 1) if form == "anchor-free" else rows
    checked = 0
    for image, found in enumerate(family.decode({"a": given, "b": prototypes}, HW, 0.6)):
        for score, _, box, coefficients in loop(rows[image], form, 0.6):
            (which,) = np.flatnonzero(np.isclose(found.scores, score, atol=1e-6))
            outline = found.contours[which]
            mask = mask_of(box, coefficients, prototypes[image])
            assert polygon_mask(outline, 0.0, (0, 0), HW)[mask].all()
            assert (outline >= np.array(box[:2]) - 1e-3).all()
            assert (outline <= np.array(box[2:]) + 1e-3).all()
            # nor does it reach farther than the cells around those that belong, and what they enclose
            belongs = np.einsum("c,chw->hw", coefficients, prototypes[image]) >= 0
            around = ndimage.binary_fill_holes(ndimage.binary_dilation(belongs, np.ones((3, 3))))
            if (around & (mask.reshape(16, 4, 24, 4).any((1, 3)))).any():
                wound = points_in_poly(PIXELS + 0.437, outline).reshape(HW)
                assert not (wound & ~around.repeat(4, 0).repeat(4, 1)).any()
                checked += 1
    assert checked > 10


PIXELS = np.stack(np.meshgrid(np.arange(HW[1]), np.arange(HW[0])), -1).reshape(-1, 2)


def test_a_mask_by_hand():
    """One prototype, a square of four cells: the outline is the square and the cells around it, cut to the box."""
    prototypes = np.full((1, 1, 16, 24), -1, np.float32)
    prototypes[0, 0, 4:6, 8:10] = 1
    row = np.array([[[36.0, 20.0, 26.0, 60.0, 0.9, 1.0]]], np.float32)
    family = get_family("yolo-seg", {"classes": 1, "masks": 1})
    (found,) = family.decode({"a": row.transpose(0, 2, 1), "b": prototypes}, HW, 0.5)
    assert found.contours[0].tolist() == [[28, 12], [44, 12], [44, 28], [28, 28]]
    row[..., 2] = 10  # the box ends at 31 and 41
    (found,) = family.decode({"a": row.transpose(0, 2, 1), "b": prototypes}, HW, 0.5)
    assert found.contours[0].tolist() == [[31, 12], [41, 12], [41, 28], [31, 28]]


@pytest.mark.parametrize("centre", [(80.0, 50.0), (500.0, 500.0)])
def test_an_empty_mask_leaves_the_box(centre):
    prototypes = np.full((1, 1, 16, 24), -1, np.float32)
    row = np.array([[[*centre, 10.0, 20.0, 0.9, 1.0]]], np.float32)
    (found,) = get_family("yolo-seg", {"classes": 1, "masks": 1}).decode(
        {"a": row.transpose(0, 2, 1), "b": prototypes}, HW, 0.5
    )
    x, y = centre
    assert found.contours[0].tolist() == [[x - 5, y - 10], [x + 5, y - 10], [x + 5, y + 10], [x - 5, y + 10]]


def test_nothing_found():
    rows, prototypes = made_up("end-to-end")
    family = get_family("yolo-seg", {"form": "end-to-end", "classes": CLASSES, "masks": MASKS})
    for found in family.decode({"a": rows, "b": prototypes}, HW, 1.5):
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.contours == ()


def test_broken_outputs_are_refused():
    rows, prototypes = made_up("end-to-end")
    family = get_family("yolo-seg", {"form": "end-to-end", "classes": CLASSES, "masks": MASKS})
    with pytest.raises(ModelError, match=r"expected shape \(any, any, 14\); the model gave"):
        family.decode({"a": rows[..., 1:], "b": prototypes}, HW, 0.5)
    with pytest.raises(ModelError, match=r"expected shape \(any, 8, any, any\)"):
        family.decode({"a": rows, "b": prototypes[:, 1:]}, HW, 0.5)
    with pytest.raises(ModelError, match="expected"):
        family.decode({"a": rows, "b": prototypes[:1]}, HW, 0.5)
    for column, what in ((0, "boxes"), (4, "scores"), (5, "classes"), (9, "masks")):
        broken = rows.copy()
        broken[1, :, column] = np.nan
        with pytest.raises(ModelError, match=f"{what} that are not finite"):
            family.decode({"a": broken, "b": prototypes}, HW, 0.01)
    with pytest.raises(ModelError, match="masks that are not finite"):
        family.decode({"a": rows, "b": np.full_like(prototypes, np.inf)}, HW, 0.5)
    with pytest.raises(ModelError, match=r"a class of 0\.\.2"):
        family.decode({"a": rows + 1e-9 + (np.arange(14) == 5), "b": prototypes}, HW, 0.01)
    with pytest.raises(ConfigError, match="'masks'"):
        get_family("yolo-seg", {"masks": 0})
