from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.metrics.coco import CocoImage, coco_numbers
from trt_anon.metrics.curves import ap_coco, curve
from trt_anon.metrics.matching import FALSE, IGNORED, TRUE, match, overlaps


def brute_force(boxes, scores, objects, ignore, crowd, iou):
    """The loop of pycocotools' `evaluateImg`, written out: objects to be ignored last, detections by score."""
    ignore = [bool(i or c) for i, c in zip(ignore, crowd, strict=True)]
    places = sorted(range(len(objects)), key=lambda g: ignore[g])
    taken = dict.fromkeys(places, False)
    verdicts, reach, owners = [FALSE] * len(boxes), [-np.inf] * len(objects), [-1] * len(boxes)
    for d in sorted(range(len(boxes)), key=lambda d: -scores[d]):
        best, chosen = min(iou, 1 - 1e-10), -1
        for g in places:
            if taken[g] and not crowd[g]:
                continue
            if chosen > -1 and not ignore[chosen] and ignore[g]:
                break
            x0, y0 = max(boxes[d][0], objects[g][0]), max(boxes[d][1], objects[g][1])
            x1, y1 = min(boxes[d][2], objects[g][2]), min(boxes[d][3], objects[g][3])
            shared = max(0.0, x1 - x0) * max(0.0, y1 - y0)
            own = (boxes[d][2] - boxes[d][0]) * (boxes[d][3] - boxes[d][1])
            other = (objects[g][2] - objects[g][0]) * (objects[g][3] - objects[g][1])
            union = own if crowd[g] else own + other - shared
            overlap = shared / union if union > 0 else 0.0
            if overlap < best:
                continue
            best, chosen = overlap, g
        if chosen >= 0:
            taken[chosen] = True
            owners[d] = chosen
            verdicts[d] = IGNORED if ignore[chosen] else TRUE
            reach[chosen] = max(reach[chosen], scores[d])
    return verdicts, owners, reach


def scene(rng, spread=24):
    """Boxes and objects on a coarse grid, so that overlaps and ties are frequent."""

    def some(count):
        low = rng.integers(0, spread, (count, 2))
        return np.concatenate((low, low + rng.integers(1, 14, (count, 2))), axis=1).astype(np.float64)

    boxes, objects = some(rng.integers(0, 12)), some(rng.integers(0, 8))
    scores = rng.integers(1, 10, len(boxes)) / 10
    crowd = rng.random(len(objects)) < 0.2
    return boxes, scores, objects, rng.random(len(objects)) < 0.2, crowd


@given(st.integers(0, 2**32), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_the_rules_are_those_of_the_written_out_loop(seed, iou):
    boxes, scores, objects, ignore, crowd = scene(np.random.default_rng(seed))
    verdicts, owners, reach = brute_force(
        boxes.tolist(), scores.tolist(), objects.tolist(), ignore.tolist(), crowd.tolist(), iou
    )
    found = match(boxes, scores, objects, ignore, crowd, iou)
    assert found.verdicts.tolist() == verdicts
    assert found.objects.tolist() == owners
    assert found.reach.tolist() == reach


@given(st.integers(0, 2**32), st.sampled_from([0.2, 0.5, 0.8]))
def test_a_matching_serves_all_higher_thresholds(seed, threshold):
    boxes, scores, objects, ignore, crowd = scene(np.random.default_rng(seed))
    every = match(boxes, scores, objects, ignore, crowd, 0.5)
    kept = scores >= threshold
    few = match(boxes[kept], scores[kept], objects, ignore, crowd, 0.5)
    assert few.verdicts.tolist() == every.verdicts[kept].tolist()
    assert (few.reach >= threshold).tolist() == (every.reach >= threshold).tolist()


def test_by_hand():
    objects = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 60, 20]], np.float64)
    boxes = np.array([[0, 0, 10, 8], [0, 0, 10, 10], [20, 0, 30, 4], [41, 1, 43, 3], [50, 1, 52, 3]], np.float64)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    crowd = np.array([False, False, True])
    found = match(boxes, scores, objects, np.zeros(3, np.bool_), crowd, 0.5)
    # The better box comes second and finds its object taken; a small part of a crowd lies in it whole.
    assert found.verdicts.tolist() == [TRUE, FALSE, FALSE, IGNORED, IGNORED]
    assert found.reach.tolist() == [0.9, -np.inf, 0.6]


def test_overlaps():
    boxes = np.array([[0, 0, 2, 2], [5, 5, 5, 5], [1, 1, 3, 3]], np.float64)
    objects = np.array([[0, 0, 2, 2], [0, 0, 4, 4]], np.float64)
    crowd = np.array([False, True])
    assert overlaps(boxes, objects, crowd) == pytest.approx(np.array([[1, 1], [0, 0], [1 / 7, 1]]))


@pytest.mark.parametrize("iou", [0.0, -1.0, 1.5])
def test_an_impossible_overlap_is_refused(iou):
    empty = np.zeros((0, 4))
    with pytest.raises(ValueError, match="IoU"):
        match(empty, np.zeros(0), empty, np.zeros(0, np.bool_), np.zeros(0, np.bool_), iou)


def test_wrong_shapes_are_refused():
    boxes = np.zeros((2, 4))
    with pytest.raises(ValueError, match="expected boxes"):
        match(boxes, np.zeros(3), boxes, np.zeros(2, np.bool_), np.zeros(2, np.bool_), 0.5)
    with pytest.raises(ValueError, match="expected boxes"):
        match(boxes, np.zeros(2), boxes, np.zeros(2, np.bool_), np.zeros(1, np.bool_), 0.5)


def coco_scene(seed, images=12, classes=2):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(images):
        boxes, scores, objects, ignore, crowd = scene(rng, spread=30)
        # Ties across images are broken by order in both; distinct scores keep the test to the rules.
        scores = np.sort(rng.random(len(scores)))[::-1]
        made.append(
            CocoImage(
                objects,
                rng.integers(0, classes, len(objects)),
                ignore | crowd,
                crowd,
                np.sqrt((objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1])),
                boxes,
                scores,
                rng.integers(0, classes, len(boxes)),
                np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])),
            )
        )
    return made


def own_ap(images, class_id, iou, size_range=None):
    """AP by this library's matching: objects out of the range are ignored, and unmatched boxes out of it too."""
    scores, verdicts, total = [], [], 0
    for image in images:
        objects, boxes = image.object_class_ids == class_id, image.class_ids == class_id
        ignore, own = image.ignore[objects], np.zeros(boxes.sum(), np.bool_)
        if size_range is not None:
            low, high = size_range
            ignore = ignore | (image.object_sizes[objects] < low) | (image.object_sizes[objects] >= high)
            own = (image.sizes[boxes] < low) | (image.sizes[boxes] >= high)
        found = match(
            image.boxes_xyxy[boxes],
            image.scores[boxes],
            image.objects_xyxy[objects],
            ignore,
            image.crowd[objects],
            iou,
        )
        total += int((~ignore).sum())
        scores.append(image.scores[boxes])
        verdicts.append(np.where((found.verdicts == FALSE) & own, IGNORED, found.verdicts).astype(np.int8))
    return ap_coco(curve(np.concatenate(scores), np.concatenate(verdicts), total))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_average_precision_is_that_of_pycocotools(seed):
    pytest.importorskip("pycocotools")
    images = coco_scene(seed)
    ranges = {"small": (0.0, 8.0), "large": (8.0, float("inf"))}
    numbers = coco_numbers(images, ("a", "b"), ranges)
    ious = np.linspace(0.5, 0.95, 10)
    for class_id, name in enumerate(("a", "b")):
        own = [own_ap(images, class_id, iou) for iou in ious]
        if own[0] is None:
            assert numbers["per_class"][name]["AP"] is None
        else:
            assert numbers["per_class"][name]["AP"] == pytest.approx(np.mean(own), abs=1e-6)
            assert numbers["per_class"][name]["AP50"] == pytest.approx(own[0], abs=1e-6)
    for name, bounds in ranges.items():
        own = [own_ap(images, k, 0.5, bounds) for k in range(2)]
        there = [ap for ap in own if ap is not None]
        expected = pytest.approx(np.mean(there), abs=1e-6) if there else None
        assert numbers["per_size"][name]["AP50"] == expected


def test_coco_numbers_of_nothing():
    pytest.importorskip("pycocotools")
    empty, none = np.zeros((0, 4)), np.zeros(0, np.int64)
    image = CocoImage(empty, none, none > 0, none > 0, np.zeros(0), empty, np.zeros(0), none, np.zeros(0))
    assert "boxes" in repr(image)
    numbers = coco_numbers([image], ("face",), {"all": (0.0, float("inf"))})
    assert numbers["AP"] is None
    assert numbers["AR100"] is None


def test_the_library_is_silent(capsys):
    pytest.importorskip("pycocotools")
    coco_numbers(coco_scene(1), ("a", "b"), {})
    assert capsys.readouterr().out == ""
