"""Writing through a mask: into the very array, whatever its layout, and nowhere else."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trt_anon.redact.paste import paste
from trt_anon.redact.paste_cpu import paste_cpu

LAYOUTS = {
    "contiguous": lambda a: a,
    "pitched": lambda a: a[:, 3:-2],
    "every second row": lambda a: a[::2],
    "every second column": lambda a: a[:, ::2],
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "turned": lambda a: a.swapaxes(0, 1),
}


@pytest.mark.parametrize("function", [paste, paste_cpu])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@given(channels=st.sampled_from([(), (1,), (2,), (3,), (4,)]), height=st.integers(1, 9), width=st.integers(6, 14))
def test_writes_what_the_mask_says(
    function, layout: str, dtype: type, channels: tuple[int, ...], height: int, width: int
) -> None:
    held = np.full((height, width, *channels), 7, dtype)
    target = LAYOUTS[layout](held)
    rng = np.random.default_rng(height * width)
    mask = rng.random(target.shape[:2]) < 0.5
    samples = rng.integers(100, 200, target.shape).astype(dtype)
    function(target, samples, mask)
    np.testing.assert_array_equal(target[mask], samples[mask])
    assert (target[~mask] == 7).all()
    assert (held != 7).sum() == mask.sum() * np.prod(channels, dtype=int)


@pytest.mark.parametrize("function", [paste, paste_cpu])
def test_a_plane_that_cannot_be_written_is_an_error(function) -> None:
    target = np.zeros((4, 4), np.uint8)
    target.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        function(target, np.ones((4, 4), np.uint8), np.ones((4, 4), np.bool_))


def test_twins_have_one_signature() -> None:
    assert inspect.signature(paste) == inspect.signature(paste_cpu)
