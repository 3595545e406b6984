"""What a calibration found out about a network: ranges of its values and weights, and which layers stay out of INT8.

Everything that shapes the quantized network is in it, so that the same file gives the same network, bit by bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from trt_anon.errors import ConfigError

FORMAT = 1
"""Of the file; raised when its fields change their meaning."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The outcome of a calibration. Layers (convolutions and products) go by the name of the value that they give.

    model_sha256: of the ONNX file. network_sha256: of what it computes with (see `tidy.network_sha256`); it is that of
    other forms of the same network. data_sha256: of the pictures' contents. settings: what was asked for, and the
    versions of what computed it. ranges: for each value that is quantized the largest magnitude that INT8 stands for.
    largest: the largest magnitude that each value of the network took. weights: the same as ranges for each output
    channel of each layer that is quantized. high: the layers that are not, and why. bias: what is added to the biases
    of quantized layers. equalized: by which factors the channels between two layers are scaled, by the first layer.
    """

    model_sha256: str
    network_sha256: str
    data_sha256: str
    images: int
    settings: Mapping[str, Any]
    ranges: Mapping[str, float]
    largest: Mapping[str, float]
    weights: Mapping[str, tuple[float, ...]]
    high: Mapping[str, str] = field(default_factory=dict)
    bias: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    equalized: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in (("ranges", self.ranges), ("largest", self.largest)):
            for key, value in values.items():
                if not (math.isfinite(value) and value >= 0):
                    raise ConfigError(f"calibration: {name} of {key!r} is {value}")
        for name, vectors in (("weights", self.weights), ("bias", self.bias), ("equalized", self.equalized)):
            for key, vector in vectors.items():
                if not all(math.isfinite(value) for value in vector):
                    raise ConfigError(f"calibration: {name} of {key!r} are not finite")

    def to_json(self) -> str:
        """The calibration as JSON text, the same for equal calibrations; a line for each value and layer."""
        entries = []
        for name, value in sorted({"format": FORMAT, **asdict(self)}.items()):
            if isinstance(value, dict) and value:
                inner = ",\n".join(f"  {_json(key)}: {_json(value[key])}" for key in sorted(value))
                entries.append(f" {_json(name)}: {{\n{inner}\n }}")
            else:
                entries.append(f" {_json(name)}: {_json(value)}")
        return "{\n" + ",\n".join(entries) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, where: str = "calibration") -> Calibration:
        """Read `to_json`'s text. Raises ConfigError for any other."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
                raise ConfigError(f"{where}: is no calibration of format {FORMAT}; calibrate again")
            known = {one.name for one in fields(cls)}
            if set(values) != known:
                raise ConfigError(f"{where}: has other fields than {', '.join(sorted(known))}")
            for name in ("weights", "bias", "equalized"):
                values[name] = {key: tuple(map(float, vector)) for key, vector in values[name].items()}
            for name in ("ranges", "largest"):
                values[name] = {key: float(value) for key, value in values[name].items()}
            return cls(**values)
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{where}: is no calibration: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a calibration file. Raises ConfigError."""
        try:
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read {path}: {error}") from error


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
