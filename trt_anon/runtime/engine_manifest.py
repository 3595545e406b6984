"""What is known of a built engine: everything that shaped it, and what came out."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from trt_anon.config import StageConfig
from trt_anon.errors import ModelError
from trt_anon.runtime.trt.layers import Layer
from trt_anon.runtime.trt.library import Backend

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Shape = tuple[int, ...]
Ranges = tuple[Shape, Shape, Shape]
EnginePrecision = Literal["fp32", "fp16", "int8", "fp8"]

# What is said when an engine that is there is not the one wanted; the order is that of what matters most.
_REASONS = {
    "source_sha256": "the model's file has changed",
    "calibration_sha256": "the calibration has changed",
    "onnx_sha256": "the network has changed",
    "targets": "it is for {was}, needed is {wanted}",
    "gpu": "its kernels were chosen on {was}, here is {wanted}",
    "library_version": "it was built with version {was}, here is {wanted}",
    "profiles": "it takes other batches or sizes",
    "workspace_bytes": "it was built with another workspace",
    "optimization_level": "it was built at another optimization level",
}


class EngineKey(StageConfig):
    """Everything that shapes an engine. One is found by the hash of all this but `model`, which is only its name.

    onnx_sha256: of the network as the builder reads it; source_sha256: of the file that it was made from. precision:
    what was asked for; which layers have it is in the network. targets: GPU architectures as `sm_86`. gpu: the model of
    GPU on which kernels were timed, None where none were. profiles: of each input smallest, usual and largest shape.
    """

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    source_sha256: Sha256 | None = None
    onnx_sha256: Sha256
    calibration_sha256: Sha256 | None = None
    precision: EnginePrecision
    backend: Backend
    library_version: str
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    gpu: str | None = None
    profiles: Annotated[tuple[dict[str, Ranges], ...], Field(min_length=1)]
    workspace_bytes: int | None = None
    optimization_level: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the name, in hexadecimal."""
        values = self.model_dump(mode="json", exclude={"model"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Of the engine's file."""
        return f"{self.model}-{self.precision}-{self.digest[:16]}.engine"

    def serves(self, wanted: EngineKey) -> bool:
        """Whether an engine of this key will do for the key `wanted`: it may take more shapes, and be for more GPUs."""
        alike = wanted.model_copy(update={"targets": self.targets, "profiles": self.profiles})
        return (
            set(wanted.targets) <= set(self.targets)
            and all(any(_covers(own, other) for own in self.profiles) for other in wanted.profiles)
            and self.digest == alike.digest
        )

    def differences(self, other: EngineKey) -> tuple[str, ...]:
        """Why an engine of the key `other` is not the one of this key, in words, the weightiest first."""
        found = {}
        for name, words in _REASONS.items():
            was, wanted = getattr(other, name), getattr(self, name)
            if was != wanted:
                found[name] = words.format(was=_in_words(was), wanted=_in_words(wanted))
        if found.keys() & {"source_sha256", "calibration_sha256", "profiles"}:
            found.pop("onnx_sha256", None)  # follows from that
        return tuple(found.values())


class TensorFacts(StageConfig):
    """An input or output of an engine; None is a free dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class LayerFacts(StageConfig):
    """A layer of an engine: its kind, in what precision it reads, and which ONNX nodes it computes."""

    name: str
    kind: str
    precision: str
    nodes: tuple[str, ...] = ()

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution."""
        return Layer(self.name, self.kind, self.precision, self.nodes).convolves


class EngineManifest(StageConfig):
    """What is written beside an engine.

    engine_sha256, engine_bytes: of its file, which is loaded only if it has that hash. layers: None where neither the
    build log nor the inspector told them. build_seconds: what building took. build_peak_memory_bytes: of the process
    that built, until then.
    scratch_bytes, weights_bytes: device memory that it takes, None where the builder did not say.
    """

    format: Literal[1] = 1
    key: EngineKey
    engine_sha256: Sha256
    engine_bytes: Annotated[int, Field(gt=0)]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    layers: tuple[LayerFacts, ...] | None = None
    build_seconds: float
    build_peak_memory_bytes: int
    scratch_bytes: int | None = None
    weights_bytes: int | None = None
    built_by: str

    def convolutions(self) -> dict[str, int] | None:
        """How many convolutions compute in which precision; None where that is not known."""
        if self.layers is None:
            return None
        return dict(sorted(Counter(layer.precision for layer in self.layers if layer.convolves).items()))

    def to_json(self) -> str:
        """As JSON text."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> EngineManifest:
        """Read `to_json`'s text. Raises ModelError for any other."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ModelError(f"{where}: is no manifest of an engine: {error.errors(include_url=False)[0]}") from error


def _covers(own: Mapping[str, Ranges], other: Mapping[str, Ranges]) -> bool:
    return own.keys() == other.keys() and all(
        len(own[name][0]) == len(low)
        and all(a <= b for a, b in zip(own[name][0], low, strict=True))
        and all(a >= b for a, b in zip(own[name][2], high, strict=True))
        for name, (low, _, high) in other.items()
    )


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
