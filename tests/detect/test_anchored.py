"""BlazeFace, LPD-YuNet and SCRFD against loops written from their descriptions, and on real pictures."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
from skimage import data

from trt_anon.build.load import load_model
from trt_anon.build.patch import make_dynamic
from trt_anon.detect.families import get_family
from trt_anon.errors import ConfigError, ModelError

HW = {"blazeface": (128, 128), "lpd-yunet": (240, 320), "scrfd": (64, 96)}
COUNTS = {"blazeface": {"": 896}, "lpd-yunet": {"": 4385}, "scrfd": {"8": 192, "16": 48, "32": 12}}
THRESHOLD = {"blazeface": 0.97, "lpd-yunet": 0.93, "scrfd": 0.8}


def made_up(name, seed=0, batch=3):
    rng = np.random.default_rng(seed)

    def put(*shape, low=-1.5, high=1.5):
        return rng.uniform(low, high, (batch, *shape)).astype(np.float32)

    if name == "blazeface":
        return {"regressors": put(896, 16, low=-9, high=30), "classificators": put(896, 1, low=-200, high=6)}
    if name == "lpd-yunet":
        return {
            "loc": put(4385, 14, low=-4, high=4),
            "conf": put(4385, 2, low=0, high=1),
            "iou": put(4385, 1, low=-0.1, high=1.3),
        }
    outputs = {}
    for stride, count in COUNTS["scrfd"].items():
        outputs[f"score_{stride}"] = put(count, 1, low=0, high=1)
        outputs[f"bbox_{stride}"] = put(count, 4, low=-0.2, high=4)
        outputs[f"kps_{stride}"] = put(count, 10)
    return outputs


def loop(name, outputs, image, threshold):
    out = {k: v[image].astype(float) for k, v in outputs.items()}
    found, i = [], 0
    if name == "blazeface":
        # 16x16 points of 2 anchors, then 8x8 points of 6
        for stride, anchors in ((8, 2), (16, 6)):
            for row in range(128 // stride):
                for column in range(128 // stride):
                    for _ in range(anchors):
                        score = 1 / (1 + math.exp(-max(out["classificators"][i, 0], -100)))
                        if score >= threshold:
                            ax, ay, r = (column + 0.5) * stride, (row + 0.5) * stride, out["regressors"][i]
                            cx, cy, w, h = ax + r[0], ay + r[1], r[2], r[3]
                            points = [(ax + r[4 + 2 * k], ay + r[5 + 2 * k]) for k in range(6)]
                            found.append((score, 0, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), points))
                        i += 1
    elif name == "lpd-yunet":
        sides = {8: (10, 16, 24), 16: (32, 48), 32: (64, 96), 64: (128, 192, 256)}
        rows, columns = {8: 30, 16: 15, 32: 7, 64: 3}, {8: 40, 16: 20, 32: 10, 64: 5}
        for stride, squares in sides.items():
            for row in range(rows[stride]):
                for column in range(columns[stride]):
                    for p in squares:
                        score = math.sqrt(out["conf"][i, 1] * min(max(out["iou"][i, 0], 0), 1))
                        if score >= threshold:
                            px, py, v = (column + 0.5) * stride, (row + 0.5) * stride, out["loc"][i]
                            cx, cy = px + v[0] * 0.1 * p, py + v[1] * 0.1 * p
                            w, h = p * math.exp(0.2 * v[2]), p * math.exp(0.2 * v[3])
                            points = [(px + v[k] * 0.1 * p, py + v[k + 1] * 0.1 * p) for k in (4, 6, 10, 12)]
                            xs, ys = [q[0] for q in points], [q[1] for q in points]
                            box = (
                                min(cx - w / 2, *xs),
                                min(cy - h / 2, *ys),
                                max(cx + w / 2, *xs),
                                max(cy + h / 2, *ys),
                            )
                            found.append((score, 0, box, points))
                        i += 1
        assert i == 4385
    else:
        for s in (8, 16, 32):
            i = 0
            for row in range(64 // s):
                for column in range(96 // s):
                    for _ in range(2):
                        score = out[f"score_{s}"][i, 0]
                        if score >= threshold:
                            ax, ay, d, k = column * s, row * s, out[f"bbox_{s}"][i] * s, out[f"kps_{s}"][i] * s
                            points = [(ax + k[2 * j], ay + k[2 * j + 1]) for j in range(5)]
                            found.append((score, 0, (ax - d[0], ay - d[1], ax + d[2], ay + d[3]), points))
                        i += 1
    return found


@pytest.fixture(params=list(HW))
def name(request):
    return request.param


def test_decode_is_the_loop(assert_same, name):
    outputs = made_up(name)
    decoded = get_family(name).decode(outputs, HW[name], THRESHOLD[name])
    assert len(decoded) == 3
    for image, found in enumerate(decoded):
        assert_same(found, loop(name, outputs, image, THRESHOLD[name]))
        assert not found.distinct
        assert found.contours is None


def test_images_of_a_batch_are_independent(name):
    family, outputs = get_family(name), made_up(name, seed=4)
    together = family.decode(outputs, HW[name], THRESHOLD[name])
    for image in range(3):
        (alone,) = family.decode({k: v[image : image + 1] for k, v in outputs.items()}, HW[name], THRESHOLD[name])
        for field in ("boxes_xyxy", "scores", "class_ids", "landmarks"):
            np.testing.assert_array_equal(getattr(alone, field), getattr(together[image], field))


def test_nothing_found_is_empty_not_wrong(name):
    for found in get_family(name).decode(made_up(name), HW[name], 1.5):
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.scores.shape == found.class_ids.shape == (0,)
        assert found.landmarks.shape[0] == 0


def test_half_precision_outputs_are_read(name):
    family = get_family(name)
    outputs = {k: v.astype(np.float16) for k, v in made_up(name).items()}
    widened = {k: v.astype(np.float32) for k, v in outputs.items()}
    for a, b in zip(family.decode(outputs, HW[name], 0.5), family.decode(widened, HW[name], 0.5), strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)


def test_broken_outputs_are_refused(name):
    family, outputs = get_family(name), made_up(name)
    assert set(family.output_names) == set(outputs)
    for key in family.output_names:
        with pytest.raises(ModelError, match=f"no output '{key}'; it has"):
            family.decode({k: v for k, v in outputs.items() if k != key}, HW[name], 0.5)
        for wrong in (outputs[key][:, :-1], outputs[key][..., :0], outputs[key][0, 0]):
            with pytest.raises(ModelError, match=rf"'{key}' has shape .* expected"):
                family.decode(outputs | {key: wrong}, HW[name], 0.5)
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(ModelError, match="not finite"):
                family.decode(outputs | {key: np.full_like(outputs[key], bad)}, HW[name], 0.01)
    with pytest.raises(ModelError, match="expected"):
        family.decode(outputs | {key: outputs[key][:1]}, HW[name], 0.5)
    with pytest.raises(ModelError, match="expected"):
        family.decode(outputs, (256, 256), 0.5)


def test_one_bad_score_below_all_others_is_refused(name):
    key = {"blazeface": "classificators", "lpd-yunet": "iou", "scrfd": "score_16"}[name]
    outputs = made_up(name)
    outputs[key][1, 3] = np.nan
    with pytest.raises(ModelError, match="scores that are not finite"):
        get_family(name).decode(outputs, HW[name], 0.99)


def test_a_plate_that_overflows_is_refused():
    outputs = made_up("lpd-yunet")
    outputs["loc"][..., 2] = 1e4
    with pytest.raises(ModelError, match="boxes that are not finite"):
        get_family("lpd-yunet").decode(outputs, HW["lpd-yunet"], 0.9)


def test_huge_logits_do_not_overflow():
    outputs = made_up("blazeface")
    outputs["classificators"][...] = -1e30
    outputs["classificators"][0, 5] = 1e30
    found = get_family("blazeface").decode(outputs, HW["blazeface"], 0.5)
    assert [len(f.scores) for f in found] == [1, 0, 0]
    assert found[0].scores[0] == 1


def test_plates_without_a_batch_axis(assert_same):
    """As the graph gives them: images one after the other."""
    outputs = made_up("lpd-yunet")
    flat = {k: v.reshape(-1, v.shape[-1]) for k, v in outputs.items()}
    for image, found in enumerate(get_family("lpd-yunet").decode(flat, HW["lpd-yunet"], 0.93)):
        assert_same(found, loop("lpd-yunet", outputs, image, 0.93))
    with pytest.raises(ModelError, match=r"shape \(13154, 14\), expected \(any \* 4385, 14\)"):
        get_family("lpd-yunet").decode(flat | {"loc": flat["loc"][1:]}, HW["lpd-yunet"], 0.9)
    with pytest.raises(ModelError, match=r"expected \(3 \* 4385, 2\)"):
        get_family("lpd-yunet").decode(flat | {"conf": flat["conf"][4385:]}, HW["lpd-yunet"], 0.9)


def test_scrfd_without_batch_axis_landmarks_or_activation(assert_same):
    outputs = made_up("scrfd", batch=1)
    logits = {k: np.log(v / (1 - v)) if "score" in k else v for k, v in outputs.items() if "kps" not in k}
    family = get_family("scrfd", {"landmarks": 0, "activation": "sigmoid"})
    (found,) = family.decode({k: v[0] for k, v in logits.items()}, HW["scrfd"], 0.8)
    assert_same(found, [(*row[:3], None) for row in loop("scrfd", outputs, 0, 0.8)])


def test_scrfd_outputs_by_other_names(assert_same):
    outputs = made_up("scrfd")
    numbered = {k: str(440 + i) for i, k in enumerate(get_family("scrfd").output_names)}
    family = get_family("scrfd", {"outputs": list(numbered.values())})
    found = family.decode({numbered[k]: v for k, v in outputs.items()}, HW["scrfd"], 0.8)
    assert_same(found[1], loop("scrfd", outputs, 1, 0.8))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scrfd", {"outputs": ["a"]}),
        ("scrfd", {"anchors": 0}),
        ("scrfd", {"activation": "softmax"}),
        ("blazeface", {"layer_strides_px": []}),
        ("blazeface", {"anchors_per_layer": 0}),
        ("lpd-yunet", {"outputs": ["a", "a", "b"]}),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options):
    with pytest.raises(ConfigError, match=f"family '{name}'"):
        get_family(name, options)


FACES = [(243, 40, 380, 222), (792, 62, 938, 256)]
EYES_NOSE = [((291, 95), (356, 103), (329, 124)), ((847, 125), (915, 137), (884, 167))]


@pytest.mark.dataset
def test_scrfd_finds_faces(find, assert_covers):
    found = find(get_family("scrfd", {}, {"size_px": (640, 640)}), "scrfd_500m_bnkps_official", "two_people.jpg", 0.5)
    assert len(found) == 2
    assert_covers(found, FACES, 0, 0.7)
    for marks in found.landmarks_px:
        nearest = min(EYES_NOSE, key=lambda known: abs(known[0][0] - marks[0, 0]))
        assert marks[:3] == pytest.approx(np.array(nearest), abs=12)
    many = find(get_family("scrfd", {}, {"size_px": (640, 640)}), "scrfd_500m_bnkps_official", "bald_guys.jpg", 0.5)
    assert len(many) == 24


@pytest.mark.dataset
def test_blazeface_finds_faces(find, assert_covers):
    found = find(get_family("blazeface"), "blazeface_shield", "two_people.jpg", 0.5)
    assert len(found) == 2
    assert_covers(found, FACES, 0, 0.6)
    for marks in found.landmarks_px:  # right and left as the person has them
        nearest = min(EYES_NOSE, key=lambda known: abs(known[0][0] - marks[0, 0]))
        assert marks[:3] == pytest.approx(np.array(nearest), abs=20)


PLATES = {
    "Cars116.jpg": [(149, 218, 267, 247)],
    "Cars143.jpg": [(93, 196, 130, 207), (316, 195, 349, 205)],
    "Cars161.jpg": [(312, 283, 406, 311)],
}
"""The labels that come with the pictures."""


@pytest.mark.dataset
@pytest.mark.parametrize("picture", PLATES)
def test_lpd_yunet_finds_plates(find, assert_covers, picture):
    found = find(get_family("lpd-yunet"), "lpd_yunet_2023mar", f"../../plates/carplate433/images/{picture}", 0.5)
    assert len(found) == len(PLATES[picture])
    assert_covers(found, PLATES[picture], 0, 0.75)
    for box, corners in zip(found.boxes_xyxy_px, found.landmarks_px, strict=True):
        # one corner near each corner of the box, in whatever order
        wanted = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        gaps = np.abs(corners[:, None] - wanted).max(axis=-1)
        assert sorted(gaps.argmin(axis=1)) == [0, 1, 2, 3]
        assert gaps.min(axis=1).max() <= 6


@pytest.mark.dataset
def test_freed_blazeface_and_plates_keep_their_images_apart(data_dir):
    face = data.astronaut()[:, :, ::-1].astype(np.float32)
    for model, name, threshold in (("lpd_yunet_2023mar", "lpd-yunet", 0.01), ("blazeface_shield", "blazeface", 0.3)):
        freed = make_dynamic(load_model(data_dir / "models" / f"{model}.onnx"), size=False)
        session = onnxruntime.InferenceSession(freed.SerializeToString(), providers=["CPUExecutionProvider"])
        names, family = [o.name for o in session.get_outputs()], get_family(name)
        (width, height), spec = family.input_spec.size_px, family.input_spec
        one = (face[:: 512 // height, :: 512 // width][:height, :width] - spec.mean) * spec.scale
        pictures = np.stack((one, one[:, ::-1], one)).transpose(0, 3, 1, 2).astype(np.float32)
        assert pictures.shape == (3, 3, height, width)

        def run(batch, session=session, names=names):
            return dict(zip(names, session.run(None, {session.get_inputs()[0].name: batch}), strict=True))

        together = family.decode(run(pictures), (height, width), threshold)
        assert len(together) == 3
        assert len(together[0].scores) > 0
        assert not np.array_equal(together[0].boxes_xyxy, together[1].boxes_xyxy)
        for image, found in enumerate(together):
            (alone,) = family.decode(run(pictures[image : image + 1]), (height, width), threshold)
            assert found.boxes_xyxy == pytest.approx(alone.boxes_xyxy, abs=1e-2)
            assert found.scores == pytest.approx(alone.scores, abs=1e-4)
