"""Checking what is fed to a model, before a native library sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trt_anon.errors import ModelError
from trt_anon.runtime.base import Tensor, TensorSpec


def check_feeds(feeds: Mapping[str, Tensor], specs: Sequence[TensorSpec], model: str) -> dict[str, Tensor]:
    """The tensors in the order of the specifications, C-contiguous (copied only if they are not).

    Raises ModelError where one is missing, unknown, or has another element type or shape than the model takes.
    """
    unknown = set(feeds) - {spec.name for spec in specs}
    if unknown:
        raise ModelError(f"{model}: has no input {', '.join(map(repr, sorted(unknown)))}")
    checked = {}
    for spec in specs:
        tensor = feeds.get(spec.name)
        if tensor is None:
            raise ModelError(f"{model}: input {spec.name!r} was not fed")
        fits = len(tensor.shape) == len(spec.shape) and all(
            have > 0 and want in (None, have) for have, want in zip(tensor.shape, spec.shape, strict=True)
        )
        if tensor.dtype != spec.dtype or not fits:
            wanted = f"{spec.dtype} ({', '.join('any' if d is None else str(d) for d in spec.shape)})"
            raise ModelError(f"{model}: input {spec.name!r} is {wanted}, was fed {tensor.dtype} {tensor.shape}")
        checked[spec.name] = np.ascontiguousarray(tensor)
    return checked
