"""How much of a GPU a kernel can fill, from what the compiler reports: blocks and threads per multiprocessor.

The limits are those of NVIDIA's "CUDA C++ Programming Guide", "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from dataclasses import dataclass

from trt_anon.cuda.nvrtc import Resources

_REGISTERS = 65536
_REGISTERS_PER_WARP = 256  # given out in units of this
_SHARED_UNIT = 128
_SHARED_RESERVED = 1024  # of each block, from compute capability 8 on
_MAX_BLOCKS = {75: 16, 80: 32, 86: 16, 89: 24, 90: 32, 100: 32, 120: 24}
_MAX_THREADS = {75: 1024, 80: 2048, 86: 1536, 89: 1536, 90: 2048, 100: 2048, 120: 1536}
_SHARED_BYTES = {75: 65536, 80: 167936, 86: 102400, 89: 102400, 90: 233472, 100: 233472, 120: 102400}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What fits on a multiprocessor at once; share: of the threads that it can hold."""

    blocks: int
    threads: int
    share: float


def occupancy(resources: Resources, architecture: int, threads: int, dynamic_shared_bytes: int = 0) -> Occupancy:
    """How many blocks of that many threads fit on a multiprocessor of that architecture (see `nvrtc.ARCHITECTURES`).

    Raises ValueError for an architecture whose limits are not known, or threads that are not 1 to 1024.
    """
    if architecture not in _MAX_THREADS or not 1 <= threads <= 1024:
        raise ValueError(f"no limits are known for sm_{architecture} and {threads} threads")
    warps = -(-threads // 32)
    per_warp = -(-resources.registers * 32 // _REGISTERS_PER_WARP) * _REGISTERS_PER_WARP
    shared = resources.shared_bytes + dynamic_shared_bytes + (_SHARED_RESERVED if architecture >= 80 else 0)
    shared = -(-shared // _SHARED_UNIT) * _SHARED_UNIT
    blocks = min(
        _MAX_BLOCKS[architecture],
        _MAX_THREADS[architecture] // (32 * warps),
        _REGISTERS // max(1, per_warp * warps),
        _SHARED_BYTES[architecture] // max(1, shared),
    )
    return Occupancy(blocks, 32 * warps * blocks, 32 * warps * blocks / _MAX_THREADS[architecture])
