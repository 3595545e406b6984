"""The CUDA twin of `Redactor.redact`: all regions of a batch of frames, in place, in two or three launches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trt_anon.config import RedactConfig
from trt_anon.cuda.device import Accounting, address_of, side_of, upload
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.redact.bitmap import WORD, Bitmap
from trt_anon.redact.frame_plan import RedactPlan, plan_redaction
from trt_anon.redact.frame_table import ROWS, TILE
from trt_anon.types import Frame, Region

TOLERANCE_CODES = 1
"""Largest difference to the specification, of the Gaussian alone: here sums are float32, and from row to row codes of 8
bits grow by steps of 1/256, so what lies near a half may round otherwise.
Pixelation, solid fill and the masks of all methods are equal to the bit."""

SOURCE = Path(__file__).with_name("frame.cu")


class RedactCuda:
    """Launches the kernels of `frame.cu`; an instance serves any mixture of sizes and of formats up to 12 bits.

    What is destroyed, and how, is what `Redactor` with the same configuration says.
    """

    def __init__(
        self, config: RedactConfig, *, host: HostOptions | None = None, accounting: Accounting | None = None
    ) -> None:
        self.config = config
        write = "write_softly" if config.feather else "write"
        self._prepare, self._prepare_outlines, self._blur, self._write, self._union = (
            Kernel(SOURCE, f"redact_{name}", host=host, accounting=accounting, counted_as=counted_as)
            for name, counted_as in (
                ("prepare", None),
                ("prepare_outlines", "redact_prepare"),
                ("blur", None),
                (write, None),
                ("union", None),
            )
        )

    def __call__(self, frame: Frame, regions: Sequence[Region]) -> None:
        """`Redactor.redact` by the kernels, of one frame in host memory, within TOLERANCE_CODES."""
        plan = plan_redaction([frame], [regions], self.config)
        self._launch(plan, np.empty(plan.workspace_bytes, np.uint8), None, None)

    def workspace_bytes(
        self,
        frames: Sequence[Frame],
        regions_per_frame: Sequence[Sequence[Region]],
        bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None = None,
    ) -> int:
        """How large a workspace `batch` needs for these: 4 bytes per sample of a region for a weak blur, less for
        any other, and about 600 for each region.
        """
        return plan_redaction(frames, regions_per_frame, self.config, bitmaps_per_frame).workspace_bytes

    def batch(
        self,
        frames: Sequence[Frame],
        regions_per_frame: Sequence[Sequence[Region]],
        workspace: Any,
        stream: Any = None,
        *,
        bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None = None,
        staging: Any = None,
    ) -> None:
        """Destroy the regions of every frame in its planes, without waiting for it.

        All arrays are NumPy's or all CuPy's. workspace: (n,) uint8 at a multiple of 8 bytes, n at least
        `workspace_bytes`; what is in it is overwritten. bitmaps_per_frame: for each region None, or a mask that stands
        for the shape of a region that is a `box`; blocks of which it holds any pixel are destroyed. staging: a NumPy
        array like the workspace, in pinned memory, through which the table of regions travels; without one the copy may
        wait for the host. Frames, bitmaps, workspace and staging must live, and staging keep its content, until the
        launches have run. Raises what `plan_redaction` and `Kernel.launch` do, ValueError for a workspace that does
        not do; all of them before anything is changed.
        """
        self._launch(
            plan_redaction(frames, regions_per_frame, self.config, bitmaps_per_frame), workspace, stream, staging
        )

    def planned(self, plan: RedactPlan, workspace: Any, stream: Any = None, *, staging: Any = None) -> None:
        """`batch` for a plan that was made before: who divides a batch has planned it already.

        The plan may be of any configuration whose edges are soft if this instance's are, and hard if these are.
        """
        self._launch(plan, workspace, stream, staging)

    def masks(
        self,
        frames: Sequence[Frame],
        regions_per_frame: Sequence[Sequence[Region]],
        workspace: Any,
        out: Any,
        stream: Any = None,
        *,
        bitmaps_per_frame: Sequence[Sequence[Bitmap | None]] | None = None,
        staging: Any = None,
    ) -> None:
        """Write which pixels `batch` would destroy: out (F, H, ceil(W / 32)) uint32, see `bitmap.pack_bits`.

        Soft edges are not among them. The frames have one size. All else is as for `batch`, and needs the same
        workspace.
        """
        plan = plan_redaction(frames, regions_per_frame, self.config, bitmaps_per_frame)
        sizes = {(frame.height_px, frame.width_px) for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"frames of one size are needed, got {sorted(sizes)}")
        if not sizes:
            return
        height, width = sizes.pop()
        shape = (len(frames), height, -(-width // WORD))
        if out.shape != shape or out.dtype != np.uint32:
            raise ValueError(f"out: expected uint32 {shape}, got {out.dtype} {out.shape}")
        table, sums, low, masks = self._placed(plan, workspace, stream, staging)
        layout = plan.layout.copy()
        blocks = plan.tiles[0] - int(layout["gather_tiles"][0]) - int(layout["sum_tiles"][0])
        layout["gather_tiles"] = layout["sum_tiles"] = 0
        prepare = self._prepare_outlines if plan.outlines else self._prepare
        prepare.launch(
            (blocks,),
            (TILE, ROWS),
            (layout, table, sums, low, masks),
            stream,
            reaches=plan.arrays,
            bytes_moved=4 * plan.mask_words,
        )
        self._union.launch(
            (shape[2], -(-height // ROWS), len(frames)),
            (TILE, ROWS),
            (layout, table, masks, out, np.int32(width), np.int32(height)),
            stream,
            bytes_moved=4 * plan.mask_words + out.nbytes,
        )

    def _launch(self, plan: RedactPlan, workspace: Any, stream: Any, staging: Any) -> None:
        if not plan.tiles[-1]:
            return
        table, sums, low, masks = self._placed(plan, workspace, stream, staging)
        launches = (
            (self._prepare_outlines if plan.outlines else self._prepare, (sums, low, masks)),
            (self._blur, (sums, low, masks)),
            (self._write, (low, masks)),
        )
        for (kernel, scratch), blocks, moved in zip(launches, plan.tiles, plan.bytes_moved, strict=True):
            if blocks:
                args = (plan.layout, table, *scratch)
                kernel.launch((blocks,), (TILE, ROWS), args, stream, reaches=plan.arrays, bytes_moved=moved)

    def _placed(self, plan: RedactPlan, workspace: Any, stream: Any, staging: Any) -> tuple[Any, Any, Any, Any]:
        """The table, on its way to the device, and the scratch for sums, cells and masks; all in the workspace."""
        for name, array, needed in (
            ("workspace", workspace, plan.workspace_bytes),
            ("staging", staging, plan.table.nbytes),
        ):
            if array is None and name == "staging":
                continue
            if array.ndim != 1 or array.dtype != np.uint8 or not array.flags.c_contiguous or array.size < needed:
                raise ValueError(f"{name}: expected uint8 of at least {needed} bytes, got {array.dtype} {array.shape}")
            if address_of(array) % 8:
                raise ValueError(f"{name}: must lie at a multiple of 8 bytes")
        side = side_of([workspace, *plan.arrays])
        ends = np.cumsum([plan.table.nbytes, 4 * plan.sum_words, 4 * plan.low_words, 4 * plan.mask_words]).tolist()
        table = workspace[: ends[0]].view(np.uint64)
        if side == "numpy":
            table[...] = plan.table
        else:
            source = plan.table
            if staging is not None:
                source = staging[: ends[0]].view(np.uint64)
                source[...] = plan.table
            upload(table, source, stream)
        scratch = [
            workspace[begin:end].view(dtype)
            for begin, end, dtype in zip(ends[:3], ends[1:], (np.uint32, np.float32, np.uint32), strict=True)
        ]
        return table, scratch[0], scratch[1], scratch[2]
