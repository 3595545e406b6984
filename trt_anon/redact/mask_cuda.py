"""The CUDA twins of `mask`: dilation and cover of masks of a bit per pixel, a batch in one launch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.cuda.device import Accounting
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.redact.bitmap import WORD, pack_bits, unpack_bits
from trt_anon.redact.mask import disc_px

SOURCE = Path(__file__).with_name("mask.cu")
MAX_SIDE_PX = 1 << 16
_ROWS = 8


class MaskCuda:
    """Launches the kernels of `mask.cu`; masks are (N, H, ceil(W / 32)) uint32, as `bitmap.pack_bits` makes them.

    The masks of a batch's regions are what `RedactCuda.masks` writes.
    """

    def __init__(self, *, host: HostOptions | None = None, accounting: Accounting | None = None) -> None:
        self._dilate, self._cover = (
            Kernel(SOURCE, f"mask_{name}", host=host, accounting=accounting) for name in ("dilate", "cover")
        )

    def dilate(self, mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
        """`mask.dilate` by the kernel, in host memory, with the very same result."""
        words = pack_bits(mask)[None]
        out = np.empty_like(words)
        self.dilate_batch(words, mask.shape[1], radius_px, out)
        return unpack_bits(out[0], mask.shape[1])

    def dilate_batch(self, masks: Any, width_px: int, radius_px: float, out: Any, stream: Any = None) -> None:
        """Write each of N masks, dilated, to `out`, an array of the same shape, without waiting for it.

        Bits beyond the width are not looked at, and written as 0. Raises ValueError for shapes, types or radii that are
        wrong, or an `out` that is the input, and what `Kernel.launch` raises.
        """
        count, height, words = _checked(masks, width_px)
        if out.shape != masks.shape or out.dtype != np.uint32 or out is masks:
            raise ValueError(f"out: expected another uint32 {masks.shape}, got {out.dtype} {out.shape}")
        rows, square = disc_px(radius_px)
        self._dilate.launch(
            (words if height else 0, -(-height // _ROWS), count),
            (32, _ROWS),
            (masks, out, np.int32(width_px), np.int32(height), np.int32(rows), np.int32(square)),
            stream,
            bytes_moved=masks.nbytes + out.nbytes,
        )

    def covered_px(self, mask: NDArray[np.bool_], boxes_xyxy_px: NDArray[np.int32]) -> NDArray[np.int64]:
        """`mask.covered_px` by the kernel, in host memory, with the very same result."""
        counts = np.empty(len(boxes_xyxy_px), np.uint32)
        pictures = np.zeros(len(boxes_xyxy_px), np.int32)
        boxes = np.ascontiguousarray(boxes_xyxy_px)
        self.covered_batch(pack_bits(mask)[None], mask.shape[1], boxes, pictures, counts)
        return counts.astype(np.int64)

    def covered_batch(
        self, masks: Any, width_px: int, boxes_xyxy_px: Any, pictures: Any, counts: Any, stream: Any = None
    ) -> None:
        """Count the set pixels in each of B boxes, without waiting for it.

        boxes_xyxy_px: (B, 4) int32; pictures: (B,) int32, the mask that each box is on, and where there is none nothing
        is covered; counts, written: (B,) uint32. Raises as `dilate_batch` does.
        """
        number, height, _ = _checked(masks, width_px)
        boxes = len(counts)
        for name, array, shape, dtype in (
            ("boxes_xyxy_px", boxes_xyxy_px, (boxes, 4), np.int32),
            ("pictures", pictures, (boxes,), np.int32),
            ("counts", counts, (boxes,), np.uint32),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
        self._cover.launch(
            (boxes,),
            (32, _ROWS),
            (masks, boxes_xyxy_px, pictures, counts, np.int32(width_px), np.int32(height), np.int32(number)),
            stream,
            bytes_moved=boxes_xyxy_px.nbytes + pictures.nbytes + counts.nbytes,
        )


def _checked(masks: Any, width_px: int) -> tuple[int, int, int]:
    shape = masks.shape
    if len(shape) != 3 or masks.dtype != np.uint32 or width_px < 1 or shape[2] != -(-width_px // WORD):
        raise ValueError(f"masks {width_px} wide are uint32 (N, H, {-(-width_px // WORD)}), got {masks.dtype} {shape}")
    if max(shape[1], width_px) > MAX_SIDE_PX:
        raise ValueError(f"sides of at most {MAX_SIDE_PX} pixels, not {width_px}x{shape[1]}")
    return int(shape[0]), int(shape[1]), int(shape[2])
