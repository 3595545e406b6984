from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.config import RedactConfig
from trt_anon.evaluate.dataset import LabelledImage
from trt_anon.evaluate.pictures import canvas_of, rgb
from trt_anon.evaluate.settings import EvaluateConfig
from trt_anon.evaluate.tally import Tally, redaction_levels
from trt_anon.geometry import turn_upright
from trt_anon.metrics.privacy import cover
from trt_anon.pipeline.redaction import stored_regions
from trt_anon.redact.frame import Redactor
from trt_anon.types import PIXEL_FORMATS, Detections, Frame, Orientation


def found_in(rng, count=5, outlines=False):
    low = rng.uniform(-10, 60, (count, 2))
    boxes = np.concatenate((low, low + rng.uniform(1, 40, (count, 2))), axis=1).astype(np.float32)
    contours = None
    if outlines:
        turns = np.linspace(0, 2 * np.pi, 9)[:-1]
        ring = np.stack((np.cos(turns), np.sin(turns)), axis=-1) / 2
        contours = tuple(
            ((b[:2] + b[2:]) / 2 + ring * (b[2:] - b[:2])).astype(np.float32) if n % 2 else np.zeros((0, 2), np.float32)
            for n, b in enumerate(boxes)
        )
    scores = np.sort(rng.integers(1, 20, count).astype(np.float32) / 20)[::-1].copy()
    return Detections(boxes, scores, np.zeros(count, np.int32), ("face",), None, contours)


def kept(found, threshold):
    few = found.scores >= np.float32(threshold)
    contours = found.contours_px and tuple(c for c, keep in zip(found.contours_px, few, strict=True) if keep)
    return replace(
        found,
        boxes_xyxy_px=found.boxes_xyxy_px[few],
        scores=found.scores[few],
        class_ids=found.class_ids[few],
        contours_px=contours,
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["ellipse", "box", "rounded"]),
    st.sampled_from(list(Orientation)),
    st.sampled_from(["rgb24", "yuv420p", "yuv422p", "gray"]),
    st.booleans(),
    st.sampled_from([0.05, 0.3, 0.5, 0.9]),
)
def test_levels_are_what_the_redactor_redacts(seed, shape, orientation, layout, outlines, threshold):
    """A white picture under solid black, redacted at the threshold, is black where the levels reach it."""
    rng = np.random.default_rng(seed)
    form = PIXEL_FORMATS[layout]
    planes = tuple(np.full(s, 255, np.uint8) for s in form.plane_shapes(71, 53))
    frame = Frame(planes, form, 71, 53, orientation=orientation)
    found = found_in(rng, outlines=outlines)
    config = RedactConfig(method="solid", shape=shape, grow=1.2)
    levels = redaction_levels(canvas_of(frame), found, config)
    Redactor(config).redact(frame, stored_regions(frame, kept(found, threshold), config))
    luma = turn_upright(planes[0].reshape(53, 71, -1)[..., 0], orientation)
    assert np.array_equal(luma < 128, levels >= np.float32(threshold))


def labelled(boxes, ignore=None):
    count = len(boxes)
    zeros = np.zeros(count, np.int64)
    ignored = np.zeros(count, np.bool_) if ignore is None else ignore
    return LabelledImage(
        "x", None, None, np.array(boxes, np.float64), zeros, zeros, ignored, ignored & False, zeros - 1
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32))
def test_every_threshold_follows_from_one_pass(seed):
    """Found, covered and redacted at each threshold, against a run that has nothing below it."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 50, (4, 2))
    image = labelled(np.concatenate((low, low + rng.uniform(2, 30, (4, 2))), axis=1))
    found = found_in(rng)
    frame = Frame((np.zeros((60, 80, 3), np.uint8),), PIXEL_FORMATS["rgb24"], 80, 60)
    redact, config, thresholds = RedactConfig(), EvaluateConfig(grows=(1.0, 2.0), covers=(0.5, 0.9)), [0.1, 0.4, 0.7]
    tally = Tally(1, redact, config, thresholds)
    tally.add(image, found, canvas_of(frame))
    every = tally.done()
    assert set(every.cover_reach) == {1.0, 1.3, 2.0}
    for place, threshold in enumerate(thresholds):
        tally = Tally(1, redact, config, thresholds)
        tally.add(image, kept(found, threshold), canvas_of(frame))
        alone = tally.done()
        limit = np.float32(threshold)
        assert (every.reach >= limit).tolist() == (alone.reach >= limit).tolist()
        for grow in every.cover_reach:
            mask = redaction_levels(canvas_of(frame), kept(found, threshold), RedactConfig(grow=grow)) > 0
            assert every.redacted[grow][place] == pytest.approx(mask.mean())
            assert every.redacted_mean[grow][place] == pytest.approx(mask.mean())
            for k, needed in enumerate(config.covers):
                wanted = cover(image.boxes_xyxy_px, mask) >= needed - 1e-9
                assert (every.cover_reach[grow][:, k] >= limit).tolist() == wanted.tolist()


def test_its_own_growth_may_differ_by_class():
    redact = RedactConfig(shape="box", learned_growth=(("face", 1.0), ("license_plate", 2.0)))
    tally = Tally(2, redact, EvaluateConfig(grows=(1.0, 3.0)), [0.5])
    names = ("face", "license_plate")
    boxes = np.array([[10, 10, 20, 20], [40, 10, 50, 20]], np.float32)
    found = Detections(boxes, np.ones(2, np.float32), np.array([0, 1], np.int32), names)
    frame = Frame((np.zeros((60, 80, 3), np.uint8),), PIXEL_FORMATS["rgb24"], 80, 60)
    tally.add(labelled(boxes.astype(np.float64)), found, canvas_of(frame))
    pixels = {grow: round(float(share[0]) * 60 * 80) for grow, share in tally.done().redacted.items()}
    assert pixels == {1.0: 200, 2.0: 100 + 400, 3.0: 1800}


def test_what_is_ignored_or_out_of_sight_does_not_count():
    boxes = [[0, 0, 20, 20], [30, 0, 50, 20], [200, 0, 220, 20]]
    image = labelled(boxes, np.array([False, True, False]))
    found = Detections(
        np.array(boxes[:2], np.float32), np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32), ("face",)
    )
    frame = Frame((np.zeros((60, 80, 3), np.uint8),), PIXEL_FORMATS["rgb24"], 80, 60)
    tally = Tally(1, RedactConfig(), EvaluateConfig(), [0.5])
    with pytest.raises(ValueError, match="no image"):
        tally.done()
    tally.add(image, found, canvas_of(frame))
    measured = tally.done()
    assert measured.counted.tolist() == [True, False, False]
    assert measured.verdicts.tolist() == [1, -1]
    assert measured.ignored == 2
    assert "objects" in repr(measured)


@pytest.mark.parametrize(
    ("layout", "plane", "wanted"),
    [
        ("gray", [[7]], [7, 7, 7]),
        ("ya8", [[[7, 0]]], [7, 7, 7]),
        ("rgba", [[[1, 2, 3, 4]]], [1, 2, 3]),
        ("rgb48le", [[[256, 512, 65535]]], [1, 2, 255]),
        ("gray16le", [[1024]], [4, 4, 4]),
    ],
)
def test_frames_of_images_as_rgb(layout, plane, wanted):
    form = PIXEL_FORMATS.get(layout) or pytest.skip(f"no {layout}")
    frame = Frame((np.array(plane, form.dtype),), form, 1, 1)
    assert rgb(frame).tolist() == [[wanted]]
