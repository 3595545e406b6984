"""How YOLO models are recognised by their outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np

from trt_anon.build.inspect import Seen
from trt_anon.build.match import (
    Array,
    Match,
    Rule,
    box_options,
    in_unit,
    ranked,
    stride_of_grid,
    strides_of_rows,
    whole,
)
from trt_anon.detect.yolo import Layout, grids_of, read_heads

DISTANCES = 64  # of 16 values for each side
FACE_POINTS = {15: 3, 10: 2}  # five landmarks: with and without a visibility
MOST_FINISHED = 1000

_DEFAULT_ANCHORS = "anchors are not in the graph: those published with the family are taken"
_OTHER_ANCHORS = "anchors are not in the graph, and this model has not the three heads of the published ones"


def rows_of_cells(seen: Seen) -> Iterator[Match]:
    """One output with a row for every cell or anchor: (N, C, P) or (N, P, C)."""
    if len(seen.outputs) != 1:
        return
    (array,) = seen.outputs.values()
    if array.ndim != 3:
        return
    if (strides := strides_of_rows(array.shape[2], seen.hw_px, 1)) is not None:
        yield from _anchor_free(array.transpose(0, 2, 1), strides, transposed=False)
    if (strides := strides_of_rows(array.shape[1], seen.hw_px, 1)) is not None:
        yield from _anchor_free(array, strides, transposed=True)
        yield from _yolox(array, strides)
    if (strides := strides_of_rows(array.shape[1], seen.hw_px, 3)) is not None:
        yield from _anchored_rows(array, strides)


def _anchor_free(rows: Array, strides: tuple[int, ...], *, transposed: bool) -> Iterator[Match]:
    options: dict[str, object] = {"strides_px": strides} | ({"layout": "npc"} if transposed else {})
    width = rows.shape[2]
    if width > 4:
        yield Match("yolov8", width - 4, options | box_options(rows[..., :4]))
    if values := FACE_POINTS.get(width - 5):
        yield Match("yolov8-face", 1, options | {"form": "decoded", "landmark_values": values})


def _yolox(rows: Array, strides: tuple[int, ...]) -> Iterator[Match]:
    if rows.shape[2] <= 5:
        return
    options: dict[str, object] = {"strides_px": strides, "activated": in_unit(rows[..., 4:])}
    # Raw centres are relative to their cells; decoded ones spread over the picture.
    spread = float(np.ptp(np.quantile(rows[..., 0], (0.05, 0.95))))
    boxes = box_options(rows[..., :4])
    decoded = spread > 16 or (boxes.get("normalised") is True and in_unit(rows[..., :4]) and spread > 0.5)
    yield Match("yolox", rows.shape[2] - 5, options | ({"form": "decoded"} | boxes if decoded else {"form": "raw"}))


def _anchored_rows(rows: Array, strides: tuple[int, ...]) -> Iterator[Match]:
    options: dict[str, object] = {"form": "decoded", "strides_px": strides}
    width = rows.shape[2]
    # Anchors count only in number once boxes are decoded.
    three = {} if len(strides) == 3 else {"anchors_px": (((1, 1),) * 3,) * len(strides)}
    if width > 5:
        yield Match("yolov5", width - 5, options | three | box_options(rows[..., :4]))
    if width == 16:
        yield Match("yolov5-face", 1, options | three)


def finished_rows(seen: Seen) -> Iterator[Match]:
    """One output (N, K, 6) of box, score, class."""
    if len(seen.outputs) != 1:
        return
    (rows,) = seen.outputs.values()
    if rows.ndim != 3 or rows.shape[2] != 6 or rows.shape[1] > MOST_FINISHED:
        return
    if in_unit(rows[..., 4]) and whole(rows[..., 5]):
        yield Match("yolo-e2e", None, {"normalised": True} if in_unit(rows[..., :4]) and rows[..., :4].any() else {})


def anchor_heads(seen: Seen) -> Iterator[Match]:
    """One head for each stride, three anchors in each cell: of YOLOv3, v4, v5 and v7, which look alike."""
    heads = seen.outputs
    if not 2 <= len(heads) <= 4 or len({a.ndim for a in heads.values()}) != 1:
        return
    for layout in ("nchw", "nhwc", "nahwc", "nachw", "nhwac"):
        found = _anchored(heads, layout, seen.hw_px)
        if found is None:
            continue
        strides, width = found
        values = read_heads(
            heads, (), grids_of(seen.hw_px, strides), [3] * len(strides), [width] * len(strides), layout, ""
        )
        activated = all(in_unit(head[..., 4:]) for head in values)
        options: dict[str, object] = {"form": "raw", "strides_px": strides, "layout": layout, "activated": activated}
        plain = len(strides) == 3
        notes = (_DEFAULT_ANCHORS,) if plain else ()
        missing = {} if plain else {"anchors_px": _OTHER_ANCHORS}
        for family in ("yolov3", "yolov4"):
            masks = {} if plain else {"masks": _OTHER_ANCHORS}
            yield Match(family, width - 5, options, notes, missing | masks)
        for family in ("yolov5", "yolov7"):
            yield Match(family, width - 5, options, notes, missing)
        if width == 16:
            yield Match("yolov5-face", 1, options, notes, missing)


def _anchored(heads: Mapping[str, Array], layout: Layout, hw_px: tuple[int, int]) -> tuple[tuple[int, ...], int] | None:
    """(strides, channels of an anchor) of heads of this layout with three anchors."""
    strides, widths = [], set()
    for array in heads.values():
        if array.ndim != len(layout):
            return None
        axis = {letter: array.shape[index] for index, letter in enumerate(layout)}
        stride = stride_of_grid((axis["h"], axis["w"]), hw_px)
        if stride is None or axis.get("a", 3) != 3 or ("a" not in axis and axis["c"] % 3):
            return None
        strides.append(stride)
        widths.add(axis["c"] if "a" in axis else axis["c"] // 3)
    if len(set(strides)) != len(strides) or len(widths) != 1 or (width := widths.pop()) <= 5:
        return None
    return tuple(sorted(strides)), width


def distance_heads(seen: Seen) -> Iterator[Match]:
    """Heads of distances as distributions: (N, 64 + C, h, w) for each stride, or 64 and C apart."""
    heads = ranked(seen.outputs, 4)
    if len(heads) != len(seen.outputs):
        return
    for layout, channel, grid in (("nchw", 1, (2, 3)), ("nhwc", 3, (1, 2))):
        placed = []
        for name, array in heads.items():
            stride = stride_of_grid((array.shape[grid[0]], array.shape[grid[1]]), seen.hw_px)
            placed.append((stride or 0, array.shape[channel], name))
        if any(not stride for stride, _, _ in placed):
            continue
        yield from _distances(heads, sorted(placed), layout, channel)


def _distances(
    heads: Mapping[str, Array], placed: list[tuple[int, int, str]], layout: str, channel: int
) -> Iterator[Match]:
    levels = [(stride, list(group)) for stride, group in groupby(placed, key=lambda head: head[0])]
    strides = tuple(stride for stride, _ in levels)
    if len(strides) < 2:
        return
    options: dict[str, object] = {"strides_px": strides, "layout": layout}
    if all(len(group) == 1 for _, group in levels) and len({width for _, width, _ in placed}) == 1:
        width = placed[0][1]
        scores = [np.moveaxis(heads[name], channel, -1)[..., DISTANCES:] for _, _, name in placed]
        if width > DISTANCES:
            activated = all(in_unit(s) for s in scores)
            yield Match("yolov8", width - DISTANCES, options | {"form": "raw", "activated": activated})
        if values := FACE_POINTS.get(width - DISTANCES - 1):
            activated = all(in_unit(s[..., :1]) for s in scores)
            yield Match("yolov8-face", 1, options | {"form": "raw", "landmark_values": values, "activated": activated})
    elif all(len(group) == 2 for _, group in levels):
        counts, names, activated = set(), [], True
        for _, group in levels:
            sides = [name for _, width, name in group if width == DISTANCES]
            if len(sides) != 1:  # 64 classes: which is which cannot be seen
                return
            (other,) = (name for _, _, name in group if name not in sides)
            counts.add(heads[other].shape[channel])
            activated = activated and in_unit(heads[other])
            names += [sides[0], other]
        if len(counts) == 1:
            yield Match(
                "yolov8", counts.pop(), options | {"form": "raw_split", "activated": activated, "outputs": names}
            )


def masks(seen: Seen) -> Iterator[Match]:
    """Rows with coefficients, and prototypes (N, M, h, w) that they mix."""
    rows, maps = ranked(seen.outputs, 3), ranked(seen.outputs, 4)
    if len(rows) != 1 or len(maps) != 1 or len(seen.outputs) != 2:
        return
    ((rows_name, array),) = rows.items()
    ((maps_name, prototypes),) = maps.items()
    if stride_of_grid((prototypes.shape[2], prototypes.shape[3]), seen.hw_px) not in (4, 8):
        return
    count = prototypes.shape[1]
    options: dict[str, object] = {"masks": count, "outputs": (rows_name, maps_name)}
    for transposed, values in ((False, array), (True, array.transpose(0, 2, 1))):
        swapped: dict[str, object] = {"transposed": True} if transposed else {}
        _, width, places = values.shape
        if width - 4 - count > 0 and strides_of_rows(places, seen.hw_px, 1):
            boxes = box_options(values[:, :4].transpose(0, 2, 1))
            yield Match("yolo-seg", width - 4 - count, options | swapped | boxes | {"form": "anchor-free"})
        _, places, width = values.shape
        if width - 5 - count > 0 and strides_of_rows(places, seen.hw_px, 3):
            boxes = box_options(values[..., :4])
            yield Match("yolo-seg", width - 5 - count, options | swapped | boxes | {"form": "anchors"})
        finished = width - 6 == count and places <= MOST_FINISHED
        if finished and in_unit(values[..., 4]) and whole(values[..., 5]):
            yield Match("yolo-seg", None, options | swapped | {"form": "end-to-end"})


def split_rows(seen: Seen) -> Iterator[Match]:
    """Boxes (N, P, 4) or (N, P, 1, 4) and scores (N, P, C), three anchors in each cell: decoded YOLOv4."""
    boxes = {n: a for n, a in seen.outputs.items() if a.shape[-1] == 4 and (a.ndim == 3 or a.shape[2:] == (1, 4))}
    if len(seen.outputs) != 2 or not boxes:
        return
    boxes_name = next((n for n, a in boxes.items() if a.ndim == 4), next(iter(boxes)))
    (scores_name,) = (n for n in seen.outputs if n != boxes_name)
    rows, scores = seen.outputs[boxes_name], seen.outputs[scores_name]
    if scores.ndim != 3 or scores.shape[1] != rows.shape[1] or not in_unit(scores):
        return
    strides = strides_of_rows(rows.shape[1], seen.hw_px, 3)
    if strides == (8, 16, 32):
        options: dict[str, object] = {"form": "split", "outputs": (boxes_name, scores_name)}
        yield Match("yolov4", scores.shape[2], options | box_options(rows))


RULES = (
    Rule(
        ("yolov8", "yolov8-face", "yolox", "yolov5", "yolov5-face"),
        "one output of rows, a row for each cell of the grids (three for v5): (N, 4 + C, P) or (N, P, 4 + C) is v8, "
        "(N, P, 5 + C) is YOLOX, with three rows v5, v7, and v3 decoded; faces have 10 or 15 values more",
        rows_of_cells,
    ),
    Rule(("yolo-e2e",), "one output (N, K, 6) of box, score and a whole number, K of at most 1000", finished_rows),
    Rule(
        ("yolov3", "yolov4", "yolov5", "yolov7", "yolov5-face"),
        "two to four heads, one for each stride, of 3 * (5 + C) channels; they look alike: name the family",
        anchor_heads,
    ),
    Rule(
        ("yolov8", "yolov8-face"),
        "heads of 64 + C channels for each stride (faces: 10 or 15 more), or of 64 and of C apart",
        distance_heads,
    ),
    Rule(("yolo-seg",), "rows with M values more, and prototypes (N, M, H / 4, W / 4)", masks),
    Rule(("yolov4",), "boxes (N, P, 4) or (N, P, 1, 4) and scores (N, P, C), three rows for each cell", split_rows),
)
"""The rules of YOLO families."""
