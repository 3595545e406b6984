"""Each family against a loop that was written from its description alone, and against broken outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trt_anon.detect.base import Candidates, Family
from trt_anon.detect.families import FAMILIES, get_family
from trt_anon.errors import ConfigError, ModelError

INPUT_HW = (64, 96)
BATCH = 3


def made_up_outputs(name: str, seed: int = 0, input_hw: tuple[int, int] = INPUT_HW, batch: int = BATCH):
    rng = np.random.default_rng(seed)
    height, width = input_hw
    outputs: dict[str, np.ndarray] = {}

    def put(key, *shape, low=-1.5, high=1.5):
        outputs[key] = rng.uniform(low, high, (batch, *shape)).astype(np.float32)

    if name.startswith("yunet"):
        for stride in (8, 16, 32):
            count = (height // stride) * (width // stride)
            put(f"cls_{stride}", count, 1, low=-0.2, high=1.2)
            put(f"obj_{stride}", count, 1, low=-0.2, high=1.2)
            put(f"bbox_{stride}", count, 4)
            put(f"kps_{stride}", count, 8 if name == "yunet-plate" else 10)
    elif name == "centerface":
        grid = (height // 4, width // 4)
        put("537", 1, *grid, low=0, high=1)
        put("538", 2, *grid)
        put("539", 2, *grid)
        put("540", 10, *grid)
    else:
        loc, conf, landms = get_family(name).output_names
        count = 2 * sum((height // s) * (width // s) for s in (8, 16, 32))
        put(loc, count, 4)
        put(conf, count, 2, low=0, high=1)
        put(landms, count, 8 if name == "retinaface-plate" else 10)
    return outputs


def loop(name: str, outputs: dict[str, np.ndarray], image: int, input_hw: tuple[int, int], threshold: float):
    """(score, box, points) of each candidate of one image, one number at a time."""
    height, width = input_hw
    out = {key: value[image].astype(float) for key, value in outputs.items()}
    if name.startswith("yunet"):
        for s in (8, 16, 32):
            for row in range(height // s):
                for column in range(width // s):
                    i = row * (width // s) + column
                    score = math.sqrt(min(max(out[f"cls_{s}"][i, 0], 0), 1) * min(max(out[f"obj_{s}"][i, 0], 0), 1))
                    if score < threshold:
                        continue
                    dx, dy, lw, lh = out[f"bbox_{s}"][i]
                    cx, cy, w, h = (column + dx) * s, (row + dy) * s, math.exp(lw) * s, math.exp(lh) * s
                    k = out[f"kps_{s}"][i]
                    points = [((column + k[2 * j]) * s, (row + k[2 * j + 1]) * s) for j in range(len(k) // 2)]
                    box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                    if name == "yunet-plate":
                        xs, ys = zip(*points, strict=True)
                        box = (min(box[0], *xs), min(box[1], *ys), max(box[2], *xs), max(box[3], *ys))
                    yield score, box, points
    elif name == "centerface":
        for row in range(height // 4):
            for column in range(width // 4):
                score = out["537"][0, row, column]
                if score < threshold:
                    continue
                h, w = (math.exp(v) * 4 for v in out["538"][:, row, column])
                oy, ox = out["539"][:, row, column]
                x0, y0 = (column + ox + 0.5) * 4 - w / 2, (row + oy + 0.5) * 4 - h / 2
                k = out["540"][:, row, column]
                points = [(x0 + k[2 * j + 1] * w, y0 + k[2 * j] * h) for j in range(5)]
                yield score, (x0, y0, x0 + w, y0 + h), points
    else:
        loc, conf, landms = get_family(name).output_names
        first = {"retinaface": 16, "retinaface-plate": 24}[name]
        i = 0
        for level, s in enumerate((8, 16, 32)):
            for row in range(height // s):
                for column in range(width // s):
                    for side in (first * 4**level, 2 * first * 4**level):
                        if out[conf][i, 1] >= threshold:
                            px, py = (column + 0.5) * s, (row + 0.5) * s
                            dx, dy, lw, lh = out[loc][i]
                            cx, cy = px + dx * 0.1 * side, py + dy * 0.1 * side
                            w, h = side * math.exp(0.2 * lw), side * math.exp(0.2 * lh)
                            k = out[landms][i]
                            points = [
                                (px + k[2 * j] * 0.1 * side, py + k[2 * j + 1] * 0.1 * side) for j in range(len(k) // 2)
                            ]
                            yield out[conf][i, 1], (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), points
                        i += 1
        assert i == len(out[conf])


@pytest.fixture(params=["centerface", "retinaface", "retinaface-plate", "yunet", "yunet-plate"])
def family(request) -> Family:
    return get_family(request.param)


def equal(a: Candidates, b: Candidates) -> bool:
    return all(
        np.array_equal(getattr(a, field), getattr(b, field))
        for field in ("boxes_xyxy", "scores", "class_ids", "landmarks")
    )


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_decode_is_the_loop(family, threshold):
    outputs = made_up_outputs(family.name)
    decoded = family.decode(outputs, INPUT_HW, threshold)
    assert len(decoded) == BATCH
    for image, found in enumerate(decoded):
        wanted = list(loop(family.name, outputs, image, INPUT_HW, threshold))
        assert len(wanted) > 5
        assert found.boxes_xyxy.dtype == found.scores.dtype == found.landmarks.dtype == np.float32
        assert found.class_ids.dtype == np.int32
        assert not found.class_ids.any()
        assert found.scores == pytest.approx(np.array([w[0] for w in wanted]), abs=1e-6)
        assert found.boxes_xyxy == pytest.approx(np.array([w[1] for w in wanted]), rel=1e-4, abs=1e-3)
        assert found.landmarks == pytest.approx(np.array([w[2] for w in wanted]), rel=1e-4, abs=1e-3)


def test_images_of_a_batch_are_independent(family):
    outputs = made_up_outputs(family.name, seed=4)
    together = family.decode(outputs, INPUT_HW, 0.5)
    for image in range(BATCH):
        (alone,) = family.decode({k: v[image : image + 1] for k, v in outputs.items()}, INPUT_HW, 0.5)
        assert equal(alone, together[image])


def test_nothing_found_is_empty_not_wrong(family):
    outputs = {k: np.zeros_like(v) for k, v in made_up_outputs(family.name).items()}
    for found in family.decode(outputs, INPUT_HW, 0.5):
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.scores.shape == found.class_ids.shape == (0,)
        assert found.landmarks.shape[0] == 0


def test_half_precision_outputs_are_read(family):
    outputs = {k: v.astype(np.float16) for k, v in made_up_outputs(family.name).items()}
    widened = {k: v.astype(np.float32) for k, v in outputs.items()}
    for a, b in zip(family.decode(outputs, INPUT_HW, 0.5), family.decode(widened, INPUT_HW, 0.5), strict=True):
        assert equal(a, b)


def test_a_threshold_is_reached_by_an_equal_score(family):
    outputs = made_up_outputs(family.name)
    found = family.decode(outputs, INPUT_HW, 0.5)[0]
    lowest = float(found.scores.min())
    assert len(family.decode(outputs, INPUT_HW, lowest)[0].scores) == len(found.scores)


def test_outputs_the_decoder_reads_are_those_it_names(family):
    assert set(family.output_names) == set(made_up_outputs(family.name))


def test_a_missing_output_is_named(family):
    for name in family.output_names:
        outputs = made_up_outputs(family.name)
        del outputs[name]
        with pytest.raises(ModelError, match=f"no output '{name}'"):
            family.decode(outputs, INPUT_HW, 0.5)


def test_a_misshaped_output_is_named_with_what_was_expected(family):
    for name in family.output_names:
        outputs = made_up_outputs(family.name)
        for wrong in (outputs[name][:, :-1], outputs[name][..., :0], outputs[name][0]):
            with pytest.raises(ModelError, match=rf"'{name}' has shape .* expected"):
                family.decode(outputs | {name: wrong}, INPUT_HW, 0.5)


def test_batches_of_different_length_are_refused(family):
    outputs = made_up_outputs(family.name)
    name = family.output_names[-1]
    with pytest.raises(ModelError, match="expected"):
        family.decode(outputs | {name: outputs[name][:1]}, INPUT_HW, 0.5)


def test_another_input_size_is_noticed(family):
    with pytest.raises(ModelError, match="expected"):
        family.decode(made_up_outputs(family.name), (96, 96), 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_wherever_they_matter(family, bad):
    for name in family.output_names:
        outputs = made_up_outputs(family.name)
        outputs[name][1] = bad  # every candidate of the second image
        with pytest.raises(ModelError, match="not finite"):
            family.decode(outputs, INPUT_HW, 0.3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_size_that_is_not_finite_is_refused(family, bad):
    name, width = {
        "yunet": ("bbox_8", (..., 2)),
        "yunet-plate": ("bbox_8", (..., 2)),
        "centerface": ("538", (slice(None), 1)),
    }.get(family.name, (family.output_names[0], (..., 2)))
    outputs = made_up_outputs(family.name)
    outputs[name][width] = bad
    with pytest.raises(ModelError, match="boxes that are not finite"):
        family.decode(outputs, INPUT_HW, 0.3)


def test_one_bad_score_below_all_others_is_refused(family):
    name = {"yunet": "cls_16", "yunet-plate": "cls_16", "centerface": "537"}.get(family.name, family.output_names[1])
    outputs = made_up_outputs(family.name)
    outputs[name].reshape(-1)[3] = np.nan
    with pytest.raises(ModelError, match="scores that are not finite"):
        family.decode(outputs, INPUT_HW, 0.99)


def test_a_box_that_overflows_is_refused(family):
    sizes = {"yunet": "bbox_8", "yunet-plate": "bbox_8", "centerface": "538"}.get(family.name, family.output_names[0])
    outputs = made_up_outputs(family.name)
    outputs[sizes][...] = 1e4
    with pytest.raises(ModelError, match="not finite"):
        family.decode(outputs, INPUT_HW, 0.3)


@pytest.mark.parametrize("name", ["centerface", "retinaface", "retinaface-plate"])
def test_scores_that_are_no_probabilities_are_refused(name):
    family = get_family(name)
    outputs = made_up_outputs(name)
    conf = "537" if name == "centerface" else family.output_names[1]
    outputs[conf] *= 5
    with pytest.raises(ModelError, match="last activation"):
        family.decode(outputs, INPUT_HW, 0.3)


def test_unknown_families_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=f"known are {', '.join(sorted(FAMILIES))}"):
        get_family("yolo")


def test_families_are_what_recipes_call_them():
    for name in FAMILIES:
        family = get_family(name)
        assert family.name == name
        assert family.input_spec.size_px or family.input_spec.stride_px % 32 == 0
    assert get_family("yunet") is not get_family("yunet")
