"""The kernel against the segmentation family: the same parts of every class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.detect.components_cuda import ComponentsCuda
from trt_anon.detect.decode_cuda import Status, check_status
from trt_anon.detect.segmentation import Segmentation
from trt_anon.errors import ModelError

STRICT = HostOptions(seed=5, poison=255, check=True)
HW = (96, 160)


def find(family, array, threshold=0.5, capacity=4096, host=None, xp=np, **more):
    kernel = ComponentsCuda(family, host=host)
    outputs = {"map": guarded(array) if xp is np else xp.asarray(array)}
    images = len(array)
    out = {
        "boxes_xyxy": xp.full((images, capacity, 4), -7, np.float32),
        "scores": xp.full((images, capacity), -7, np.float32),
        "class_ids": xp.full((images, capacity), -7, np.int32),
        "counts": xp.full(images, -7, np.int32),
        "status": xp.full(images, -7, np.int32),
        "workspace": xp.full(kernel.workspace_words(outputs), -7, np.int32),
    }
    kernel.batch(outputs, HW, threshold, **out, **more)
    return {name: array if xp is np else array.get() for name, array in out.items()}


def rows_of(boxes, scores, class_ids):
    return sorted(zip(class_ids.tolist(), map(tuple, boxes.tolist()), scores.tolist(), strict=True))


def assert_same(found, wanted, tolerance=0.0):
    assert not found["status"].any()
    for image, want in enumerate(wanted):
        n = len(want.scores)
        assert found["counts"][image] == n
        have = rows_of(*(found[key][image, :n] for key in ("boxes_xyxy", "scores", "class_ids")))
        want_rows = rows_of(want.boxes_xyxy, want.scores, want.class_ids)
        assert [row[:2] for row in have] == [row[:2] for row in want_rows]
        np.testing.assert_allclose([r[2] for r in have], [r[2] for r in want_rows], rtol=0, atol=tolerance)
        assert (found["scores"][image, n:] == -7).all()


def blobs(rng, images, classes, height, width, density):
    """Random maps of few values, some smooth, so that parts are large and small, with holes and touching corners."""
    maps = rng.random((images, classes, height, width))
    for _ in range(int(rng.integers(0, 3))):
        maps = (maps + np.roll(maps, 1, 2) + np.roll(maps, 1, 3)) / 3
    limit = np.quantile(maps, 1 - density) if maps.size else 0
    return np.where(maps >= limit, 0.5 + np.round(maps * 20) / 41, 0.3).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([(1, 1), (1, 40), (33, 1), (7, 9), (40, 56)]),
    st.sampled_from([0.0, 0.02, 0.3, 0.55, 1.0]),
    st.sampled_from([1, 3]),
    st.sampled_from(["nchw", "nhwc", "first", "last"]),
    st.sampled_from([None, STRICT]),
)
def test_the_same_parts(seed, images, classes, size, density, min_cells, layout, host):
    rng = np.random.default_rng(seed)
    maps = blobs(rng, images, classes, *size, density)
    options = {"classes": classes, "min_cells": min_cells}
    if layout in ("first", "last"):
        background = np.full((images, 1, *size), 0.1, np.float32)
        maps = np.concatenate((background, maps) if layout == "first" else (maps, background), axis=1)
        options["background"] = layout
    elif layout == "nhwc":
        maps, options["layout"] = np.ascontiguousarray(maps.transpose(0, 2, 3, 1)), "nhwc"
    family = Segmentation(**options)
    assert_same(find(family, maps, host=host), family.decode({"map": maps}, HW, 0.5))


def spiral(size):
    """One part whose root is as far from its end as can be."""
    mask, (y, x), (dy, dx) = np.zeros((size, size), bool), (0, 0), (0, 1)
    mask[0, 0] = True
    while True:
        for _ in range(2):
            ahead = [(y + k * dy, x + k * dx) for k in (1, 2)]
            inside = [0 <= a < size and 0 <= b < size for a, b in ahead]
            if inside[0] and not (inside[1] and mask[ahead[1]]):
                break
            dy, dx = dx, -dy
        else:
            return mask
        y, x = y + dy, x + dx
        if mask[y, x]:
            return mask
        mask[y, x] = True


@pytest.mark.parametrize("seed", range(5))
def test_a_long_way_to_the_root(seed):
    mask = np.stack([spiral(41), spiral(41)[::-1], spiral(41)[:, ::-1], spiral(41).T])
    maps = mask[:, None].astype(np.float32)
    found = find(Segmentation(), maps, host=HostOptions(seed=seed + 1, poison=255))
    assert_same(found, Segmentation().decode({"map": maps}, HW, 0.5))
    assert list(found["counts"]) == [1, 1, 1, 1]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_the_graph_left_to_do(activation, dtype):
    rng = np.random.default_rng(2)
    maps = rng.normal(0, 2, (2, 3, 30, 40)).astype(dtype)
    family = Segmentation(classes=2, background="first", activation=activation)
    assert_same(find(family, maps, host=STRICT), family.decode({"map": maps}, HW, 0.5), 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize("background", ["first", "none"])
@pytest.mark.parametrize("axis", [False, True])
def test_labels(dtype, background, axis):
    labels = np.random.default_rng(3).integers(0, 5, (2, 24, 31)).astype(dtype)
    labels = labels[:, None] if axis else labels
    family = Segmentation(classes=3, background=background, layout="labels")
    assert_same(find(family, labels, host=STRICT), family.decode({"map": labels}, HW, 0.5))


def check_overflow(xp, host):
    rng = np.random.default_rng(4)
    maps = np.where(rng.random((3, 2, 50, 60)) < 0.05, 0.5 + rng.integers(0, 6, (3, 2, 50, 60)) / 12, 0.1)
    maps[1] = 0
    family, capacity = Segmentation(classes=2), 40
    factors = rng.uniform(0.3, 3, (3, 2))
    everything = find(family, maps.astype(np.float32), host=host, xp=xp)
    found = find(family, maps.astype(np.float32), capacity=capacity, host=host, xp=xp, factors_xy=xp.asarray(factors))
    assert list(found["counts"]) == list(everything["counts"])
    assert list(found["status"]) == [Status.CANDIDATES_DROPPED, 0, Status.CANDIDATES_DROPPED]
    for image in (0, 2):
        n = everything["counts"][image]
        keep = np.sort(np.argsort(-everything["scores"][image, :n], kind="stable")[:capacity])
        assert np.array_equal(found["scores"][image], everything["scores"][image, keep])
        assert np.array_equal(found["class_ids"][image], everything["class_ids"][image, keep])
        boxes = everything["boxes_xyxy"][image, keep].astype(np.float64) / np.tile(factors[image], 2)
        assert np.array_equal(found["boxes_xyxy"][image], boxes.astype(np.float32))
    check_status("segmentation", found["status"])


@pytest.mark.parametrize("host", [None, STRICT])
def test_what_does_not_fit_is_counted_and_the_best_stay(host):
    check_overflow(np, host)


@pytest.mark.gpu
def test_on_a_gpu(cupy):
    check_overflow(cupy, None)


def test_parts_come_by_class_then_by_their_first_cell():
    maps = np.zeros((1, 2, 6, 8), np.float32)
    maps[0, 0, 2, 1] = maps[0, 0, 0, 6] = maps[0, 1, 0, 0] = 1
    maps[0, 0, 1:4, 3] = 1
    found = find(Segmentation(classes=2), maps, class_map=guarded(np.array([4, 2], np.int32)))
    unit = np.array([HW[1] / 8, HW[0] / 6] * 2)
    cells = [(6, 0, 7, 1), (3, 1, 4, 4), (1, 2, 2, 3), (0, 0, 1, 1)]
    assert found["counts"][0] == 4
    assert np.array_equal(found["boxes_xyxy"][0, :4], np.array(cells) * unit)
    assert list(found["class_ids"][0, :4]) == [4, 4, 4, 2]
    only = find(Segmentation(classes=2), maps, class_map=guarded(np.array([-1, 0], np.int32)))
    assert only["counts"][0] == 1
    assert np.array_equal(only["boxes_xyxy"][0, 0], np.array(cells[3]) * unit)


@pytest.mark.parametrize(
    ("options", "value", "flag"),
    [
        ({"classes": 2}, np.nan, Status.NOT_FINITE),
        ({"classes": 2}, 1.2, Status.NOT_A_PROBABILITY),
        ({"classes": 2, "activation": "sigmoid"}, -np.inf, Status.NOT_FINITE),
        ({"classes": 1, "background": "first"}, np.nan, Status.NOT_FINITE),
    ],
)
def test_a_broken_map_is_an_error_and_spoils_no_other(options, value, flag):
    family = Segmentation(**options)
    maps = blobs(np.random.default_rng(5), 3, 2, 20, 30, 0.3)
    good = family.decode({"map": maps}, HW, 0.6)
    maps[1, 0, 19, 29] = value
    with pytest.raises(ModelError):
        family.decode({"map": maps}, HW, 0.6)
    found = find(family, maps, 0.6, host=STRICT)
    assert list(found["status"]) == [0, flag, 0]
    assert found["counts"][1] == 1
    assert np.isnan(found["scores"][1, 0])
    assert [found["counts"][i] for i in (0, 2)] == [len(good[i].scores) for i in (0, 2)]
    with pytest.raises(ModelError):
        check_status(family.name, found["status"])


def test_labels_must_be_whole_numbers():
    labels = np.ones((1, 4, 4), np.float32)
    labels[0, 2, 2] = 0.5
    assert find(Segmentation(layout="labels"), labels)["status"][0] == Status.WRONG_CLASS


def test_one_launch_and_wrong_arguments():
    accounting = Accounting()
    kernel = ComponentsCuda(Segmentation(), accounting=accounting)
    outputs = {"map": np.ones((2, 1, 8, 8), np.float32)}
    out = {
        "boxes_xyxy": np.zeros((2, 4, 4), np.float32),
        "scores": np.zeros((2, 4), np.float32),
        "class_ids": np.zeros((2, 4), np.int32),
        "counts": np.zeros(2, np.int32),
        "status": np.zeros(2, np.int32),
        "workspace": np.zeros(kernel.workspace_words(outputs), np.int32),
    }
    kernel.batch(outputs, HW, 0.5, **out)
    assert accounting.by_kernel["components"].launches == 1
    for change, message in (
        ({"boxes_xyxy": np.zeros((2, 0, 4), np.float32)}, "at least one candidate"),
        ({"scores": np.zeros((2, 5), np.float32)}, "scores: expected"),
        ({"class_map": np.zeros(2, np.int32)}, "class_map: expected"),
        ({"factors_xy": np.zeros((2, 2), np.float32)}, "factors: expected"),
        ({"workspace": np.zeros(1, np.int32)}, "workspace: expected at least"),
    ):
        with pytest.raises(ValueError, match=message):
            kernel.batch(outputs, HW, 0.5, **(out | change))
    with pytest.raises(ModelError, match="no output of the expected shape"):
        kernel.batch({"map": np.ones((2, 3, 8, 8), np.float32)}, HW, 0.5, **out)


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("model", "options", "side"),
    [("sinet_softmax_seg", {"background": "first"}, 320), ("prismanet_unet_seg", {"activation": "sigmoid"}, 256)],
)
def test_real_maps(data_dir: Path, model, options, side):
    import onnxruntime
    from PIL import Image

    picture = Image.open(data_dir / "data/faces/unlabelled/bus.jpg").convert("RGB").resize((side, side))
    tensor = (np.asarray(picture, np.float32) / 255).transpose(2, 0, 1)[None]
    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(data_dir / "models" / f"{model}.onnx"), session_options, providers=["CPUExecutionProvider"]
    )
    (maps,) = session.run(None, {session.get_inputs()[0].name: tensor})
    family = Segmentation(**options)
    for threshold in (0.5, 0.55):
        wanted = family.decode({"map": maps}, HW, threshold)
        assert_same(find(family, maps, threshold), wanted, 1e-6)
        assert len(wanted[0].scores)
