"""Detections as a COCO file, written as they come so that memory stays flat."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trt_anon.job.publish import as_output_error, atomic_output
from trt_anon.pipeline.tracking import hidden_boxes
from trt_anon.types import Detections, Frame, Tracks


def write_coco(
    output: Path,
    class_names: tuple[str, ...],
    items: Iterable[tuple[Path, Frame, Detections | Tracks]],
    *,
    overwrite: bool,
) -> tuple[int, int]:
    """Write `items` (source file, frame, what was found in it) as COCO JSON; gives (frames, boxes).

    `images` has one entry per frame (file name, frame index, upright size, time); `annotations` has `bbox` as
    [x, y, width, height] in upright pixels and `score`: the fields of COCO's results format, so that the list alone is
    what COCO tools take. An object of a track has its `track_id`, which no other track of the whole file has, the box
    that would hide it, and `seen`: whether the detector found it in this frame.
    """
    frames = boxes = 0
    track_ids: dict[tuple[Path, int], int] = {}
    with (
        as_output_error(output),
        atomic_output(output, overwrite=overwrite) as path,
        path.open("w", encoding="utf-8") as file,
    ):
        categories = [
            {"id": number, "name": name, "supercategory": name} for number, name in enumerate(class_names, start=1)
        ]
        images = []
        file.write('{"categories": ' + json.dumps(categories) + ',\n"annotations": [')
        for source, frame, found in items:
            frames += 1
            width, height = frame.upright_size_px
            images.append(
                (frames, str(source), frame.index, width, height, frame.pts_seconds),
            )
            of_track: Sequence[dict[str, Any]] = [{}] * len(found)
            shown = found.boxes_xyxy_px
            if isinstance(found, Tracks):
                shown = hidden_boxes(found)
                of_track = [
                    {"track_id": track_ids.setdefault((source, number), len(track_ids) + 1), "seen": seen}
                    for number, seen in zip(found.track_ids.tolist(), found.seen.tolist(), strict=True)
                ]
            for box, score, class_id, track in zip(
                shown.tolist(), found.scores.tolist(), found.class_ids.tolist(), of_track, strict=True
            ):
                boxes += 1
                x0, y0, x1, y1 = box
                entry = {
                    "id": boxes,
                    "image_id": frames,
                    "category_id": class_id + 1,
                    "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round((x1 - x0) * (y1 - y0), 2),
                    "iscrowd": 0,
                    "score": round(score, 5),
                    **track,
                }
                file.write(("," if boxes > 1 else "") + "\n" + json.dumps(entry))
        file.write('],\n"images": [')
        keys = ("id", "file_name", "frame_index", "width", "height", "pts_seconds")
        for number, values in enumerate(images):
            file.write(("," if number else "") + "\n" + json.dumps(dict(zip(keys, values, strict=True))))
        file.write("]}\n")
    return frames, boxes
