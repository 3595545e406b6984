"""End-to-end rows, as YOLOv10 and YOLO26 give them."""

from __future__ import annotations

import numpy as np
import pytest

from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError
from trt_anon.postprocess.nms import Pass, merge

HW = (96, 128)


def rows(batch: int = 2, count: int = 300, classes: int = 3, extra: int = 0) -> np.ndarray:
    rng = np.random.default_rng(0)
    made = rng.uniform(0, 1, (batch, count, 6 + extra)).astype(np.float32)
    made[..., :4] *= 90
    made[..., 5] = rng.integers(0, classes, (batch, count))
    made[:, count // 2 :, 4:6] = 0  # the padding of models with a fixed number of rows
    return made


@pytest.mark.parametrize("box_format", ["xyxy", "cxcywh"])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("extra", [0, 32])
def test_rows_are_read_as_they_are(box_format, normalised, extra, assert_same):
    made = rows(extra=extra)
    options = {"box_format": box_format, "normalised": normalised, "extra_channels": extra}
    for image, found in enumerate(get_family("yolo-e2e", options, classes=3).decode({"output0": made}, HW, 0.7)):
        wanted = []
        for a, b, c, d, score, class_id, *_ in made[image].astype(float):
            if score >= 0.7:
                box = (a, b, c, d) if box_format == "xyxy" else (a - c / 2, b - d / 2, a + c / 2, b + d / 2)
                box = [v * (128, 96)[i % 2] for i, v in enumerate(box)] if normalised else box
                wanted.append((score, class_id, box, None))
        assert_same(found, wanted)


def test_overlapping_objects_are_not_suppressed_for_the_model_chose_them():
    made = np.zeros((1, 300, 6), np.float32)
    made[0, 0] = (10, 10, 50, 50, 0.9, 0)
    made[0, 1] = (12, 10, 52, 50, 0.8, 0)
    (found,) = get_family("yolo-e2e", classes=1).decode({"o": made}, HW, 0.5)
    assert found.distinct
    one = Pass(found.boxes_xyxy, found.scores, found.class_ids, None, distinct=found.distinct)
    assert len(merge([one], ["face"], 0.4)) == 2


@pytest.mark.parametrize("class_id", [3, -1, 0.5, np.nan, np.inf])
def test_a_class_that_the_model_cannot_have_is_refused(class_id):
    made = rows()
    made[1, 4, 4:] = (0.99, class_id)
    with pytest.raises(ModelError, match=r"class of 0\.\.2|classes that are not finite"):
        get_family("yolo-e2e", classes=3).decode({"o": made}, HW, 0.5)


def test_what_lies_in_rows_below_the_threshold_does_not_matter():
    made = rows()
    made[:, -1] = (np.nan, np.inf, 0, 0, 0, -1)
    get_family("yolo-e2e", classes=3).decode({"o": made}, HW, 0.5)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ModelError, match=r"expected shape \(any, any, 6\); the model gave 'o' \(2, 300, 7\)"):
        get_family("yolo-e2e", classes=3).decode({"o": rows(extra=1)}, HW, 0.5)
    with pytest.raises(ConfigError, match="extra_channels"):
        get_family("yolo-e2e", {"extra_channels": -2})
