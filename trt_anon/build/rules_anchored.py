"""How detectors with priors, anchor points or heatmaps, made for faces and plates, are recognised by their outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from trt_anon.build.inspect import Seen
from trt_anon.build.match import STRIDE_SETS, Match, Rule, by_last, in_unit, names_differ, ranked, strides_of_rows
from trt_anon.detect.blazeface import BlazeFace
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.families import get_family
from trt_anon.detect.lpd_yunet import LpdYuNet
from trt_anon.detect.yolo import grids_of
from trt_anon.detect.yunet import STRIDES, YuNet, YuNetPlate


def yunet(seen: Seen) -> Iterator[Match]:
    """The names are the file format here: cls, obj, bbox and kps of strides 8, 16, 32; plates have four points."""
    shown = {name: array.shape[-1] for name, array in seen.outputs.items() if name in YuNet.output_names and array.ndim}
    for family in (YuNet, YuNetPlate):
        widths = (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 2 * family.landmarks))
        if shown == {f"{kind}_{stride}": width for kind, width in widths for stride in STRIDES}:
            yield Match(family.name, 1)


def centerface(seen: Seen) -> Iterator[Match]:
    """Four maps of stride 4."""
    grid = grids_of(seen.hw_px, (4,))[0]
    names = [name for name, array in ranked(seen.outputs, 4).items() if array.shape[2:] == grid]
    widths = [seen.outputs[name].shape[1] for name in names]
    if len(names) != len(seen.outputs) or sorted(widths) != [1, 2, 2, 10]:
        return
    scale, offset = (name for name, width in zip(names, widths, strict=True) if width == 2)
    order = (names[widths.index(1)], scale, offset, names[widths.index(10)])
    usual = CenterFace().outputs
    notes = (
        ()
        if order == usual
        else (f"of the two maps of two channels, {scale!r} is taken for sizes, {offset!r} for offsets",)
    )
    yield Match("centerface", 1, names_differ(order, usual), notes)


def retinaface(seen: Seen) -> Iterator[Match]:
    """Boxes, probabilities and landmarks of two priors in each cell."""
    if len(seen.outputs) != 3:
        return
    boxes, scores = by_last(seen.outputs, 3, 4), by_last(seen.outputs, 3, 2)
    for family, width in (("retinaface", 10), ("retinaface-plate", 8)):
        points = by_last(seen.outputs, 3, width)
        if len(boxes) == len(scores) == len(points) == 1:
            names = (boxes[0], scores[0], points[0])
            counts = {seen.outputs[name].shape[1] for name in names}
            if len(counts) == 1 and strides_of_rows(counts.pop(), seen.hw_px, 2) == (8, 16, 32):
                notes = ("prior boxes are not in the graph: those published with the family are taken",)
                yield Match(family, 1, names_differ(names, get_family(family).output_names), notes)


def lpd_yunet(seen: Seen) -> Iterator[Match]:
    """14 values, two probabilities and one overlap of every prior."""
    for rank in (2, 3):
        found = [by_last(seen.outputs, rank, width) for width in (14, 2, 1)]
        if len(seen.outputs) == 3 and all(len(names) == 1 for names in found):
            names = tuple(name for (name,) in found)
            if len({seen.outputs[name].shape[:-1] for name in names}) == 1:
                yield Match("lpd-yunet", 1, names_differ(names, LpdYuNet().outputs))


def scrfd(seen: Seen) -> Iterator[Match]:
    """For each stride a score, four distances and mostly ten landmark values of every anchor."""
    rank = next(iter({array.ndim for array in seen.outputs.values()})) if seen.outputs else 0
    kinds = [by_last(seen.outputs, rank, width) for width in (1, 4, 10)]
    levels = len(kinds[0])
    if rank not in (2, 3) or sum(map(len, kinds)) != len(seen.outputs) or len(kinds[1]) != levels or levels < 2:
        return
    if len(kinds[2]) not in (0, levels):
        return
    for strides in STRIDE_SETS:
        for anchors in (1, 2):
            counts = [anchors * rows * columns for rows, columns in grids_of(seen.hw_px, strides)]
            ordered = []
            for names in kinds:
                have = {seen.outputs[name].shape[-2]: name for name in names}
                if names and Counter(have) != Counter(dict.fromkeys(counts, "")) and sorted(have) != sorted(counts):
                    break
                ordered += [have[count] for count in counts] if names else []
            else:
                options: dict[str, object] = {} if strides == (8, 16, 32) else {"strides_px": strides}
                options |= {} if anchors == 2 else {"anchors": anchors}
                options |= {} if kinds[2] else {"landmarks": 0}
                scored = all(in_unit(seen.outputs[name]) for name in kinds[0])
                options |= {} if scored else {"activation": "sigmoid"}
                usual = get_family("scrfd", options).output_names
                yield Match("scrfd", 1, options | names_differ(tuple(ordered), usual))


def blazeface(seen: Seen) -> Iterator[Match]:
    """16 values and a logit of every anchor point."""
    boxes, scores = by_last(seen.outputs, 3, 16), by_last(seen.outputs, 3, 1)
    if len(seen.outputs) != 2 or len(boxes) != 1 or len(scores) != 1:
        return
    count = seen.outputs[boxes[0]].shape[1]
    # MediaPipe's short-range model, its back-camera model of twice the size, and its full-range one.
    for layers, anchors in (((8, 16, 16, 16), 2), ((16, 32, 32, 32), 2), ((4,), 1)):
        grids = grids_of(seen.hw_px, layers)
        if seen.outputs[scores[0]].shape[1] == count == anchors * sum(h * w for h, w in grids):
            options: dict[str, object] = {} if layers == BlazeFace().layer_strides_px else {"layer_strides_px": layers}
            options |= {} if anchors == 2 else {"anchors_per_layer": anchors}
            yield Match("blazeface", 1, options | names_differ((boxes[0], scores[0]), BlazeFace().outputs))


RULES = (
    Rule(("yunet", "yunet-plate"), "cls_S, obj_S, bbox_S and kps_S for S of 8, 16, 32, by these names", yunet),
    Rule(("centerface",), "maps of 1, 2, 2 and 10 channels, a quarter of the input's size", centerface),
    Rule(
        ("retinaface", "retinaface-plate"),
        "(N, A, 4), (N, A, 2) and (N, A, 10), for plates (N, A, 8), A two priors for each cell of strides 8, 16, 32",
        retinaface,
    ),
    Rule(("lpd-yunet",), "(A, 14), (A, 2) and (A, 1), with or without a batch axis", lpd_yunet),
    Rule(("scrfd",), "for each stride (A, 1), (A, 4) and mostly (A, 10), with or without a batch axis", scrfd),
    Rule(("blazeface",), "(N, A, 16) and (N, A, 1)", blazeface),
)
"""The rules of families for faces and plates."""

DEFAULT_CLASSES = {
    **dict.fromkeys(("yunet", "centerface", "retinaface", "scrfd", "blazeface", "yolov5-face", "yolov8-face"), "face"),
    **dict.fromkeys(("retinaface-plate", "lpd-yunet", "yunet-plate"), "license_plate"),
}
"""What families of one purpose find."""
