"""Segmentation maps against a flood fill of each part, and people in real pictures from map to redaction."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from trt_anon.config import RedactConfig
from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError
from trt_anon.pipeline.redaction import stored_regions
from trt_anon.redact.frame import Redactor
from trt_anon.redact.polygon import polygon_mask
from trt_anon.types import PIXEL_FORMATS, Frame

HW = (60, 96)
MAP = (20, 24)  # 3 pixels down, 4 across


def made_up(channels, seed=0, batch=3):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(0, 1, (batch, channels, *MAP))
    for axis in (2, 3):
        smooth = smooth + np.roll(smooth, 1, axis) + np.roll(smooth, 2, axis)
    return (smooth / 3).astype(np.float32)


def flood(belongs):
    """Sets of cells that touch, corners included, in the order in which a reader meets them."""
    left, parts = {(y, x) for y, x in np.argwhere(belongs).tolist()}, []
    for start in sorted(left):
        if start not in left:
            continue
        part, waiting = set(), [start]
        while waiting:
            cell = waiting.pop()
            if cell in left:
                left.remove(cell)
                part.add(cell)
                waiting += [(cell[0] + i, cell[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        parts.append(part)
    return parts


def loop(chances, threshold, min_cells=1):
    """(score, class, box, cells) of each part; chances: (C, h, w)."""
    for class_id, share in enumerate(chances.astype(float)):
        for part in flood(share >= np.float32(threshold)):
            if len(part) >= min_cells:
                ys, xs = [c[0] for c in part], [c[1] for c in part]
                box = (min(xs) * 4, min(ys) * 3, (max(xs) + 1) * 4, (max(ys) + 1) * 3)
                yield max(share[c] for c in part), class_id, box, part


def check(found, wanted):
    wanted = sorted(wanted, key=lambda w: (w[1], w[2]))
    order = sorted(range(len(found.scores)), key=lambda i: (found.class_ids[i], found.boxes_xyxy[i].tolist()))
    assert len(order) == len(wanted) > 3
    assert found.distinct
    for i, (score, class_id, box, cells) in zip(order, wanted, strict=True):
        assert found.scores[i] == pytest.approx(score, abs=1e-6)
        assert found.class_ids[i] == class_id
        assert found.boxes_xyxy[i].tolist() == list(box)
        outline = found.contours[i]
        assert outline.dtype == np.float32
        assert outline.min(axis=0).tolist() == list(box[:2])
        assert outline.max(axis=0).tolist() == list(box[2:])
        covered = polygon_mask(outline / (4, 3), 0.0, (0, 0), MAP)
        assert all(covered[c] for c in cells)


def softmax(raw):
    raised = np.exp(raw.astype(float))
    return raised / raised.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("options", "chances"),
    [
        ({"classes": 2, "activation": "sigmoid"}, lambda raw: 1 / (1 + np.exp(-raw.astype(float)))),
        ({"classes": 1, "background": "first", "activation": "softmax"}, lambda raw: softmax(raw)[:, 1:]),
        ({"classes": 2, "background": "last", "activation": "softmax"}, lambda raw: softmax(raw)[:, :-1]),
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_parts_are_those_of_the_flood(options, chances, layout):
    family = get_family("segmentation", options | {"layout": layout})
    raw = made_up(options["classes"] + ("background" in options))
    outputs = {"map": raw if layout == "nchw" else raw.transpose(0, 2, 3, 1)}
    for image, found in enumerate(family.decode(outputs, HW, 0.6)):
        check(found, list(loop(chances(raw)[image], 0.6)))


def test_probabilities_and_small_parts_left_out():
    raw = np.clip(made_up(1) / 4 + 0.5, 0, 1)
    for image, found in enumerate(get_family("segmentation", {"min_cells": 4}).decode({"map": raw}, HW, 0.7)):
        check(found, list(loop(raw[image], 0.7, min_cells=4)))


@pytest.mark.parametrize("shape", [(3, *MAP), (3, 1, *MAP)])
def test_maps_of_labels(shape):
    labels = np.random.default_rng(0).integers(0, 3, (3, *MAP)) * (np.arange(24) % 4 > 0)
    family = get_family("segmentation", {"classes": 2, "layout": "labels", "background": "first"})
    for image, found in enumerate(family.decode({"map": labels.reshape(shape)}, HW, 0.5)):
        chances = np.stack([labels[image] == 1, labels[image] == 2])
        check(found, list(loop(chances, 0.5)))
        assert (found.scores == 1).all()
    with pytest.raises(ModelError, match="no whole numbers"):
        family.decode({"map": labels.reshape(shape) + 0.5}, HW, 0.5)


def test_an_empty_map_and_a_full_one():
    family = get_family("segmentation")
    (nothing,) = family.decode({"map": np.zeros((1, 1, *MAP))}, HW, 0.5)
    assert nothing.boxes_xyxy.shape == (0, 4)
    assert nothing.contours == ()
    (full,) = family.decode({"map": np.ones((1, 1, *MAP))}, HW, 0.5)
    assert full.contours[0].tolist() == [[0, 0], [96, 0], [96, 60], [0, 60]]


def test_broken_maps_are_refused():
    family = get_family("segmentation", {"classes": 2})
    good = np.clip(made_up(2), 0, 1)
    with pytest.raises(ModelError, match=r"no output of the expected shape \(any, 2, any, any\); the model gave 'map'"):
        family.decode({"map": good[:, :1]}, HW, 0.5)
    with pytest.raises(ModelError, match="2 outputs of the expected shape"):
        family.decode({"map": good, "other": good}, HW, 0.5)
    named = get_family("segmentation", {"classes": 2, "outputs": ["other"]})
    assert len(named.decode({"map": good, "other": good}, HW, 0.5)) == 3
    with pytest.raises(ModelError, match="no output 'other'"):
        named.decode({"map": good}, HW, 0.5)
    for bad in (np.nan, np.inf):
        broken = good.copy()
        broken[1, 0, 3, 3] = bad
        with pytest.raises(ModelError, match="not finite"):
            family.decode({"map": broken}, HW, 0.5)
    with pytest.raises(ModelError, match="last activation"):
        family.decode({"map": good * 5}, HW, 0.5)


@pytest.mark.parametrize(
    "options", [{"min_cells": 0}, {"layout": "labels", "background": "last"}, {"activation": "softmax"}]
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ConfigError, match="segmentation"):
        get_family("segmentation", options)


SINET = (
    {"background": "first"},
    {
        "size_px": [320, 320],
        "channels": "bgr",
        "mean": [102.890434, 111.25247, 126.91212],
        "scale": [1 / (255 * s) for s in (62.93292, 62.82138, 66.355705)],
    },
)
PRISMANET = ({}, {"size_px": [256, 256]})


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("model", "options"), [("sinet_softmax_seg", SINET), ("prismanet_unet_seg", PRISMANET)], ids=["sinet", "prismanet"]
)
def test_a_person_is_found_outlined_and_redacted(find, data_dir, model, options):
    family = get_family("segmentation", *options)
    found = find(family, model, "astronaut.png", 0.5)
    assert found.scores[0] > 0.99
    outline = found.contours_px[0]
    mask = polygon_mask(outline, 0.0, (0, 0), (512, 512))
    # by eye: on her are face, hair, arm, badge and collar; beside her are flag, wall, shuttle and table
    for x, y in ((225, 115), (240, 30), (60, 420), (175, 385), (170, 190), (330, 300)):
        assert mask[y, x], (x, y)
    for x, y in ((40, 60), (110, 60), (370, 60), (440, 140), (480, 240), (330, 150)):
        assert not mask[y, x], (x, y)
    picture = np.array(Image.open(data_dir / "data" / "faces" / "unlabelled" / "astronaut.png").convert("RGB"))
    frame = Frame((picture.copy(),), PIXEL_FORMATS["rgb24"], 512, 512)
    regions = stored_regions(frame, found, RedactConfig(grow=1.05))
    assert {r.shape for r in regions} == {"polygon"}
    Redactor(RedactConfig(method="solid")).redact(frame, regions)
    black = ~frame.planes[0].any(axis=-1)
    assert black[mask].all()
    np.testing.assert_array_equal(frame.planes[0][20:200, 350:], picture[20:200, 350:])  # the shuttle stays
