"""Tables of the YOLO families: raw heads, and rows that the graph has decoded."""

from __future__ import annotations

from collections.abc import Sequence

from trt_anon.detect.heads import Formula, Head, Scheme, Shapes, Size, View, parts, scheme_of
from trt_anon.detect.outputs import Floats
from trt_anon.detect.schemes_rows import box_scale, row_head
from trt_anon.detect.yolo import BoxFormat, Pairs, grids_of, read_heads, read_output, row_count
from trt_anon.detect.yolo_face import YoloV5Face, YoloV8Face
from trt_anon.detect.yolov3 import YoloV3
from trt_anon.detect.yolov5 import YoloV5
from trt_anon.detect.yolov8 import YoloV8, read_rows
from trt_anon.detect.yolox import YoloX


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
    formula: Formula,
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
    head = row_head(shapes, boxes, scores, objectness, None if marks is None else marks[0])
    return Scheme(
        (head,),
        "corners" if box_format == "xyxy" else "centre_size",
        classes=family.classes,
        score_columns=family.classes,
        multi_label=getattr(family, "multi_label", False),
        box_scale=box_scale(getattr(family, "normalised", False), input_hw_px),
        marks=0 if marks is None else marks[1],
        mark_step=2 if marks is None else marks[2],
    )


def _first(family: YoloV3 | YoloV5 | YoloV5Face | YoloX) -> str | None:
    return family.outputs[0] if family.outputs else None
