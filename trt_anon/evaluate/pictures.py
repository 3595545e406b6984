"""Labelled pictures as frames, and their labels in the frames' upright pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from trt_anon.errors import InputError
from trt_anon.evaluate.corrupt import Picture, corrupt
from trt_anon.evaluate.dataset import LabelledImage, upright_size
from trt_anon.evaluate.tally import Canvas
from trt_anon.geometry import boxes_to_stored, boxes_to_upright
from trt_anon.source.images import ImageSource
from trt_anon.types import PIXEL_FORMATS, Frame


def load_frame(path: Path) -> Frame:
    """The first picture of an image file, in its native format. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: the labels name this image, but it is not here")
    source = ImageSource(path)
    try:
        return next(iter(source))
    finally:
        source.close()


def canvas_of(frame: Frame) -> Canvas:
    """What the frame's redaction masks depend on."""
    form = frame.pixel_format
    yuv = form.kind in ("planar_yuv", "semiplanar_yuv")
    block = (1 << form.log2_chroma_w, 1 << form.log2_chroma_h) if yuv else (1, 1)
    return Canvas(frame.width_px, frame.height_px, frame.orientation, block)


def canvas_without_frame(image: LabelledImage) -> Canvas:
    """As the labels give the size, or the image's header."""
    width, height = image.size_px or upright_size(image.path)
    return Canvas(width, height)


def upright_labels(image: LabelledImage, frame: Frame) -> LabelledImage:
    """The labels in the upright picture's pixels.

    Labels of the stored picture's size are turned with it; where both sizes are equal they count as upright. Raises
    InputError where the labels are of a picture of another size.
    """
    if image.size_px in (None, frame.upright_size_px):
        return image
    if image.size_px != (frame.width_px, frame.height_px):
        raise InputError(
            f"{image.path}: the labels are of a picture of {image.size_px}, but it is {frame.upright_size_px}; "
            "labels and images do not belong together"
        )
    turned = boxes_to_upright(image.boxes_xyxy_px.astype(np.float32), *image.size_px, frame.orientation)
    return replace(image, boxes_xyxy_px=turned.astype(np.float64))


def corrupted(frame: Frame, image: LabelledImage, name: str, severity: int, seed: int) -> Frame:
    """The frame made worse, as 8-bit RGB; `image` holds upright labels."""
    stored = boxes_to_stored(
        image.boxes_xyxy_px.astype(np.float32), frame.width_px, frame.height_px, frame.orientation
    ).astype(np.float64)
    picture = corrupt(rgb(frame), name, severity, seed=seed, image=image.name, objects_xyxy_px=stored[~image.ignore])
    return replace(frame, planes=(picture,), pixel_format=PIXEL_FORMATS["rgb24"], native=None)


def rgb(frame: Frame) -> Picture:
    """A frame of an image file as a new (H, W, 3) uint8 array, stored, its alpha dropped."""
    form = frame.pixel_format
    if form.kind not in ("packed", "gray"):
        raise ValueError(f"{form.name} is no format of image files")
    (plane,) = frame.planes
    codes = (plane >> (form.bit_depth - 8)).astype(np.uint8)
    if form.kind == "gray":
        codes = codes[..., np.newaxis]
    order = [form.channels.find(c) if c in form.channels else 0 for c in "rgb"]
    return np.ascontiguousarray(codes[..., order])
