"""How detectors that finish their boxes in the graph, and segmentation maps, are recognised by their outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trt_anon.build.inspect import Seen
from trt_anon.build.match import (
    Array,
    Match,
    Rule,
    box_options,
    by_last,
    in_unit,
    names_differ,
    ranked,
    strides_of_rows,
    sums_to_one,
    whole,
)
from trt_anon.detect.families import get_family

MOST_QUERIES = 1000
_SEGMENTED_FROM = 8  # a map is at least an eighth of the input's size


def scores_and_boxes(seen: Seen) -> Iterator[Match]:
    """(N, P, C) and (N, P, 4): priors of an SSD, or queries of a DETR."""
    three = ranked(seen.outputs, 3)
    boxes = by_last(seen.outputs, 3, 4)
    if len(three) != 2 or len(seen.outputs) != 2 or not boxes:
        return
    if len(boxes) == 2:  # four columns of scores: told apart by name only
        boxes = [name for name in boxes if "box" in name.lower()]
        if len(boxes) != 1:
            return
    (scores_name,) = (name for name in three if name != boxes[0])
    names = (scores_name, boxes[0])
    scores, rows = three[scores_name], three[boxes[0]]
    if scores.shape[1] != rows.shape[1]:
        return
    columns, fits = scores.shape[2], box_options(rows, "xyxy")
    boxed: dict[str, object] = {**fits, "normalised": fits.get("normalised", False)}
    if sums_to_one(scores):
        last = scores[..., -1].mean() > scores[..., 0].mean()
        background = "last" if last else "first"
        note = f"the {background} column of the scores, the larger one in noise, is taken for the background"
        options = boxed | {"background": background} | names_differ(names, ("scores", "boxes"))
        yield Match("ssd", columns - 1, options, (note,))
        return
    if strides_of_rows(scores.shape[1], seen.hw_px, 3):  # decoded YOLOv4 has a rule of its own
        return
    if scores.shape[1] > MOST_QUERIES:
        if in_unit(scores):
            options = boxed | {"background": "none"} | names_differ(names, ("scores", "boxes"))
            yield Match("ssd", columns, options, ("no column of the scores is taken for a background",))
        return
    centred: dict[str, object] = box_options(rows, "cxcywh")
    centred["normalised"] = centred.get("normalised", False)
    named = names_differ(names, ("logits", "pred_boxes"))
    if in_unit(scores):
        yield Match("rt-detr", columns, centred | named | {"activation": "none"})
        return
    yield Match("rt-detr", columns, centred | named)
    if columns > 1:
        yield Match("detr", columns - 1, centred | named)


def finished(seen: Seen) -> Iterator[Match]:
    """Boxes, labels and scores of what was found: (K, 4), (K) and (K), or (N, K, 4), (N, K) and (N, K)."""
    for rank in (2, 3):
        boxes = by_last(seen.outputs, rank, 4)
        flat = ranked(seen.outputs, rank - 1)
        # EfficientNMS and ONNX's own suppression have rules of their own.
        counted = any(a.shape[1:] == (1,) for a in ranked(seen.outputs, 2).values())
        if len(boxes) != 1 or (seen.center_point_boxes is not None and _selected(seen)) or (rank == 3 and counted):
            continue
        rows = {name: array for name, array in flat.items() if array.shape == seen.outputs[boxes[0]].shape[:-1]}
        order = _labels_and_scores(rows)
        if order is None:
            continue
        names = (boxes[0], *order)
        lowered = {name.lower() for name in names}
        if all("detection" in name for name in lowered):  # those of TensorFlow's detection models
            yield Match("torchvision-detection", None, {"outputs": names, "corner_format": "yxyx", "normalised": True})
            continue
        zoo = names == get_family("faster-rcnn").output_names
        if not zoo:
            options = names_differ(names, get_family("torchvision-detection").output_names)
            yield Match(
                "torchvision-detection", None, options, ("labels are taken to start at 1, as torchvision's do",)
            )
        if zoo or (seen.input.layout == "chw" and lowered.isdisjoint(("boxes", "labels", "scores"))):
            yield Match("faster-rcnn", None, names_differ(names, get_family("faster-rcnn").output_names))


def _labels_and_scores(rows: dict[str, Array]) -> tuple[str, str] | None:
    if len(rows) != 2:
        return None
    integers = [name for name, array in rows.items() if array.dtype.kind in "iu"]
    spoken = [name for name in rows if any(word in name.lower() for word in ("label", "class"))]
    shown = [name for name, array in rows.items() if array.size and whole(array) and not in_unit(array)]
    for labels in (integers, spoken, shown):
        if len(labels) == 1:
            return labels[0], next(name for name in rows if name != labels[0])
    return None


def _selected(seen: Seen) -> list[str]:
    """The outputs that are (K, 3) whole numbers, as NonMaxSuppression gives them."""
    return [name for name in by_last(seen.outputs, 2, 3) if seen.outputs[name].dtype.kind in "iu"]


def onnx_nms(seen: Seen) -> Iterator[Match]:
    """NonMaxSuppression's output beside its inputs: (K, 3), (N, P, 4) and (N, C, P)."""
    chosen, boxes = _selected(seen), by_last(seen.outputs, 3, 4)
    if len(chosen) != 1 or seen.center_point_boxes is None:
        return
    for name in boxes:
        others = [
            n for n, a in ranked(seen.outputs, 3).items() if n != name and a.shape[2] == seen.outputs[name].shape[1]
        ]
        if len(others) == 1:
            names = (chosen[0], name, others[0])
            options = names_differ(names, ("selected_indices", "boxes", "scores"))
            normalised = box_options(seen.outputs[name]).get("normalised")
            options |= {"normalised": True} if normalised else {}
            if seen.center_point_boxes:
                yield Match("onnx-nms", seen.outputs[others[0]].shape[1], options | {"corner_format": "cxcywh"})
            else:
                why = "NonMaxSuppression takes corners as xyxy and as yxyx, and does not say which these are"
                yield Match("onnx-nms", seen.outputs[others[0]].shape[1], options, (), {"corner_format": why})


def efficient_nms(seen: Seen) -> Iterator[Match]:
    """Counts (N, 1), boxes (N, K, 4), scores (N, K) and classes (N, K)."""
    boxes = by_last(seen.outputs, 3, 4)
    if len(seen.outputs) != 4 or len(boxes) != 1:
        return
    most = seen.outputs[boxes[0]].shape[1]
    flat = ranked(seen.outputs, 2)
    counts = [n for n, a in flat.items() if a.shape[1] == 1 and a.dtype.kind in "iu"]
    if most == 1:
        counts = [n for n in counts if "num" in n.lower()]
    if len(counts) != 1:
        return
    order = _labels_and_scores({n: a for n, a in flat.items() if n not in counts and a.shape[1] == most})
    if order is not None:
        names = (counts[0], boxes[0], order[1], order[0])
        shares = bool(box_options(seen.outputs[boxes[0]]).get("normalised"))
        usual = get_family("efficient-nms").output_names
        yield Match("efficient-nms", None, names_differ(names, usual) | ({"normalised": True} if shares else {}))


def segmentation(seen: Seen) -> Iterator[Match]:
    """One map, of class scores or of labels."""
    if len(seen.outputs) != 1:
        return
    (maps,) = seen.outputs.values()
    if maps.dtype.kind in "iu" or (maps.ndim == 3 and whole(maps)):
        sides = maps.shape[-2:] if maps.ndim == 3 or (maps.ndim == 4 and maps.shape[1] == 1) else None
        if sides is not None and _is_map(sides, seen.hw_px):
            note = "label 0 is taken for the background"
            yield Match("segmentation", None, {"layout": "labels", "background": "first"}, (note,))
        return
    if maps.ndim != 4:
        return
    for layout, axis, sides in (("nchw", 1, maps.shape[2:]), ("nhwc", 3, maps.shape[1:3])):
        if _is_map(sides, seen.hw_px):
            yield _scored_map(np.moveaxis(maps, axis, -1), {} if layout == "nchw" else {"layout": layout})


def _is_map(sides: tuple[int, ...], hw_px: tuple[int, int]) -> bool:
    return all(side * _SEGMENTED_FROM >= whole_side >= side for side, whole_side in zip(sides, hw_px, strict=True))


def _scored_map(maps: Array, options: dict[str, object]) -> Match:
    columns = maps.shape[-1]
    if columns == 1:
        return Match("segmentation", 1, options | ({} if in_unit(maps) else {"activation": "sigmoid"}))
    if in_unit(maps) and not sums_to_one(maps):
        return Match("segmentation", columns, options)
    note = "channel 0 is taken for the background"
    options = options | {"background": "first"}
    if sums_to_one(maps):
        return Match("segmentation", columns - 1, options, (note,))
    logits = "its scores are taken for logits of a softmax"
    return Match("segmentation", columns - 1, options | {"activation": "softmax"}, (note, logits))


RULES = (
    Rule(
        ("ssd", "rt-detr", "detr"),
        "(N, P, C) and (N, P, 4): a softmax with a background, or more than 1000 rows, is SSD; logits of at most 1000 "
        "queries are RT-DETR with C classes, or DETR with C - 1",
        scores_and_boxes,
    ),
    Rule(
        ("torchvision-detection", "faster-rcnn"),
        "boxes (K, 4), labels (K) and scores (K), or the same padded, with N first; names 6379, 6381 and 6383, or an "
        "input without a batch axis, are the ONNX Model Zoo's",
        finished,
    ),
    Rule(("onnx-nms",), "NonMaxSuppression's (K, 3), and its inputs (N, P, 4) and (N, C, P)", onnx_nms),
    Rule(("efficient-nms",), "a count (N, 1), (N, K, 4), (N, K) and (N, K)", efficient_nms),
    Rule(("segmentation",), "one map (N, C, h, w) or (N, h, w, C) of scores, or of labels", segmentation),
)
"""The rules of families that finish their boxes in the graph."""
