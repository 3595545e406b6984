"""The kernel against every family's own decode: the same candidates, in the same order."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions, guarded
from trt_anon.detect import decode_cuda
from trt_anon.detect.base import Candidates, Family
from trt_anon.detect.blazeface import BlazeFace
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.decode_cuda import BROKEN, MAX_IMAGES, TOLERANCE, DecodeCuda, Status, check_status
from trt_anon.detect.detr import Detr
from trt_anon.detect.families import FAMILIES, get_family
from trt_anon.detect.heads import Shapes
from trt_anon.detect.lpd_yunet import LpdYuNet
from trt_anon.detect.nms_ended import EfficientNms
from trt_anon.detect.outputs import cells
from trt_anon.detect.schemes import scheme_of
from trt_anon.detect.scrfd import Scrfd
from trt_anon.detect.ssd import Ssd
from trt_anon.detect.two_stage import TwoStage
from trt_anon.detect.yolo_e2e import YoloEndToEnd
from trt_anon.detect.yolo_face import YoloV5Face, YoloV8Face
from trt_anon.detect.yolov3 import YoloV3, yolov4
from trt_anon.detect.yolov5 import YoloV5
from trt_anon.detect.yolov8 import YoloV8
from trt_anon.detect.yolox import YoloX
from trt_anon.detect.yunet import YuNet, YuNetPlate
from trt_anon.errors import ModelError, UsageError

STRICT = HostOptions(seed=11, poison=255, check=True)
Outputs = dict[str, np.ndarray]


@dataclasses.dataclass
class Maker:
    """Random outputs; `share` of the scores is high enough to be candidates."""

    rng: np.random.Generator
    batch: int
    share: float
    hw: tuple[int, int]

    def probability(self, *shape: int) -> np.ndarray:
        low = self.rng.uniform(0, 0.4, (self.batch, *shape))
        return np.where(self.rng.random(low.shape) < self.share, low + 0.58, low).astype(np.float32)

    def logit(self, *shape: int) -> np.ndarray:
        p = np.clip(self.probability(*shape), 1e-3, 1 - 1e-3)
        return np.log(p / (1 - p)).astype(np.float32)

    def value(self, *shape: int) -> np.ndarray:
        return self.rng.normal(0, 0.8, (self.batch, *shape)).astype(np.float32)

    def pixels(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0, max(self.hw), (self.batch, *shape)).astype(np.float32)

    def unit(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0, 1, (self.batch, *shape)).astype(np.float32)

    def grids(self, strides: tuple[int, ...] = (8, 16, 32)) -> list[tuple[int, int, int]]:
        return [(*cells(self.hw, stride), stride) for stride in strides]

    def cells(self, strides: tuple[int, ...] = (8, 16, 32), anchors: int = 1) -> int:
        return sum(rows * columns for rows, columns, _ in self.grids(strides)) * anchors


def last(*arrays: np.ndarray) -> np.ndarray:
    return np.concatenate(arrays, axis=-1)


def yunet(marks: int) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        made: Outputs = {}
        for rows, columns, s in m.grids():
            n = rows * columns
            made |= {f"cls_{s}": m.probability(n, 1) * 1.2, f"obj_{s}": m.probability(n, 1) + 0.2}
            made |= {f"bbox_{s}": m.value(n, 4), f"kps_{s}": m.value(n, 2 * marks)}
        return made

    return make


def centerface(m: Maker) -> Outputs:
    h, w = cells(m.hw, 4)
    return {"537": m.probability(1, h, w), "538": m.value(2, h, w), "539": m.value(2, h, w), "540": m.value(10, h, w)}


def retinaface(marks: int, *names: str) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        n = m.cells(anchors=2)
        return dict(zip(names, (m.value(n, 4), m.probability(n, 2), m.value(n, 2 * marks)), strict=True))

    return make


def lpd(m: Maker) -> Outputs:
    n = sum((m.hw[0] // s) * (m.hw[1] // s) * k for s, k in zip((8, 16, 32, 64), (3, 2, 2, 3), strict=True))
    return {"loc": m.value(n, 14), "conf": m.probability(n, 2), "iou": m.probability(n, 1) * 1.3}


def blazeface(m: Maker) -> Outputs:
    n = cells(m.hw, 8)[0] * cells(m.hw, 8)[1] * 2 + cells(m.hw, 16)[0] * cells(m.hw, 16)[1] * 6
    return {"regressors": m.value(n, 16) * 30, "classificators": m.logit(n, 1)}


def scrfd(marks: int, activated: bool = True) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        made: Outputs = {}
        for rows, columns, s in m.grids():
            n = rows * columns * 2
            made |= {f"score_{s}": (m.probability if activated else m.logit)(n, 1), f"bbox_{s}": m.value(n, 4) + 2}
            made |= {f"kps_{s}": m.value(n, 2 * marks)} if marks else {}
        return made

    return make


def raw_heads(layout: str, classes: int, marks: int = 0, activated: bool = False) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        made: Outputs = {}
        score = m.probability if activated else m.logit
        for rows, columns, s in m.grids():
            grid = (3, rows, columns)
            values = m.unit(*grid, 4) if activated else m.value(*grid, 4)
            head = last(values, score(*grid, 1), m.value(*grid, 2 * marks), score(*grid, classes))
            axes = {"nahwc": (0, 1, 2, 3, 4), "nachw": (0, 1, 4, 2, 3), "nhwac": (0, 2, 3, 1, 4)}
            if layout == "nchw":
                head = head.transpose(0, 1, 4, 2, 3).reshape(m.batch, 3 * head.shape[-1], rows, columns)
            elif layout == "nhwc":
                head = head.transpose(0, 2, 3, 1, 4).reshape(m.batch, rows, columns, 3 * head.shape[-1])
            else:
                head = head.transpose(axes[layout])
            made[f"head_{s}"] = np.ascontiguousarray(head)
        return made

    return make


def decoded(objectness: bool, classes: int, anchors: int = 1, marks: int = 0, transposed: bool = False, unit=False):
    def make(m: Maker) -> Outputs:
        n = m.cells(anchors=anchors)
        parts = [m.unit(n, 4) if unit else m.pixels(n, 4)]
        if objectness:
            parts.append(m.probability(n, 1))
            parts.append(m.pixels(n, 2 * marks))
        parts.append(m.probability(n, classes))
        rows = last(*parts)
        return {"output": np.ascontiguousarray(rows.transpose(0, 2, 1)) if transposed else rows}

    return make


def dfl(
    classes: int, reg_max: int = 16, nhwc: bool = False, split: bool = False, marks: int = 0, values: int = 3, extra=0
) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        made: Outputs = {}
        for rows, columns, s in m.grids():
            sides, scores = m.value(rows, columns, 4 * reg_max) + 1, m.logit(rows, columns, classes)
            rest = m.value(rows, columns, marks * values + extra)
            heads = {"a": sides, "b": scores} if split else {"a": last(sides, scores, rest)}
            for name, head in heads.items():
                made[f"{name}_{s}"] = head if nhwc else np.ascontiguousarray(head.transpose(0, 3, 1, 2))
        return made

    return make


def end_to_end(classes: int, extra: int = 0) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        labels = m.rng.integers(0, classes, (m.batch, 300, 1)).astype(np.float32)
        return {"output": last(m.pixels(300, 4), m.probability(300, 1), labels, m.value(300, extra))}

    return make


def pairs(scores_name: str, boxes_name: str, columns: int, logits: bool) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        n = max(1, m.cells((16,)))
        return {scores_name: (m.logit if logits else m.probability)(n, columns), boxes_name: m.unit(n, 4)}

    return make


def finished(offset: int, filled: bool) -> Callable[[Maker], Outputs]:
    def make(m: Maker) -> Outputs:
        labels = m.rng.integers(0, 4 + offset, (m.batch, 100)).astype(np.int64 if offset else np.int32)
        if filled:
            count = m.rng.integers(0, 101, (m.batch, 1)).astype(np.int32)
            names = ("det_boxes", "det_scores", "det_classes")
            return {"num_dets": count} | dict(zip(names, (m.pixels(100, 4), m.probability(100), labels), strict=True))
        return {"boxes": m.pixels(100, 4), "labels": labels, "scores": m.probability(100)}

    return make


V5 = {"anchors_px": YoloV5().anchors_px}
CASES: Mapping[str, tuple[Family, Callable[[Maker], Outputs]]] = {
    "yunet": (YuNet(), yunet(5)),
    "yunet-plate": (YuNetPlate(), yunet(4)),
    "centerface": (CenterFace(), centerface),
    "retinaface": (get_family("retinaface"), retinaface(5, "output0", "output1", "output2")),
    "retinaface-plate": (get_family("retinaface-plate"), retinaface(4, "loc", "conf", "landms")),
    "lpd-yunet": (LpdYuNet(), lpd),
    "blazeface": (BlazeFace(), blazeface),
    "scrfd": (Scrfd(), scrfd(5)),
    "scrfd-bare": (Scrfd(landmarks=0, activation="sigmoid"), scrfd(0, activated=False)),
    "yolov3": (YoloV3(classes=3), raw_heads("nchw", 3)),
    "yolov3-multi": (YoloV3(classes=20, layout="nhwc", multi_label=True), raw_heads("nhwc", 20)),
    "yolov3-decoded": (YoloV3(classes=3, form="decoded", normalised=True), decoded(True, 3, 3, unit=True)),
    "yolov3-split": (
        YoloV3(classes=3, form="split", strides_px=(), box_format="xyxy", outputs=("boxes", "scores")),
        pairs("scores", "boxes", 3, logits=False),
    ),
    "yolov4": (dataclasses.replace(yolov4(), classes=2, activated=True), raw_heads("nchw", 2, activated=True)),
    "yolov5": (YoloV5(classes=12), decoded(True, 12, 3)),
    "yolov5-raw": (YoloV5(classes=9, form="raw"), raw_heads("nahwc", 9)),
    "yolov5-activated": (
        YoloV5(classes=1, form="raw", layout="nachw", activated=True),
        raw_heads("nachw", 1, activated=True),
    ),
    "yolov5-face": (YoloV5Face(), raw_heads("nahwc", 1, 5)),
    "yolov5-face-nhwac": (YoloV5Face(layout="nhwac", landmarks=3), raw_heads("nhwac", 1, 3)),
    "yolov5-face-decoded": (YoloV5Face(form="decoded"), decoded(True, 1, 3, 5)),
    "yolov8": (YoloV8(classes=80), decoded(False, 80, transposed=True)),
    "yolov8-multi": (YoloV8(classes=40, layout="npc", multi_label=True), decoded(False, 40)),
    "yolov8-raw": (YoloV8(classes=5, form="raw", extra_channels=2), dfl(5, extra=2)),
    "yolov8-split": (YoloV8(classes=35, form="raw_split", layout="nhwc", reg_max=1), dfl(35, 1, True, True)),
    "yolov8-face": (YoloV8Face(), dfl(1, marks=5)),
    "yolov8-face-nhwc": (YoloV8Face(layout="nhwc", landmark_values=2), dfl(1, nhwc=True, marks=5, values=2)),
    "yolox": (YoloX(classes=7), decoded(True, 7, unit=True)),
    "yolox-raw-logits": (YoloX(classes=2, activated=False), decoded(True, 2, unit=True)),
    "yolo-e2e": (YoloEndToEnd(classes=6, extra_channels=2), end_to_end(6, 2)),
    "ssd": (Ssd(), pairs("scores", "boxes", 2, logits=False)),
    "ssd-softmax": (Ssd(classes=20, activation="softmax"), pairs("scores", "boxes", 21, logits=True)),
    "rt-detr": (Detr(classes=4), pairs("logits", "pred_boxes", 4, logits=True)),
    "detr": (
        Detr(name="detr", classes=9, activation="softmax", background="last"),
        pairs("logits", "pred_boxes", 10, logits=True),
    ),
    "efficient-nms": (EfficientNms(classes=4), finished(0, filled=True)),
    "efficient-nms-cxcywh": (EfficientNms(classes=4, corner_format="cxcywh"), finished(0, filled=True)),
    "torchvision": (TwoStage(classes=5, corner_format="yxyx", normalised=True), finished(1, filled=False)),
}
EXACT = {"yolov3-decoded", "yolov3-split", "yolov5", "yolov5-face-decoded", "yolov8", "yolov8-multi", "yolo-e2e", "ssd"}
EXACT |= {"efficient-nms", "efficient-nms-cxcywh", "torchvision", "scrfd"}

KERNELS = {name: (DecodeCuda(family), DecodeCuda(family, host=STRICT)) for name, (family, _) in CASES.items()}


def assert_same(found: Candidates, wanted: Candidates, exact: bool) -> None:
    assert len(found.scores) == len(wanted.scores)
    assert np.array_equal(found.class_ids, wanted.class_ids)
    assert found.distinct == wanted.distinct
    assert (found.landmarks is None) == (wanted.landmarks is None)
    arrays = [(found.boxes_xyxy, wanted.boxes_xyxy), (found.scores, wanted.scores)]
    if found.landmarks is not None:
        arrays.append((found.landmarks, wanted.landmarks))
    for have, want in arrays:
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        if exact or not len(want):
            assert np.array_equal(have, want)
        else:
            tolerance = TOLERANCE * np.maximum(1, np.abs(want).reshape(len(want), -1).max(axis=1, initial=0))
            difference = np.abs(have.astype(np.float64) - want).reshape(len(want), -1).max(axis=1, initial=0)
            assert (difference <= tolerance).all()


def outputs_of(name: str, seed: int, batch: int, share: float, hw: tuple[int, int]) -> Outputs:
    return CASES[name][1](Maker(np.random.default_rng(seed), batch, share, hw))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_same_candidates(name, strict):
    hw = (64, 96) if strict else (128, 224)
    outputs = outputs_of(name, 5, 3, 0.25, hw)
    wanted = CASES[name][0].decode(outputs, hw, 0.5)
    assert any(len(one.scores) for one in wanted), "the case proves nothing"
    if strict:
        outputs = {key: guarded(array) for key, array in outputs.items()}
    found = KERNELS[name][strict].decode(outputs, hw, 0.5)
    assert len(found) == len(wanted)
    for have, want in zip(found, wanted, strict=True):
        assert_same(have, want, name in EXACT)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(CASES)),
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from([0.0, 0.002, 0.2, 1.0]),
    st.sampled_from([(8, 8), (32, 64), (72, 40), (160, 96)]),
    st.sampled_from([0.3, 0.5, 0.99]),
    st.booleans(),
)
def test_any_batch_of_any_size(name, seed, batch, share, hw, threshold, strict):
    family = CASES[name][0]
    outputs = outputs_of(name, seed, batch, share, hw)
    try:
        wanted = family.decode(outputs, hw, threshold)
    except ModelError as error:
        assume("two heads have the same shape" not in str(error))
        raise
    # A score that rounding may put on either side of the threshold proves nothing.
    near = family.decode(outputs, hw, threshold - 1e-5), family.decode(outputs, hw, threshold + 1e-5)
    assume(name in EXACT or all(len(a.scores) == len(b.scores) for a, b in zip(*near, strict=True)))
    found = KERNELS[name][strict].decode(outputs, hw, threshold)
    assert len(found) == len(wanted) == batch
    for have, want in zip(found, wanted, strict=True):
        assert_same(have, want, name in EXACT)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["yolov8", "yolov8-multi", "yolov8-split", "ssd-softmax", "yolov3-multi"])
def test_blocks_that_take_several_rounds(name, seed, monkeypatch):
    monkeypatch.setattr(decode_cuda, "WANTED_BLOCKS", 1)
    family, hw = CASES[name][0], (160, 96)
    host = HostOptions(seed=seed, poison=255)
    many = {
        "ssd-softmax": lambda m: {"scores": 1.5 * m.logit(700, 21), "boxes": m.unit(700, 4)},
    }.get(name, CASES[name][1])
    outputs = many(Maker(np.random.default_rng(seed), 2, 0.3, hw))
    kernel = DecodeCuda(family, host=host)
    wanted = family.decode(outputs, hw, 0.35)
    for have, want in zip(kernel.decode(outputs, hw, 0.35), wanted, strict=True):
        assert_same(have, want, name in EXACT)
    assert any(len(want.scores) for want in wanted)


def test_every_family_has_a_table_or_says_that_it_has_none():
    without = {"yolo-seg", "segmentation", "onnx-nms"}
    with_one = {type(family).__name__ for family, _ in CASES.values()}
    for name in FAMILIES:
        family = get_family(name)
        if name in without:
            with pytest.raises(UsageError, match=f"no kernel decodes family '{name}': decode it on the host"):
                scheme_of(family, Shapes({"x": (1, 6, 7)}), (64, 64))
        elif name != "faster-rcnn":  # two-stage with other names
            assert type(family).__name__ in with_one
    flat = TwoStage(outputs=("boxes", "labels", "scores", "images"), batch=2)
    with pytest.raises(UsageError, match="images in one row"):
        scheme_of(flat, Shapes({"boxes": (3, 4)}), (64, 64))
    many = YoloV5(form="raw", classes=1, strides_px=(8,), anchors_px=(((4, 4),) * 9,))
    with pytest.raises(UsageError, match="at most 8 anchors"):
        scheme_of(many, Shapes({"head": (1, 9, 8, 8, 6)}), (64, 64))


def test_a_changed_input_changes_nothing():
    family = get_family("yunet", input_overrides={"pad_value": 3})
    outputs = outputs_of("yunet", 1, 1, 0.2, (64, 64))
    kernel = DecodeCuda(family)
    assert (kernel.name, kernel.input_spec, kernel.output_names) == ("yunet", family.input_spec, family.output_names)
    assert_same(kernel.decode(outputs, (64, 64), 0.5)[0], YuNet().decode(outputs, (64, 64), 0.5)[0], False)


@pytest.mark.parametrize("name", ["yunet", "yolov8", "yolov5-face", "ssd-softmax", "retinaface"])
def test_half_precision_outputs(name):
    outputs = {key: array.astype(np.float16) for key, array in outputs_of(name, 3, 2, 0.3, (64, 96)).items()}
    wanted = CASES[name][0].decode(outputs, (64, 96), 0.5)
    for have, want in zip(KERNELS[name][True].decode(outputs, (64, 96), 0.5), wanted, strict=True):
        assert_same(have, want, name in EXACT)


def test_every_half_is_read_as_it_is():
    bits = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    rows = np.stack((bits, -bits, bits, bits), axis=-1).reshape(1, -1, 4)
    outputs = {"scores": np.ones((1, len(bits), 2), np.float16), "boxes": rows}
    family = Ssd(normalised=False)
    (found,) = DecodeCuda(family).decode(outputs, (64, 64), 0.5)
    assert np.array_equal(found.boxes_xyxy, rows[0].astype(np.float32))


def test_an_output_without_a_batch_axis_is_one_image():
    outputs = {k: v[0] for k, v in outputs_of("scrfd", 2, 1, 0.2, (64, 64)).items()}
    assert_same(*(f.decode(outputs, (64, 64), 0.5)[0] for f in (DecodeCuda(Scrfd()), Scrfd())), exact=True)
    flat = {k: v.reshape(-1, v.shape[2]) for k, v in outputs_of("lpd-yunet", 2, 3, 0.2, (64, 64)).items()}
    for have, want in zip(
        DecodeCuda(LpdYuNet()).decode(flat, (64, 64), 0.5), LpdYuNet().decode(flat, (64, 64), 0.5), strict=True
    ):
        assert_same(have, want, exact=False)
    single = {k: v[0] for k, v in outputs_of("torchvision", 2, 1, 0.2, (64, 64)).items()}
    family = CASES["torchvision"][0]
    assert_same(*(f.decode(single, (64, 64), 0.5)[0] for f in (DecodeCuda(family), family)), exact=True)


# ---- Batches in buffers of the caller --------------------------------------------------------------------------------


def buffers(
    xp: Any, kernel: DecodeCuda, outputs: Mapping[str, Any], hw: tuple[int, int], capacity: int
) -> dict[str, Any]:
    scheme = kernel.scheme(outputs, hw)
    batch = len(next(iter(outputs.values())))
    made = {
        "boxes_xyxy": xp.full((batch, capacity, 4), -7, np.float32),
        "scores": xp.full((batch, capacity), -7, np.float32),
        "class_ids": xp.full((batch, capacity), -7, np.int32),
        "counts": xp.full(batch, -7, np.int32),
        "status": xp.full(batch, -7, np.int32),
        "workspace": xp.zeros(kernel.workspace_words(outputs, hw), np.uint64),
    }
    if scheme.marks:
        made["landmarks"] = xp.full((batch, capacity, scheme.marks, 2), -7, np.float32)
    return made


def best(wanted: Candidates, capacity: int) -> np.ndarray:
    """Indices of what an overflowing list holds: the best, of equal scores the first, in the order they came."""
    return np.sort(np.argsort(-wanted.scores, kind="stable")[:capacity])


def check_overflow(xp: Any, host: HostOptions | None, name: str, capacity: int, hw=(256, 224)) -> None:
    family = CASES[name][0]
    outputs = outputs_of(name, 8, 4, 0.5, hw)
    rng = np.random.default_rng(0)
    if name == "ssd":  # scores of few values: many ties; and an image without candidates
        n = 3000
        outputs = {
            "scores": rng.integers(0, 9, (4, n, 2)).astype(np.float32) / 8,
            "boxes": rng.random((4, n, 4), np.float32),
        }
        outputs["scores"][2] = 0
    kernel = DecodeCuda(family, host=host)
    factors = rng.uniform(0.2, 3, (4, 2))
    out = buffers(xp, kernel, outputs, hw, capacity)
    kernel.batch({k: xp.asarray(v) for k, v in outputs.items()}, hw, 0.5, **out, factors_xy=xp.asarray(factors))
    assert not out["workspace"][:MAX_IMAGES].any()
    found = {k: v if xp is np else v.get() for k, v in out.items()}
    wanted = family.decode(outputs, hw, 0.5)
    for i, want in enumerate(wanted):
        total = len(want.scores)
        assert found["counts"][i] == total
        assert found["status"][i] == (Status.CANDIDATES_DROPPED if total > capacity else 0)
        keep = best(want, capacity)
        n = len(keep)
        assert np.array_equal(found["class_ids"][i, :n], want.class_ids[keep])
        np.testing.assert_allclose(found["scores"][i, :n], want.scores[keep], rtol=0, atol=1e-6)
        upright = (want.boxes_xyxy[keep].astype(np.float64) / np.tile(factors[i], 2)).astype(np.float32)
        if name in EXACT:
            assert np.array_equal(found["boxes_xyxy"][i, :n], upright)
        np.testing.assert_allclose(found["boxes_xyxy"][i, :n], upright, rtol=1e-4, atol=1e-2)
        if want.landmarks is not None:
            marks = want.landmarks[keep] / factors[i]
            np.testing.assert_allclose(found["landmarks"][i, :n], marks, rtol=1e-4, atol=1e-2)
        for array in ("scores", "class_ids", "boxes_xyxy"):
            assert (found[array][i, n:] == -7).all()  # nothing is written behind them
    check_status(name, found["status"])


@pytest.mark.parametrize("host", [None, STRICT, HostOptions(seed=99, poison=0)])
@pytest.mark.parametrize(
    ("name", "capacity"), [("ssd", 1), ("ssd", 100), ("ssd", 700), ("ssd", 5000), ("yunet", 64), ("yolov8-multi", 256)]
)
def test_what_does_not_fit_is_counted_and_the_best_stay(host, name, capacity):
    hw = (256, 224) if host is not STRICT else (96, 64)
    check_overflow(np, host, name, capacity, hw)


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "capacity"), [("ssd", 100), ("ssd", 5000), ("yunet", 64), ("yolov8-multi", 256)])
def test_on_a_gpu(cupy, name, capacity):
    check_overflow(cupy, None, name, capacity)


def test_more_chunks_than_a_block_has_threads():
    rng = np.random.default_rng(1)
    heat = (rng.integers(0, 300, (1, 1, 480, 270)) / 300).astype(np.float32)
    maps = [rng.normal(0, 1, (1, channels, 480, 270)).astype(np.float32) for channels in (2, 2, 10)]
    outputs = dict(zip(("537", "538", "539", "540"), (heat, *maps), strict=True))
    (want,) = CenterFace().decode(outputs, (1920, 1080), 0.9)
    kernel = DecodeCuda(CenterFace())
    for capacity in (20000, 2048):
        out = buffers(np, kernel, outputs, (1920, 1080), capacity)
        kernel.batch(outputs, (1920, 1080), 0.9, **out)
        keep = best(want, capacity)
        assert out["counts"][0] == len(want.scores) > 10000
        assert np.array_equal(out["scores"][0, : len(keep)], want.scores[keep])
        np.testing.assert_allclose(out["boxes_xyxy"][0, : len(keep)], want.boxes_xyxy[keep], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["yolov8", "yolov8-multi", "yolo-e2e", "ssd-softmax"])
def test_classes_are_numbered_anew_and_left_out(name):
    family, outputs = CASES[name][0], outputs_of(name, 4, 3, 0.3, (64, 64))
    kernel = DecodeCuda(family, host=STRICT)
    classes = kernel.scheme(outputs, (64, 64)).classes
    class_map = np.where(np.arange(classes) % 3 == 1, -1, np.arange(classes)[::-1]).astype(np.int32)
    out = buffers(np, kernel, outputs, (64, 64), 5000)
    kernel.batch(outputs, (64, 64), 0.5, **out, class_map=guarded(class_map))
    wanted = family.decode(outputs, (64, 64), 0.5)
    assert any((class_map[want.class_ids] < 0).any() for want in wanted)
    for i, want in enumerate(wanted):
        ids = class_map[want.class_ids]
        assert out["counts"][i] == (ids >= 0).sum()
        assert np.array_equal(out["class_ids"][i, : out["counts"][i]], ids[ids >= 0])
        np.testing.assert_allclose(out["scores"][i, : out["counts"][i]], want.scores[ids >= 0], atol=1e-6)


def break_image(outputs: Outputs, key: str, at: tuple[int, ...], value: float) -> Outputs:
    broken = {name: array.copy() for name, array in outputs.items()}
    broken[key][(1, *at)] = value
    return broken


@pytest.mark.parametrize(
    ("name", "key", "at", "value", "flag"),
    [
        ("yunet", "cls_8", (3, 0), np.nan, Status.NOT_FINITE),
        ("yunet", "obj_32", (0, 0), np.inf, Status.NOT_FINITE),
        ("yunet", "bbox_16", (slice(None), 2), 2e5, Status.NOT_FINITE),  # its exp is infinite
        ("yunet", "kps_8", (slice(None), 9), -np.inf, Status.NOT_FINITE),
        ("yunet-plate", "kps_8", (slice(None), 7), np.nan, Status.NOT_FINITE),
        ("retinaface", "output1", (7, 0), 1.5, Status.NOT_A_PROBABILITY),  # of the background
        ("retinaface", "output0", (slice(None), 3), -np.inf, Status.NOT_FINITE),  # its exp would be 0
        ("centerface", "537", (0, 2, 2), -0.1, Status.NOT_A_PROBABILITY),
        ("lpd-yunet", "conf", (9, 0), 1.2, Status.NOT_A_PROBABILITY),
        ("yolov8", "output", (60, 1), 1.01, Status.NOT_A_PROBABILITY),
        ("yolov8", "output", (83, 1), np.nan, Status.NOT_FINITE),
        ("yolov8-raw", "a_8", (0, slice(None), 1), np.nan, Status.NOT_FINITE),
        ("yolov5", "output", (2, 4), np.nan, Status.NOT_FINITE),
        ("yolov5-raw", "head_8", (1, 1, 1, 6), -np.inf, Status.NOT_FINITE),
        ("ssd-softmax", "scores", (2, 0), np.inf, Status.NOT_FINITE),
        ("ssd-softmax", "scores", (2, 5), np.nan, Status.NOT_FINITE),
        ("yolo-e2e", "output", (slice(None), 5), 6, Status.WRONG_CLASS),
        ("yolo-e2e", "output", (slice(None), 5), 1.5, Status.WRONG_CLASS),
        ("yolo-e2e", "output", (slice(None), 5), -1, Status.WRONG_CLASS),
        ("yolo-e2e", "output", (slice(None), 5), np.nan, Status.NOT_FINITE),
        ("torchvision", "labels", (slice(None),), 9, Status.WRONG_CLASS),
        ("efficient-nms", "num_dets", (0,), 101, Status.WRONG_COUNT),
        ("efficient-nms", "num_dets", (0,), -1, Status.WRONG_COUNT),
    ],
)
def test_a_broken_image_is_an_error_and_spoils_no_other(name, key, at, value, flag):
    hw = (64, 96)
    family, good = CASES[name][0], outputs_of(name, 6, 3, 0.4, hw)
    outputs = break_image(good, key, at, value)
    with pytest.raises(ModelError):
        family.decode(outputs, hw, 0.5)
    with pytest.raises(ModelError, match=f"{family.name}: the model gave"):
        DecodeCuda(family, host=STRICT).decode(outputs, hw, 0.5)
    kernel = DecodeCuda(family, host=STRICT)
    out = buffers(np, kernel, outputs, hw, 4000)
    kernel.batch(outputs, hw, 0.5, **out)
    assert Status(int(out["status"][1])) & BROKEN
    assert flag in Status(int(out["status"][1]))
    assert out["counts"][1] == 1
    assert np.isnan(out["scores"][1, 0])
    for i, want in enumerate(family.decode(good, hw, 0.5)):
        if i != 1:
            assert out["status"][i] == 0
            assert out["counts"][i] == len(want.scores)
            np.testing.assert_allclose(out["scores"][i, : len(want.scores)], want.scores, atol=1e-6)


def test_what_is_no_candidate_may_be_anything_but_its_score():
    outputs = outputs_of("yunet", 6, 1, 0.2, (64, 64))
    for stride in (8, 16, 32):
        low = (outputs[f"cls_{stride}"] * outputs[f"obj_{stride}"])[..., 0] < 0.01
        outputs[f"bbox_{stride}"][low] = np.nan
    assert_same(DecodeCuda(YuNet()).decode(outputs, (64, 64), 0.5)[0], YuNet().decode(outputs, (64, 64), 0.5)[0], False)


def test_a_workspace_serves_batches_of_any_size():
    kernel = DecodeCuda(Ssd())
    workspace = np.zeros(kernel.workspace_words(outputs_of("ssd", 0, 6, 1.0, (256, 256)), (256, 256)), np.uint64)
    for seed, (batch, hw) in enumerate([(6, (256, 256)), (1, (32, 32)), (5, (64, 256)), (6, (256, 256)), (2, (8, 8))]):
        outputs = outputs_of("ssd", seed, batch, 0.5, hw)
        out = buffers(np, kernel, outputs, hw, 300) | {"workspace": workspace}
        kernel.batch(outputs, hw, 0.5, **out)
        for i, want in enumerate(Ssd().decode(outputs, hw, 0.5)):
            assert np.array_equal(out["scores"][i, : out["counts"][i]], want.scores)


def test_one_launch_reads_every_score_once():
    accounting = Accounting()
    kernel = DecodeCuda(YoloV8(classes=80), accounting=accounting)
    outputs = outputs_of("yolov8", 1, 4, 0.01, (160, 160))
    kernel.decode(outputs, (160, 160), 0.5)
    places = 20 * 20 + 10 * 10 + 5 * 5
    chunks = -(-places // 32)
    assert accounting.by_kernel["decode"].launches == 1
    assert accounting.by_kernel["decode"].bytes_moved == 4 * (places * 80 * 4 + 8 * chunks + 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes_xyxy": np.zeros((2, 8, 5), np.float32)}, r"boxes_xyxy: expected float32 \(2, 8, 4\)"),
        ({"boxes_xyxy": np.zeros((2, 0, 4), np.float32)}, "at least one candidate"),
        ({"scores": np.zeros((2, 8), np.float64)}, "scores: expected float32"),
        ({"class_ids": np.zeros((2, 7), np.int32)}, "class_ids: expected"),
        ({"counts": np.zeros(3, np.int32)}, "counts: expected"),
        ({"status": np.zeros(2, np.uint8)}, "status: expected"),
        ({"landmarks": np.zeros((2, 8, 4, 2), np.float32)}, "landmarks: expected float32"),
        ({"factors_xy": np.zeros((2, 2), np.float32)}, "factors: expected float64"),
        ({"class_map": np.zeros(2, np.int32)}, "class_map: expected int32"),
        ({"workspace": np.zeros(1030, np.uint64)}, "workspace: expected at least"),
    ],
)
def test_wrong_arguments(change, message):
    kernel = DecodeCuda(YuNet())
    outputs = outputs_of("yunet", 0, 2, 0.1, (32, 32))
    arguments = buffers(np, kernel, outputs, (32, 32), 8) | change
    with pytest.raises(ValueError, match=message):
        kernel.batch(outputs, (32, 32), 0.5, **arguments)


def test_outputs_are_checked_as_the_family_does():
    outputs = outputs_of("yunet", 0, 2, 0.1, (32, 32))
    kernel = DecodeCuda(YuNet())
    with pytest.raises(ModelError, match="output 'cls_8' has shape"):
        kernel.decode(outputs, (64, 64), 0.5)
    with pytest.raises(ModelError, match="no output 'kps_8'"):
        kernel.decode({k: v for k, v in outputs.items() if k != "kps_8"}, (32, 32), 0.5)
    with pytest.raises(ValueError, match="one of float32, float16, int32, int64, not float64"):
        kernel.decode({k: v.astype(np.float64) for k, v in outputs.items()}, (32, 32), 0.5)


def test_it_is_called_like_the_specification():
    assert inspect.signature(DecodeCuda.decode) == inspect.signature(YuNet.decode)
