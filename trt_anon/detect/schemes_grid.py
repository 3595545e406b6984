"""Tables of the families with grids or priors of their own: from YuNet to SCRFD."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from trt_anon.detect.blazeface import LANDMARKS as BLAZEFACE_LANDMARKS
from trt_anon.detect.blazeface import BlazeFace
from trt_anon.detect.centerface import LANDMARKS as CENTERFACE_LANDMARKS
from trt_anon.detect.centerface import STRIDE_PX as CENTERFACE_STRIDE_PX
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.heads import Head, Scheme, Shapes, Size, View, parts, scheme_of
from trt_anon.detect.lpd_yunet import PRIOR_SIDES_PX, STRIDES, VALUES, LpdYuNet
from trt_anon.detect.outputs import Floats, cells, take_output
from trt_anon.detect.retinaface import STRIDES as RETINAFACE_STRIDES
from trt_anon.detect.retinaface import RetinaFace
from trt_anon.detect.scrfd import Scrfd
from trt_anon.detect.yolo import grids_of
from trt_anon.detect.yunet import STRIDES as YUNET_STRIDES
from trt_anon.detect.yunet import YuNet


@scheme_of.register
def _(family: YuNet, shapes: Shapes, input_hw_px: Size) -> Scheme:
    heads = []
    for stride in YUNET_STRIDES:
        rows, columns = cells(input_hw_px, stride)
        cls, obj, bbox, kps = (
            take_output(shapes.arrays, f"{kind}_{stride}", (rows * columns, size), family.name)
            for kind, size in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 2 * family.landmarks))
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
        marks=family.landmarks,
        around_marks=family.around_marks,
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
