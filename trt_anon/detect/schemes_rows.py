"""Tables of rows of boxes and scores, and of detections that the graph has finished."""

from __future__ import annotations

from trt_anon.detect.corners import CornerFormat
from trt_anon.detect.detr import Detr
from trt_anon.detect.heads import Head, Scheme, Shapes, Size, parts, scheme_of
from trt_anon.detect.nms_ended import EfficientNms
from trt_anon.detect.outputs import Floats, take_output
from trt_anon.detect.scores import column_count
from trt_anon.detect.ssd import Ssd
from trt_anon.detect.two_stage import TwoStage
from trt_anon.detect.yolo import read_output
from trt_anon.detect.yolo_e2e import YoloEndToEnd
from trt_anon.errors import UsageError


def row_head(
    shapes: Shapes, boxes: Floats, scores: Floats, objectness: Floats | None = None, marks: Floats | None = None
) -> Head:
    """Rows (N, P, k) of boxes, scores and so on, without a grid."""
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


def box_scale(normalised: bool, input_hw_px: Size) -> tuple[float, float]:
    """What values of boxes are multiplied by: the input's (width, height) where they are shares of it."""
    return (float(input_hw_px[1]), float(input_hw_px[0])) if normalised else (1.0, 1.0)


@scheme_of.register(Ssd)
@scheme_of.register(Detr)
def _(family: Ssd | Detr, shapes: Shapes, input_hw_px: Size) -> Scheme:
    columns = column_count(family.classes, family.background)
    scores_name, boxes_name = family.outputs
    scores = take_output(shapes.arrays, scores_name, (None, columns), family.name)
    boxes = take_output(shapes.arrays, boxes_name, (scores.shape[1], 4), family.name, len(scores))
    return Scheme(
        (row_head(shapes, boxes, scores),),
        "corners" if family.box_format == "xyxy" else "centre_size",
        classes=family.classes,
        score_columns=columns,
        first_class=1 if family.background == "first" else 0,
        activation=family.activation,
        scores_are_probabilities=family.activation == "none",
        multi_label=True,
        box_scale=box_scale(family.normalised, input_hw_px),
        distinct=isinstance(family, Detr),
    )


@scheme_of.register
def _(family: YoloEndToEnd, shapes: Shapes, input_hw_px: Size) -> Scheme:
    rows = read_output(
        shapes.arrays, family.outputs[0] if family.outputs else None, (None, 6 + family.extra_channels), family.name
    )
    return Scheme(
        (row_head(shapes, rows, rows[..., 4:5]),),
        "corners" if family.box_format == "xyxy" else "centre_size",
        classes=family.classes,
        box_scale=box_scale(family.normalised, input_hw_px),
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
        (row_head(shapes, boxes, scores[..., None]),),
        "centre_size" if corner_format == "cxcywh" else "corners",
        classes=family.classes,
        swapped=corner_format == "yxyx",
        sorted_corners=True,
        box_scale=box_scale(family.normalised, input_hw_px),
        labels=shapes.rows(labels[..., None]),
        label_offset=label_offset,
        drops_labels=drops,
        filled=None if filled is None else shapes.rows(filled[..., None]),
        distinct=True,
    )
