"""Reading TensorRT's calibration caches: the files that its implicit calibrators write.

A line for each value: its name, a colon, and the scale as the eight hexadecimal digits of a big-endian float32.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon.errors import InputError, UsageError

if TYPE_CHECKING:
    import onnx

_HEADER = re.compile(r"^TRT-\d+-\w+$")
_ENTRY = re.compile(r"^(?P<name>.+): (?P<scale>[0-9a-fA-F]{1,8})$")
_MOST_BYTES = 16 << 20


def read_cache(path: Path, model: onnx.ModelProto | None = None) -> dict[str, float]:
    """The range of each value: the largest magnitude that INT8 stands for.

    model: keep those of this network's values only. Raises InputError for a file that is no calibration cache,
    UsageError for one of another network.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is too large for a calibration cache")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no calibration cache") from error
    if not lines or not _HEADER.match(lines[0]):
        raise InputError(f"{path}: is no calibration cache: its first line is not like TRT-8601-EntropyCalibration2")
    ranges = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        entry = _ENTRY.match(line)
        if entry is None:
            raise InputError(f"{path}: line {number} is no name and scale")
        (scale,) = struct.unpack(">f", bytes.fromhex(entry["scale"].zfill(8)))
        if not (math.isfinite(scale) and scale >= 0):
            raise InputError(f"{path}: line {number} has the scale {scale}")
        ranges[entry["name"]] = scale * 127.0
    if model is None:
        return ranges
    own = {value.name for value in model.graph.input} | {name for node in model.graph.node for name in node.output}
    kept = {name: clip for name, clip in ranges.items() if name in own and clip > 0}
    if not kept:
        raise UsageError(f"{path}: none of its {len(ranges)} values is of this network")
    return kept
