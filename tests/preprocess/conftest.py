from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
import pytest

from trt_anon.types import PIXEL_FORMATS, Color, Frame, Orientation


def _noise_frame(
    format_name: str,
    width: int,
    height: int,
    *,
    color: Color | None = None,
    orientation: Orientation = Orientation.NORMAL,
    native: bool = False,
    seed: int = 0,
) -> Frame:
    form = PIXEL_FORMATS[format_name]
    rng = np.random.default_rng(seed)
    owner = av.VideoFrame(width, height, format_name) if native else None
    planes = []
    for i, shape in enumerate(form.plane_shapes(width, height)):
        codes = (rng.integers(0, 1 << form.bit_depth, shape) << form.sample_shift).astype(form.dtype)
        if owner is not None:
            row = owner.planes[i].line_size // form.dtype.itemsize
            memory = np.frombuffer(owner.planes[i], form.dtype).reshape(-1, row)
            view = memory[: shape[0], : int(np.prod(shape[1:]))].reshape(shape)
            view[...] = codes
            codes = view
        planes.append(codes)
    return Frame(tuple(planes), form, width, height, color=color or Color(), orientation=orientation, native=owner)


@pytest.fixture(scope="session")
def noise_frame() -> Callable[..., Frame]:
    """A frame of white noise in any pixel format, owned by NumPy or (`native`) by a decoder's frame."""
    return _noise_frame
