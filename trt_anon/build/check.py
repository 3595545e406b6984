"""Running a patched model to see that it still computes what it did, and that pictures of a batch do not mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trt_anon.build.picture_input import runner_input
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Runner, Tensor

# An error may reach this share of how much the output differs between pictures, or of its largest value: runtimes add
# up in another order for another batch size. Mixing is an error of the order of the difference itself.
_OF_DIFFERENCE = 1e-2
_OF_LARGEST = 1e-5

_NOTHING = 1e-4

# Quantized networks round to whole levels, and add up in another order before: single values then differ by a level or
# more (by as much as after a change of the input by its last bit). They are held to the mean of all errors instead.


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
    runner: Runner,
    height_px: int,
    width_px: int,
    *,
    batch: int = 3,
    seed: int = 0,
    where: str = "model",
    quantized: bool = False,
) -> None:
    """Raise ModelError unless a batch gives what its pictures give one by one, for every output.

    runner: of a folded model, one uint8 input (N, H, W, 3). An output of a batch must be the outputs of its pictures
    one after another along its first dimension. quantized: hold the mean error to the rule, not the largest.
    """
    (spec,) = runner.inputs
    pictures = probe_pictures(batch, height_px, width_px, seed)
    together = runner.run({spec.name: pictures})
    alone = [runner.run({spec.name: picture[np.newaxis]}) for picture in pictures]
    for name, found in together.items():
        parts = [outputs[name] for outputs in alone]
        if any(part.shape != parts[0].shape or part.ndim == 0 for part in parts):
            raise ModelError(f"{where}: output {name!r} has a shape that depends on what is in the picture")
        _compare(
            found, np.concatenate(parts), parts, f"{where}: a batch mixes its pictures: output {name!r}", quantized
        )


def check_same_outputs(
    original: Runner,
    folded: Runner,
    mean: Sequence[float],
    scale: Sequence[float],
    hw_px: tuple[int, int],
    *,
    seed: int = 1,
    where: str = "model",
    quantized: bool = False,
) -> None:
    """Raise ModelError unless the folded model computes what the original does at its own size.

    hw_px: taken where the original's height and width are free. quantized: hold the mean error to the rule, not the
    largest.
    """
    source = runner_input(original.inputs, where)
    batch, height, width = source.batch or 1, source.height or hw_px[0], source.width or hw_px[1]
    pictures = probe_pictures(batch, height, width, seed)
    values = (pictures.astype(np.float32) - np.asarray(mean, np.float32)) * np.asarray(scale, np.float32)
    expected = original.run({source.name: source.feed(values)})
    found = folded.run({folded.inputs[0].name: pictures})
    if set(found) != set(expected):
        raise ModelError(f"{where}: patching changed its outputs from {sorted(expected)} to {sorted(found)}")
    for name, tensor in found.items():
        flat = tensor.reshape(expected[name].shape) if tensor.size == expected[name].size else tensor
        what = f"{where}: patching changed what it computes: output {name!r}"
        _compare(flat, expected[name], [expected[name]], what, quantized)


def check_runtimes_agree(
    one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str = "model", quantized: bool = False
) -> None:
    """Raise ModelError where two runtimes give something else for the same picture, by more than rounding explains.

    The mean difference must stay below 2% of how much the output's own values differ among each other, 0.1% of the
    largest, or 1e-4, which no score or box shows. Quantized networks add up what each layer rounds: 30%, or 2%
    (LPD-YuNet's INT8 file comes to 13% and 1.1%, and with the operator that OpenVINO computes wrongly to 25% of the
    largest). Outputs whose length depends on the picture are not compared.
    """
    of_spread, of_largest = (0.3, 2e-2) if quantized else (2e-2, 1e-3)
    for name, tensor in one.items():
        a, b = tensor.astype(np.float64), other[name].astype(np.float64)
        if a.shape != b.shape or not a.size:
            continue
        spread = float(np.abs(b - b.mean(axis=tuple(range(b.ndim - 1)))).mean())
        error = float(np.abs(a - b).mean())
        if error > max(of_spread * spread, of_largest * float(np.abs(b).max()), _NOTHING):
            raise ModelError(
                f"{where}: OpenVINO and ONNX Runtime do not agree about output {name!r}: they differ by {error:.3g} on "
                f"average; one of them computes this network wrongly"
            )


def _compare(found: Tensor, expected: Tensor, parts: Sequence[Tensor], what: str, quantized: bool) -> None:
    if found.shape != expected.shape:
        raise ModelError(f"{what} has the shape {found.shape}, expected {expected.shape}")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        raise ModelError(f"{what} holds values that are not finite")
    if not expected.size:
        return
    # Halves are rounded to 11 bits in the end, wherever the sums before differ.
    of_largest = max(_OF_LARGEST, float(np.finfo(np.float16).eps) if expected.dtype == np.float16 else 0.0)
    norm = np.mean if quantized else np.max

    def size(values: Tensor) -> float:
        return float(norm(np.abs(values.astype(np.float64))))

    difference = max((size(parts[0].astype(np.float64) - part) for part in parts[1:]), default=0.0)
    allowed = max(_OF_DIFFERENCE * difference, of_largest * float(np.abs(expected.astype(np.float64)).max()))
    error = size(found.astype(np.float64) - expected)
    if error > allowed:
        raise ModelError(f"{what} differs by {error:.3g}, allowed are {allowed:.3g}")
