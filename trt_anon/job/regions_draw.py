"""A picture of a frame with the regions by hand drawn into it, for the person who drew them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.config import AnonymizeConfig
from trt_anon.errors import InputError, UsageError
from trt_anon.geometry import turn_upright
from trt_anon.job.inputs import plan
from trt_anon.job.publish import as_output_error, atomic_output
from trt_anon.regions.schema import RegionsConfig
from trt_anon.regions.timeline import Placed, Timeline
from trt_anon.source.base import Source
from trt_anon.source.images import ImageSource
from trt_anon.source.pyav import PyAVSource
from trt_anon.types import Frame, Region

_COLOURS = {"redact": (230, 30, 30), "keep": (30, 170, 60), "ignore": (60, 110, 230)}


def draw_regions(
    regions: RegionsConfig, media: Path, output: Path, *, at: float | None = None, overwrite: bool = False
) -> int:
    """Write a frame, upright and otherwise untouched, as a PNG with the outlines of its regions; gives their number.

    at: the time of the frame, in the unit of the regions; None is the first frame that has a region. The picture shows
    people as they are: it is for whoever may see the original. Raises InputError where no frame fits.
    """
    config = AnonymizeConfig(regions=regions)
    (task,) = plan([media], output, detect_only=True).tasks
    source: Source = ImageSource(media) if task.kind == "image" else PyAVSource(media)
    try:
        shown = source.info.shown_seconds
        timeline = Timeline(config.regions, media)
        if not timeline:
            raise UsageError(f"none of the regions applies to {media}; see their `files`")
        for frame in source:
            placed = timeline.at(frame.index, frame.pts_seconds, shown, *frame.upright_size_px)
            if at is None and placed:
                break
            time = frame.index if regions.time_unit == "frames" else (frame.pts_seconds or 0.0) + shown
            if at is not None and time >= at:
                break
        else:
            raise InputError(f"{media}: no frame {'has a region' if at is None else 'is shown at that time'}")
        picture = _drawn(_rgb(frame), placed)
    finally:
        source.close()
    image = require("PIL.Image", "writing a picture")
    with as_output_error(output), atomic_output(output, overwrite=overwrite) as path:
        image.fromarray(picture).save(path, format="PNG")
    return len(placed)


def _rgb(frame: Frame) -> NDArray[np.uint8]:
    if frame.native is not None and hasattr(frame.native, "to_ndarray"):
        stored: NDArray[np.uint8] = frame.native.to_ndarray(format="rgb24")
    else:
        plane = frame.planes[0]
        stored = (plane >> max(frame.pixel_format.bit_depth - 8, 0)).astype(np.uint8)
        if stored.ndim == 2:
            stored = np.repeat(stored[..., None], 3, axis=2)
        elif stored.shape[2] < 3:
            stored = np.repeat(stored[..., :1], 3, axis=2)
        elif frame.pixel_format.channels.startswith("bgr"):
            stored = stored[..., 2::-1]
        stored = np.ascontiguousarray(stored[..., :3])
    return np.ascontiguousarray(turn_upright(stored, frame.orientation))


def _drawn(picture: NDArray[np.uint8], placed: tuple[Placed, ...]) -> NDArray[np.uint8]:
    cv2 = require("cv2", "drawing regions")
    width = max(1, round(max(picture.shape[:2]) / 400))
    for by_hand in placed:
        for shape in by_hand.shapes:
            corners = np.round(_corners(shape) * 16).astype(np.int32)
            cv2.polylines(picture, [corners], True, _COLOURS[by_hand.region.action], width, cv2.LINE_AA, 4)
    return picture


def _corners(shape: Region) -> NDArray[np.float64]:
    if shape.shape == "polygon":
        return np.array(shape.points_px, np.float64)
    if shape.shape == "ellipse":
        turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        half = np.array([shape.x1_px - shape.x0_px, shape.y1_px - shape.y0_px]) / 2
        centre = np.array([shape.x0_px + shape.x1_px, shape.y0_px + shape.y1_px]) / 2
        return np.asarray(centre + half * np.stack((np.cos(turn), np.sin(turn)), axis=1))
    return np.array(
        [(shape.x0_px, shape.y0_px), (shape.x1_px, shape.y0_px), (shape.x1_px, shape.y1_px), (shape.x0_px, shape.y1_px)]
    )
