"""The CUDA twin of `rois`: parts of any frames to one tensor, by the kernel of `letterbox.cu`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions
from trt_anon.preprocess.letterbox_cuda import LetterboxCuda
from trt_anon.preprocess.rois import part_of, plan_of
from trt_anon.types import Frame, InputSpec


class RoisCuda:
    """Crops and scales; an instance serves any mixture of formats and sizes."""

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._letterbox = LetterboxCuda(host=host, accounting=accounting)

    def __call__(self, frame: Frame, boxes_xyxy_px: NDArray[np.floating], spec: InputSpec) -> NDArray[np.float32]:
        """`rois.rois` by the kernel, of one frame in host memory, within one code before mean and scale."""
        width, height = spec.size_px or (0, 0)
        out = np.empty((len(boxes_xyxy_px), 3, height, width), np.float32)
        self.batch([frame], boxes_xyxy_px, [0] * len(boxes_xyxy_px), spec, out)
        return out

    def batch(
        self,
        frames: Sequence[Frame],
        boxes_xyxy_px: NDArray[np.floating],
        pictures: Sequence[int],
        spec: InputSpec,
        out: Any,
        *,
        int8_scale: float = 1.0,
        stream: Any = None,
    ) -> None:
        """Bring N parts of frames to one size, 32 to a launch, without waiting for it.

        boxes_xyxy_px: (N, 4) in host memory, in stored pixels; pictures: of each, the number of its frame. out: (N, 3,
        H, W) of a type that `LetterboxCuda.batch` writes, where the planes are; (W, H) is `spec.size_px`. Frames must
        live until the launches have run. Raises ValueError as `rois.rois` does, and what `LetterboxCuda.batch` does.
        """
        if not len(boxes_xyxy_px) == len(pictures) == len(out):
            raise ValueError(f"{len(boxes_xyxy_px)} boxes, {len(pictures)} pictures and {len(out)} outs do not match")
        if not all(0 <= number < len(frames) for number in pictures):
            raise ValueError(f"pictures must index the {len(frames)} frames")
        parts = [part_of(frames[number], box) for number, box in zip(pictures, boxes_xyxy_px, strict=True)]
        plans = [plan_of(part, spec) for part in parts]
        self._letterbox.batch(parts, plans, spec, list(out), int8_scale=int8_scale, stream=stream)
