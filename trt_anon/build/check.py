"""Running a patched model to see that it still computes what it did, and that pictures of a batch do not mix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trt_anon.errors import ModelError
from trt_anon.runtime.base import Runner, Tensor

# An error may reach this share of how much the output differs between pictures, or of its largest value: runtimes add
# up in another order for another batch size. Mixing is an error of the order of the difference itself.
_OF_DIFFERENCE = 1e-2
_OF_LARGEST = 1e-5


def probe_pictures(count: int, height_px: int, width_px: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 pictures that differ in brightness, contrast and texture."""
    random = np.random.default_rng(seed)
    pictures = np.empty((count, height_px, width_px, 3), np.uint8)
    for picture in pictures:
        coarse = random.integers(0, 256, (-(-height_px // 16), -(-width_px // 16), 3)).repeat(16, 0).repeat(16, 1)
        fine = random.integers(-64, 65, (height_px, width_px, 3)) * random.random()
        contrast, brightness = random.uniform(0.2, 1.0), random.uniform(-60, 60)
        picture[:] = np.clip((coarse[:height_px, :width_px] - 128) * contrast + 128 + brightness + fine, 0, 255)
    return pictures


def check_batch_independence(
    runner: Runner, height_px: int, width_px: int, *, batch: int = 3, seed: int = 0, where: str = "model"
) -> None:
    """Raise ModelError unless a batch gives what its pictures give one by one, for every output.

    runner: of a folded model, one uint8 input (N, H, W, 3). An output of a batch must be the outputs of its pictures
    one after another along its first dimension.
    """
    (spec,) = runner.inputs
    pictures = probe_pictures(batch, height_px, width_px, seed)
    together = runner.run({spec.name: pictures})
    alone = [runner.run({spec.name: picture[np.newaxis]}) for picture in pictures]
    for name, found in together.items():
        parts = [outputs[name] for outputs in alone]
        if any(part.shape != parts[0].shape or part.ndim == 0 for part in parts):
            raise ModelError(f"{where}: output {name!r} has a shape that depends on what is in the picture")
        _compare(found, np.concatenate(parts), parts, f"{where}: a batch mixes its pictures: output {name!r}")


def check_same_outputs(
    original: Runner,
    folded: Runner,
    mean: Sequence[float],
    scale: Sequence[float],
    hw_px: tuple[int, int],
    *,
    seed: int = 1,
    where: str = "model",
) -> None:
    """Raise ModelError unless the folded model computes what the original, (N, 3, H, W) float32, does at its own size.

    hw_px: taken where the original's height and width are free.
    """
    (spec,) = original.inputs
    batch, height, width = spec.shape[0] or 1, spec.shape[2] or hw_px[0], spec.shape[3] or hw_px[1]
    pictures = probe_pictures(batch, height, width, seed)
    values = (pictures.astype(np.float32) - np.asarray(mean, np.float32)) * np.asarray(scale, np.float32)
    expected = original.run({spec.name: np.ascontiguousarray(values.transpose(0, 3, 1, 2))})
    found = folded.run({folded.inputs[0].name: pictures})
    if set(found) != set(expected):
        raise ModelError(f"{where}: patching changed its outputs from {sorted(expected)} to {sorted(found)}")
    for name, tensor in found.items():
        flat = tensor.reshape(expected[name].shape) if tensor.size == expected[name].size else tensor
        _compare(flat, expected[name], [expected[name]], f"{where}: patching changed what it computes: output {name!r}")


def _compare(found: Tensor, expected: Tensor, parts: Sequence[Tensor], what: str) -> None:
    if found.shape != expected.shape:
        raise ModelError(f"{what} has the shape {found.shape}, expected {expected.shape}")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise ModelError(f"{what} holds values that are not finite")
    if not expected.size:
        return
    difference = max((float(np.abs(parts[0] - part).max()) for part in parts[1:]), default=0.0)
    allowed = max(_OF_DIFFERENCE * difference, _OF_LARGEST * float(np.abs(expected).max()))
    error = float(np.abs(found - expected).max())
    if error > allowed:
        raise ModelError(f"{what} differs by {error:.3g}, allowed are {allowed:.3g}")
