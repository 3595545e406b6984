"""The table of each family that the kernel of `decode.cu` decodes; a family's own file says what its outputs mean."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from typing import Any

from trt_anon.detect.base import Family
from trt_anon.detect.blazeface import LANDMARKS as BLAZEFACE_LANDMARKS
from trt_anon.detect.blazeface import BlazeFace
from trt_anon.detect.centerface import LANDMARKS as CENTERFACE_LANDMARKS
from trt_anon.detect.centerface import STRIDE_PX as CENTERFACE_STRIDE_PX
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.corners import CornerFormat
from trt_anon.detect.detr import Detr
from trt_anon.detect.heads import Head, Scheme, Shapes, View, parts
from trt_anon.detect.lpd_yunet import PRIOR_SIDES_PX, STRIDES, VALUES, LpdYuNet
from trt_anon.detect.nms_ended import EfficientNms
from trt_anon.detect.options import WithInput
from trt_anon.detect.outputs import Floats, cells, take_output
from trt_anon.detect.retinaface import STRIDES as RETINAFACE_STRIDES
from trt_anon.detect.retinaface import RetinaFace
from trt_anon.detect.scores import column_count
from trt_anon.detect.scrfd import Scrfd
from trt_anon.detect.ssd import Ssd
from trt_anon.detect.two_stage import TwoStage
from trt_anon.detect.yolo import BoxFormat, Pairs, grids_of, read_heads, read_output, row_count
from trt_anon.detect.yolo_e2e import YoloEndToEnd
from trt_anon.detect.yolo_face import YoloV5Face, YoloV8Face
from trt_anon.detect.yolov3 import YoloV3
from trt_anon.detect.yolov5 import YoloV5
from trt_anon.detect.yolov8 import YoloV8, read_rows
from trt_anon.detect.yolox import YoloX
from trt_anon.detect.yunet import LANDMARKS as YUNET_LANDMARKS
from trt_anon.detect.yunet import STRIDES as YUNET_STRIDES
from trt_anon.detect.yunet import YuNet
from trt_anon.errors import UsageError

Size = tuple[int, int]


@singledispatch
def scheme_of(family: Family, shapes: Shapes, input_hw_px: Size) -> Scheme:
    """The table for outputs of these shapes and an input of (height, width) pixels.

    Raises ModelError where the family would refuse the shapes, UsageError for a family without a table: masks and their
    outlines, and outputs whose rows belong to images as other outputs say, are decoded on the host.
    """
    raise UsageError(f"no kernel decodes family {family.name!r}: decode it on the host")


@scheme_of.register
def _(family: WithInput, shapes: Shapes, input_hw_px: Size) -> Scheme:
    return scheme_of(family.family, shapes, input_hw_px)


@scheme_of.register
def _(family: YuNet, shapes: Shapes, input_hw_px: Size) -> Scheme:
    heads = []
    for stride in YUNET_STRIDES:
        rows, columns = cells(input_hw_px, stride)
        cls, obj, bbox, kps = (
            take_output(shapes.arrays, f"{kind}_{stride}", (rows * columns, size), family.name)
            for kind, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 2 * YUNET_LANDMARKS))
        )
        xy, wh = parts(bbox, 2, 2)
        heads.append(
            Head(
                rows * columns,
                columns,
                shapes.rows(cls),
                shapes.rows(xy),
                shapes.rows(wh),
                objectness=shapes.rows(obj),
                marks=shapes.rows(kps),
                stride=stride,
                mark_scale=stride,
                mark_unit=stride,
            )
        )
    return Scheme(
        tuple(heads),
        "cell_exp",
        geometric=True,
        scores_are_probabilities=False,
        objectness_is_probability=False,
        marks=YUNET_LANDMARKS,
    )


@scheme_of.register
def _(family: CenterFace, shapes: Shapes, input_hw_px: Size) -> Scheme:
    rows, columns = cells(input_hw_px, CENTERFACE_STRIDE_PX)
    heat, scale, offset, marks = (
        shapes.grid(
            take_output(shapes.arrays, name, (size, rows, columns), family.name)[:, None].transpose(0, 1, 3, 4, 2)
        )
        for name, size in zip(family.output_names, (1, 2, 2, 2 * CENTERFACE_LANDMARKS), strict=True)
    )
    head = Head(rows * columns, columns, heat, offset, scale, marks=marks, stride=CENTERFACE_STRIDE_PX, cell_offset=0.5)
    return Scheme((head,), "cell_exp", swapped=True, marks=CENTERFACE_LANDMARKS, marks_of="box")


@scheme_of.register
def _(family: RetinaFace, shapes: Shapes, input_hw_px: Size) -> Scheme:
    grids = grids_of(input_hw_px, RETINAFACE_STRIDES)
    levels = [rows * columns * len(pair) for (rows, columns), pair in zip(grids, family.prior_sides_px, strict=True)]
    loc_name, conf_name, landms_name = family.output_names
    loc = take_output(shapes.arrays, loc_name, (sum(levels), 4), family.name)
    conf = take_output(shapes.arrays, conf_name, (sum(levels), 2), family.name, len(loc))
    landms = take_output(shapes.arrays, landms_name, (sum(levels), 2 * family.landmarks), family.name, len(loc))
    heads = _prior_heads(shapes, grids, RETINAFACE_STRIDES, family.prior_sides_px, conf, None, loc, landms)
    return Scheme(
        heads, "prior", score_columns=2, first_class=1, anchors_last=True, marks=family.landmarks, marks_of="anchor"
    )


@scheme_of.register
def _(family: LpdYuNet, shapes: Shapes, input_hw_px: Size) -> Scheme:
    grids = [(input_hw_px[0] // stride, input_hw_px[1] // stride) for stride in STRIDES]
    priors = sum(rows * columns * len(sides) for (rows, columns), sides in zip(grids, PRIOR_SIDES_PX, strict=True))
    loc = family.take(shapes.arrays, 0, priors, VALUES, None)
    conf = family.take(shapes.arrays, 1, priors, 2, len(loc))
    iou = family.take(shapes.arrays, 2, priors, 1, len(loc))
    heads = _prior_heads(shapes, grids, STRIDES, PRIOR_SIDES_PX, conf, iou, loc, loc[..., 4:])
    return Scheme(
        heads,
        "prior",
        score_columns=2,
        first_class=1,
        geometric=True,
        objectness_is_probability=False,
        anchors_last=True,
        marks=4,
        mark_gap=2,
        marks_of="anchor",
        around_marks=True,
    )


def _prior_heads(
    shapes: Shapes,
    grids: Sequence[Size],
    strides_px: Sequence[int],
    sides_px: Sequence[Sequence[int]],
    scores: Floats,
    objectness: Floats | None,
    boxes: Floats,
    marks: Floats,
) -> tuple[Head, ...]:
    """Heads that follow each other in the rows (N, A, k) of each output, with prior squares."""
    heads = []
    ends = itertools.accumulate(
        (rows * columns * len(sides) for (rows, columns), sides in zip(grids, sides_px, strict=True)), initial=0
    )
    for (rows, columns), stride, sides, (start, stop) in zip(
        grids, strides_px, sides_px, itertools.pairwise(ends), strict=True
    ):
        count = len(sides)

        def part(array: Floats, start: int = start, stop: int = stop, count: int = count) -> View:
            return shapes.rows(array[:, start:stop], count)

        heads.append(
            Head(
                rows * columns,
                columns,
                part(scores),
                part(boxes[..., :2]),
                part(boxes[..., 2:4]),
                objectness=None if objectness is None else part(objectness),
                marks=part(marks),
                anchors=count,
                anchor_sizes=tuple((side, side) for side in sides),
                stride=stride,
                cell_offset=0.5,
                mark_scale=stride,
                mark_offset=0.5,
                mark_unit=0.1,
            )
        )
    return tuple(heads)


@scheme_of.register
def _(family: BlazeFace, shapes: Shapes, input_hw_px: Size) -> Scheme:
    groups = [(stride, len(list(layers))) for stride, layers in itertools.groupby(family.layer_strides_px)]
    grids = grids_of(input_hw_px, [stride for stride, _ in groups])
    counts = [family.anchors_per_layer * layers for _, layers in groups]
    ends = list(itertools.accumulate((r * c * n for (r, c), n in zip(grids, counts, strict=True)), initial=0))
    regressors = take_output(shapes.arrays, family.outputs[0], (ends[-1], 4 + 2 * BLAZEFACE_LANDMARKS), family.name)
    logits = take_output(shapes.arrays, family.outputs[1], (ends[-1], 1), family.name, len(regressors))
    heads = []
    for (rows, columns), (stride, _), count, (start, stop) in zip(
        grids, groups, counts, itertools.pairwise(ends), strict=True
    ):
        xy, wh, marks = parts(regressors[:, start:stop], 2, 2, 2 * BLAZEFACE_LANDMARKS)
        heads.append(
            Head(
                rows * columns,
                columns,
                shapes.rows(logits[:, start:stop], count),
                shapes.rows(xy, count),
                shapes.rows(wh, count),
                marks=shapes.rows(marks, count),
                anchors=count,
                stride=stride,
                cell_offset=0.5,
                mark_scale=stride,
                mark_offset=0.5,
            )
        )
    return Scheme(
        tuple(heads),
        "point",
        activation="sigmoid",
        scores_are_probabilities=False,
        anchors_last=True,
        marks=BLAZEFACE_LANDMARKS,
    )


@scheme_of.register
def _(family: Scrfd, shapes: Shapes, input_hw_px: Size) -> Scheme:
    levels = len(family.strides_px)
    heads = []
    batch: int | None = None
    for level, stride in enumerate(family.strides_px):
        rows, columns = cells(input_hw_px, stride)
        count = rows * columns * family.anchors
        names = family.output_names[level::levels]
        sizes = (1, 4, 2 * family.landmarks)[: len(names)]
        arrays = []
        for name, size in zip(names, sizes, strict=True):
            arrays.append(family.take(shapes.arrays, name, (count, size), batch))
            batch = len(arrays[0])
        views = [shapes.rows(array, family.anchors) for array in arrays]
        heads.append(
            Head(
                rows * columns,
                columns,
                views[0],
                views[1],
                views[1],
                marks=views[2] if family.landmarks else None,
                anchors=family.anchors,
                stride=stride,
                mark_scale=stride,
                mark_unit=stride,
            )
        )
    return Scheme(
        tuple(heads),
        "sides",
        activation=family.activation,
        scores_are_probabilities=family.activation == "none",
        anchors_last=True,
        marks=family.landmarks,
    )


# ---- YOLO: raw heads, and rows that the graph has decoded ------------------------------------------------------------


@scheme_of.register
def _(family: YoloV3, shapes: Shapes, input_hw_px: Size) -> Scheme:
    if family.form == "raw":
        return _anchor_heads(family, "anchor_exp", family.anchors_of_heads, family.scale_x_y, 5, shapes, input_hw_px)
    anchors = [len(mask) for mask in family.masks] if family.strides_px else None
    count = row_count(input_hw_px, family.strides_px, anchors)
    if family.form == "split":
        boxes, scores = family.read_split(shapes.arrays, count)
        return _decoded(family, shapes, input_hw_px, boxes, None, scores)
    rows = read_output(shapes.arrays, _first(family), (count, 5 + family.classes), family.name)
    return _decoded(family, shapes, input_hw_px, rows, rows[..., 4:5], rows[..., 5:])


@scheme_of.register
def _(family: YoloV5, shapes: Shapes, input_hw_px: Size) -> Scheme:
    if family.form == "raw":
        return _anchor_heads(family, "anchor_square", family.anchors_px, (), 5, shapes, input_hw_px)
    count = row_count(input_hw_px, family.strides_px, [len(anchors) for anchors in family.anchors_px])
    rows = read_output(shapes.arrays, _first(family), (count, 5 + family.classes), family.name)
    return _decoded(family, shapes, input_hw_px, rows, rows[..., 4:5], rows[..., 5:])


@scheme_of.register
def _(family: YoloV5Face, shapes: Shapes, input_hw_px: Size) -> Scheme:
    end = 5 + 2 * family.landmarks
    if family.form == "raw":
        return _anchor_heads(family, "anchor_square", family.anchors_px, (), end, shapes, input_hw_px)
    count = row_count(input_hw_px, family.strides_px, [len(anchors) for anchors in family.anchors_px])
    rows = read_output(shapes.arrays, _first(family), (count, end + family.classes), family.name)
    marks = rows[..., 5:end], family.landmarks, 2
    return _decoded(family, shapes, input_hw_px, rows, rows[..., 4:5], rows[..., end:], marks)


def _anchor_heads(
    family: YoloV3 | YoloV5 | YoloV5Face,
    formula: Any,
    anchors_px: Sequence[Pairs],
    stretches: Sequence[float],
    classes_from: int,
    shapes: Shapes,
    input_hw_px: Size,
) -> Scheme:
    """Raw heads of x, y, w, h, objectness, landmarks if there is room for them, classes."""
    grids = grids_of(input_hw_px, family.strides_px)
    counts = [len(anchors) for anchors in anchors_px]
    channels = [classes_from + family.classes] * len(grids)
    arrays = read_heads(shapes.arrays, family.outputs, grids, counts, channels, family.layout, family.name)
    marks = (classes_from - 5) // 2
    heads = []
    for array, (rows, columns), stride, stretch, anchors in zip(
        arrays, grids, family.strides_px, stretches or (1.0,) * len(grids), anchors_px, strict=True
    ):
        xy, wh, objectness, points, classes = parts(array, 2, 2, 1, 2 * marks, family.classes)
        heads.append(
            Head(
                rows * columns,
                columns,
                shapes.grid(classes),
                shapes.grid(xy),
                shapes.grid(wh),
                objectness=shapes.grid(objectness),
                marks=shapes.grid(points) if marks else None,
                anchors=len(anchors),
                anchor_sizes=anchors,
                stride=stride,
                stretch=stretch,
                mark_scale=stride,
            )
        )
    return Scheme(
        tuple(heads),
        formula,
        classes=family.classes,
        score_columns=family.classes,
        activation="none" if family.activated else "sigmoid",
        scores_are_probabilities=family.activated,
        objectness_is_probability=family.activated,
        multi_label=getattr(family, "multi_label", False),
        marks=marks,
        marks_of="anchor",
    )


@scheme_of.register
def _(family: YoloV8, shapes: Shapes, input_hw_px: Size) -> Scheme:
    if family.form == "decoded":
        channels = 4 + family.classes + family.extra_channels
        rows = read_rows(
            shapes.arrays,
            family.outputs,
            channels,
            family.layout == "npc",
            family.strides_px,
            input_hw_px,
            family.name,
        )
        return _decoded(family, shapes, input_hw_px, rows, None, rows[..., 4 : 4 + family.classes])
    pairs = family.read_raw(shapes.arrays, input_hw_px)
    views = [(shapes.grid(sides[:, None]), shapes.grid(classes[:, None]), None) for sides, classes in pairs]
    return _side_heads(family, family.multi_label, views, 0, 2, input_hw_px)


@scheme_of.register
def _(family: YoloV8Face, shapes: Shapes, input_hw_px: Size) -> Scheme:
    sides = 4 if family.form == "decoded" else 4 * family.reg_max
    sizes = sides, family.classes, family.landmarks * family.landmark_values
    if family.form == "decoded":
        transposed = family.layout == "npc"
        rows = read_rows(
            shapes.arrays, family.outputs, sum(sizes), transposed, family.strides_px, input_hw_px, family.name
        )
        boxes, classes, marks = parts(rows, *sizes)
        points = marks, family.landmarks, family.landmark_values
        return _decoded(family, shapes, input_hw_px, boxes, None, classes, points)
    grids = grids_of(input_hw_px, family.strides_px)
    arrays = read_heads(
        shapes.arrays,
        family.outputs,
        grids,
        [1] * len(grids),
        [sum(sizes)] * len(grids),
        "nhwc" if family.layout == "nhwc" else "nchw",
        family.name,
    )
    views = []
    for array in arrays:
        side_values, classes, marks = parts(array, *sizes)
        views.append((shapes.grid(side_values), shapes.grid(classes), shapes.grid(marks)))
    return _side_heads(family, False, views, family.landmarks, family.landmark_values, input_hw_px)


def _side_heads(
    family: YoloV8 | YoloV8Face,
    multi_label: bool,
    views: Sequence[tuple[View, View, View | None]],
    marks: int,
    mark_step: int,
    input_hw_px: Size,
) -> Scheme:
    """Raw heads of distributions of the four sides, classes, and perhaps landmarks."""
    heads = tuple(
        Head(
            rows * columns,
            columns,
            classes,
            sides,
            sides,
            marks=points,
            stride=stride,
            cell_offset=0.5,
            mark_scale=stride,
            mark_unit=2 * stride,
        )
        for (sides, classes, points), (rows, columns), stride in zip(
            views, grids_of(input_hw_px, family.strides_px), family.strides_px, strict=True
        )
    )
    return Scheme(
        heads,
        "sides",
        classes=family.classes,
        score_columns=family.classes,
        activation="none" if family.activated else "sigmoid",
        scores_are_probabilities=family.activated,
        multi_label=multi_label,
        reg_max=family.reg_max,
        marks=marks,
        mark_step=mark_step,
    )


@scheme_of.register
def _(family: YoloX, shapes: Shapes, input_hw_px: Size) -> Scheme:
    count = row_count(input_hw_px, family.strides_px)
    rows = read_output(shapes.arrays, _first(family), (count, 5 + family.classes), family.name)
    if family.form == "decoded":
        return _decoded(family, shapes, input_hw_px, rows, rows[..., 4:5], rows[..., 5:])
    heads = []
    start = 0
    for (grid_rows, columns), stride in zip(grids_of(input_hw_px, family.strides_px), family.strides_px, strict=True):
        stop = start + grid_rows * columns
        xy, wh, objectness, classes = map(shapes.rows, parts(rows[:, start:stop], 2, 2, 1, family.classes))
        heads.append(Head(stop - start, columns, classes, xy, wh, objectness=objectness, stride=stride))
        start = stop
    return Scheme(
        tuple(heads),
        "cell_exp",
        classes=family.classes,
        score_columns=family.classes,
        activation="none" if family.activated else "sigmoid",
        scores_are_probabilities=family.activated,
        objectness_is_probability=family.activated,
        multi_label=family.multi_label,
    )


def _decoded(
    family: YoloV3 | YoloV5 | YoloV5Face | YoloV8 | YoloV8Face | YoloX,
    shapes: Shapes,
    input_hw_px: Size,
    boxes: Floats,
    objectness: Floats | None,
    scores: Floats,
    marks: tuple[Floats, int, int] | None = None,
) -> Scheme:
    """Rows of boxes whose scores are final; marks: the values, how many landmarks, and values of each."""
    box_format: BoxFormat = getattr(family, "box_format", "cxcywh")
    head = _row_head(shapes, boxes, scores, objectness, None if marks is None else marks[0])
    return Scheme(
        (head,),
        "corners" if box_format == "xyxy" else "centre_size",
        classes=family.classes,
        score_columns=family.classes,
        multi_label=getattr(family, "multi_label", False),
        box_scale=_box_scale(getattr(family, "normalised", False), input_hw_px),
        marks=0 if marks is None else marks[1],
        mark_step=2 if marks is None else marks[2],
    )


def _row_head(
    shapes: Shapes, boxes: Floats, scores: Floats, objectness: Floats | None = None, marks: Floats | None = None
) -> Head:
    count = boxes.shape[1]
    xy, wh = parts(boxes, 2, 2)
    return Head(
        count,
        max(1, count),
        shapes.rows(scores),
        shapes.rows(xy),
        shapes.rows(wh),
        objectness=None if objectness is None else shapes.rows(objectness),
        marks=None if marks is None else shapes.rows(marks),
    )


def _box_scale(normalised: bool, input_hw_px: Size) -> tuple[float, float]:
    return (float(input_hw_px[1]), float(input_hw_px[0])) if normalised else (1.0, 1.0)


def _first(family: YoloV3 | YoloV5 | YoloV5Face | YoloX | YoloEndToEnd) -> str | None:
    return family.outputs[0] if family.outputs else None


# ---- Rows of boxes and scores, and detections that the graph has finished --------------------------------------------


@scheme_of.register(Ssd)
@scheme_of.register(Detr)
def _(family: Ssd | Detr, shapes: Shapes, input_hw_px: Size) -> Scheme:
    columns = column_count(family.classes, family.background)
    scores_name, boxes_name = family.outputs
    scores = take_output(shapes.arrays, scores_name, (None, columns), family.name)
    boxes = take_output(shapes.arrays, boxes_name, (scores.shape[1], 4), family.name, len(scores))
    return Scheme(
        (_row_head(shapes, boxes, scores),),
        "corners" if family.box_format == "xyxy" else "centre_size",
        classes=family.classes,
        score_columns=columns,
        first_class=1 if family.background == "first" else 0,
        activation=family.activation,
        scores_are_probabilities=family.activation == "none",
        multi_label=True,
        box_scale=_box_scale(family.normalised, input_hw_px),
        distinct=isinstance(family, Detr),
    )


@scheme_of.register
def _(family: YoloEndToEnd, shapes: Shapes, input_hw_px: Size) -> Scheme:
    rows = read_output(shapes.arrays, _first(family), (None, 6 + family.extra_channels), family.name)
    return Scheme(
        (_row_head(shapes, rows, rows[..., 4:5]),),
        "corners" if family.box_format == "xyxy" else "centre_size",
        classes=family.classes,
        box_scale=_box_scale(family.normalised, input_hw_px),
        labels=shapes.rows(rows[..., 5:6]),
        distinct=True,
    )


@scheme_of.register
def _(family: EfficientNms, shapes: Shapes, input_hw_px: Size) -> Scheme:
    count_name, boxes_name, scores_name, classes_name = family.outputs
    boxes = take_output(shapes.arrays, boxes_name, (None, 4), family.name)
    batch, most, _ = boxes.shape
    counts = take_output(shapes.arrays, count_name, (1,), family.name, batch)
    scores = take_output(shapes.arrays, scores_name, (most,), family.name, batch)
    labels = take_output(shapes.arrays, classes_name, (most,), family.name, batch)
    return _finished(family, family.corner_format, shapes, input_hw_px, boxes, scores, labels, filled=counts)


@scheme_of.register
def _(family: TwoStage, shapes: Shapes, input_hw_px: Size) -> Scheme:
    boxes_name, labels_name, scores_name = family.outputs[:3]
    ghosts = shapes.arrays
    if len(family.outputs) == 4:
        raise UsageError(f"no kernel decodes family {family.name!r} with images in one row: decode it on the host")
    if boxes_name in ghosts and ghosts[boxes_name].ndim == 2:  # one image without a batch axis
        flat = {name: ghosts[name][None] for name in family.outputs if name in ghosts}
        ghosts = flat
    boxes = take_output(ghosts, boxes_name, (None, 4), family.name)
    batch, count, _ = boxes.shape
    labels = take_output(ghosts, labels_name, (count,), family.name, batch)
    scores = take_output(ghosts, scores_name, (count,), family.name, batch)
    return _finished(
        family, family.corner_format, shapes, input_hw_px, boxes, scores, labels, family.label_offset, drops=True
    )


def _finished(
    family: EfficientNms | TwoStage,
    corner_format: CornerFormat,
    shapes: Shapes,
    input_hw_px: Size,
    boxes: Floats,
    scores: Floats,
    labels: Floats,
    label_offset: int = 0,
    drops: bool = False,
    filled: Floats | None = None,
) -> Scheme:
    """Detections (N, K) with a class each."""
    return Scheme(
        (_row_head(shapes, boxes, scores[..., None]),),
        "centre_size" if corner_format == "cxcywh" else "corners",
        classes=family.classes,
        swapped=corner_format == "yxyx",
        sorted_corners=True,
        box_scale=_box_scale(family.normalised, input_hw_px),
        labels=shapes.rows(labels[..., None]),
        label_offset=label_offset,
        drops_labels=drops,
        filled=None if filled is None else shapes.rows(filled[..., None]),
        distinct=True,
    )


DECODABLE: Mapping[type, Callable[..., Scheme]] = {
    kind: make for kind, make in scheme_of.registry.items() if kind is not object
}
"""The families with a table, by their class."""
