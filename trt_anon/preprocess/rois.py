"""Parts of frames brought to one size, as for checks of re-identification: the specification, in NumPy.

A part is what a box covers, rounded outward to whole pixels and on to whole blocks of pixels that share a chroma
sample, and cut at the frame's edges. It is scaled, converted and turned upright by the rules of `letterbox`, to fill
the size.
"""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from trt_anon.preprocess.crop import crop
from trt_anon.preprocess.letterbox import LetterboxPlan, letterbox, plan_letterbox
from trt_anon.types import Frame, InputSpec


def part_of(frame: Frame, box_xyxy_px: NDArray[np.floating]) -> Frame:
    """What a box (4,) in stored pixels covers of a frame, as a frame that shares its memory.

    Raises ValueError for a box that is not finite, has its corners in the wrong order, or covers nothing of the frame.
    """
    box = np.asarray(box_xyxy_px, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < box[:2]).any():
        raise ValueError("a box is four finite numbers x0, y0, x1, y1, with x0 <= x1 and y0 <= y1")
    form, size = frame.pixel_format, np.array((frame.width_px, frame.height_px))
    block = np.array((1 << form.log2_chroma_w, 1 << form.log2_chroma_h))
    first = np.floor(box[:2])
    last = np.clip(np.maximum(np.ceil(box[2:]), first + 1), 0, size).astype(np.int64)
    first = np.clip(first, 0, size).astype(np.int64)
    if (last <= first).any():
        raise ValueError("a box covers nothing of its frame")
    first, last = first // block * block, np.minimum(-(-last // block) * block, size)
    return crop(frame, int(first[0]), int(first[1]), *(last - first).tolist())


def plan_of(part: Frame, spec: InputSpec) -> LetterboxPlan:
    """The plan that stretches a part to `spec.size_px`; ValueError where that is None."""
    if spec.size_px is None:
        raise ValueError("parts are brought to one size: give spec.size_px")
    stretch = dataclasses.replace(spec, fit="stretch")
    return plan_letterbox(part.width_px, part.height_px, part.orientation, Fraction(1), None, stretch)


def rois(frame: Frame, boxes_xyxy_px: NDArray[np.floating], spec: InputSpec) -> NDArray[np.float32]:
    """The parts of a frame under N boxes (N, 4) in stored pixels, as a tensor (N, 3, H, W) of float32.

    Its values are (code - spec.mean) * spec.scale, (W, H) is `spec.size_px`. Raises ValueError where a box is broken or
    wholly outside, or no size is given.
    """
    parts = [part_of(frame, box) for box in boxes_xyxy_px]
    pictures = [letterbox(part, plan_of(part, spec), spec).transpose(2, 0, 1) for part in parts]
    width, height = spec.size_px or (0, 0)
    codes = np.array(pictures, np.float32).reshape(-1, 3, height, width)
    mean, scale = (np.array(v, np.float32).reshape(3, 1, 1) for v in (spec.mean, spec.scale))
    return np.asarray((codes - mean) * scale, np.float32)
