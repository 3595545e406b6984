"""A receipt: what was done to which contents, how well that is known to work, and nothing personal."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from trt_anon.config import AnonymizeConfig, StageConfig
from trt_anon.errors import InputError, OutputError
from trt_anon.files import hash_of
from trt_anon.job.journal import stamp_of
from trt_anon.job.publish import as_output_error, atomic_output
from trt_anon.job.report import JobReport
from trt_anon.models.recipe import Recipe, Sha256
from trt_anon.models.registry import Registry
from trt_anon.runtime.engine_store import EngineStore

Count = Annotated[int, Field(ge=0)]
Hexadecimal = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]

_PACKAGES = ("av", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pillow", "tensorrt", "tensorrt-rtx")

TERMS = {
    "ISO/IEC 22989": "trained models at inference: nothing is learnt from the data, and no model is changed",
    "ISO/IEC 23053": "steps: acquisition (decoding), preparation (scaling), inference (detection), postprocessing "
    "(suppression, tracking, redaction), verification where it was asked for",
    "NIST AI RMF 1.0": "MEASURE: performance is the recall stated per detector, for its threshold, on the set named; "
    "MANAGE: what a second look found, and what failed, is counted here",
    "GDPR Recital 26": "a statement of means used, not that the outputs are anonymous: that takes account of all means "
    "reasonably likely to be used to identify somebody, voice, clothes, gait and place among them",
    "EDPB Guidelines 3/2019": "masking of persons in video before it is passed on",
}
"""Words of the standards, where they fit what this program does."""


class DetectorUsed(StageConfig):
    """A detector. measured: recall and more, as its recipe states for the threshold used; else empty."""

    name: str
    model_sha256: Sha256
    family: str
    licence: str
    threshold: float
    measured: dict[str, float | str] = Field(default_factory=dict)


class SecondLook(StageConfig):
    """What verification found in a file."""

    passed: bool
    compared_with_original: bool
    detectors: tuple[str, ...]
    residual_detections: dict[str, Count]
    of_them_unreadable: dict[str, Count]
    leaks: Count
    suspects: Count
    faults: Count


class FileDone(StageConfig):
    """One file, known by its content."""

    input_sha256: Sha256
    output_sha256: Sha256
    kind: Literal["image", "video"]
    frames: Count
    objects: dict[str, Count]
    frames_redacted_whole: dict[str, Count]
    verification: SecondLook | None = None


class Signature(StageConfig):
    """Ed25519 (RFC 8032) over the receipt without its signature, as `Receipt.signed_bytes` writes it."""

    algorithm: Literal["Ed25519"] = "Ed25519"
    public_key: Annotated[Hexadecimal, Field(min_length=64, max_length=64)]
    value: Annotated[Hexadecimal, Field(min_length=128, max_length=128)]


class Receipt(StageConfig):
    """What a job did. Contents are named by SHA-256; there are no names, paths, times within media, or coordinates."""

    format: Literal["trt-anon receipt"] = "trt-anon receipt"
    version: Literal[1] = 1
    made: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    software: dict[str, str]
    configuration_sha256: Sha256
    settings: dict[str, Any]
    detectors: tuple[DetectorUsed, ...]
    engines_sha256: tuple[Sha256, ...] = ()
    files: tuple[FileDone, ...]
    failed: dict[str, Count] = Field(default_factory=dict)
    skipped: Count = 0
    terms: dict[str, str] = Field(default_factory=lambda: dict(TERMS))
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """What is signed: the receipt without signature as JSON, ASCII, keys sorted, no spaces."""
        values = self.model_dump(mode="json", exclude={"signature"})
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write it as JSON, complete or not at all. Raises OutputError."""
        text = json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
        with as_output_error(path), atomic_output(path, overwrite=overwrite) as partial:
            partial.write_text(text, encoding="ascii")


def read_receipt(path: Path) -> Receipt:
    """Read a receipt. Raises InputError where it is none."""
    try:
        if path.stat().st_size > 1 << 30:
            raise InputError(f"{path} is too large for a receipt")
        return Receipt.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValidationError, RecursionError, ValueError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        where = f": {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}" if first else ""
        raise InputError(f"{path} is no receipt{where}") from error


class ReceiptMaker:
    """Makes a job's receipt; begun before the job, so that an input that changes meanwhile is noticed."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self._stamps = {source: _stamp(source) for source in sources}

    def make(
        self,
        report: JobReport,
        config: AnonymizeConfig,
        identity: str,
        recipes: Sequence[Recipe],
        registry: Registry | None,
    ) -> Receipt:
        """The receipt of what `report` says. Raises OutputError for a lost output, InputError for a changed input."""
        done = [self._file(file) for file in report.files if file.status in ("done", "unchanged")]
        return Receipt(
            made=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            software=_software(report.version),
            configuration_sha256=identity,
            settings=_settings(config),
            detectors=tuple(_detector(recipe, config, registry) for recipe in recipes),
            engines_sha256=_engines(config, recipes),
            files=tuple(sorted(done, key=lambda file: file.input_sha256)),
            failed=dict(Counter(file.error_type or "" for file in report.files if file.status == "failed")),
            skipped=report.skipped,
        )

    def _file(self, file: Any) -> FileDone:
        try:
            if self._stamps.get(file.source) != _stamp(file.source):
                raise InputError(f"{file.source} changed while the job ran: no receipt can be given")
            hashes = hash_of(file.source), hash_of(file.destination)
        except OSError as error:
            raise OutputError(f"no receipt: cannot read {error.filename}: {error.strerror}") from error
        look = file.verification
        return FileDone(
            input_sha256=hashes[0],
            output_sha256=hashes[1],
            kind=file.kind,
            frames=file.frames,
            objects=dict(file.objects),
            frames_redacted_whole=dict(file.frames_redacted_whole),
            verification=None if look is None else _second_look(look),
        )


def _stamp(path: Path) -> str | None:
    try:
        return stamp_of(path)
    except OSError:
        return None


def _second_look(look: Mapping[str, Any]) -> SecondLook:
    counts = {name: len(look[name]) for name in ("leaks", "suspects", "faults")}
    taken = {
        name: look[name]
        for name in (
            "passed", "compared_with_original", "detectors", "residual_detections", "of_them_unreadable",
        )
    }  # fmt: skip
    return SecondLook(**taken, **counts)


def _software(version: str) -> dict[str, str]:
    found = {"trt-anon": version, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _settings(config: AnonymizeConfig) -> dict[str, Any]:
    """What may be told of a configuration: no files, no regions, which are coordinates."""
    redact, sink = config.redact, config.sink
    return {
        "classes": list(config.detect.classes),
        "preset": config.detect.preset,
        "method": redact.method,
        "strength": redact.detail_share,
        "grow": {name: redact.growth_of(name) for name in config.detect.classes},
        "track": config.track.track,
        "on_error": config.pipeline.on_error,
        "regions_by_hand": len(config.regions.regions),
        "audio": sink.audio,
        "subtitles": sink.subtitles,
        "metadata": sink.metadata,
        "device": config.runtime.device,
        "runtime": config.runtime.runtime,
        "precision": config.runtime.precision,
    }


def _detector(recipe: Recipe, config: AnonymizeConfig, registry: Registry | None) -> DetectorUsed:
    own = registry is not None and any(r.name == recipe.name and r.sha256 == recipe.sha256 for r in registry.recipes())
    threshold = config.detect.threshold or recipe.threshold
    measured: dict[str, float | str] = {}
    if own and registry is not None:
        preset = registry.get(recipe.name).presets.get(config.detect.preset)
        if preset is not None and preset.threshold == threshold:
            measured = dict(preset.measured)
    return DetectorUsed(
        name=recipe.name if own else "a detector of the user's own",  # its name may name anything
        model_sha256=recipe.sha256,
        family=recipe.family,
        licence=recipe.licence.spdx,
        threshold=threshold,
        measured=measured,
    )


def _engines(config: AnonymizeConfig, recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """Engines of these models in the store, where engines were used."""
    if config.runtime.device == "cpu" or not config.runtime.runtime.startswith(("tensorrt", "auto")):
        return ()
    models = {recipe.sha256 for recipe in recipes}
    store = EngineStore()
    stored = [engine.manifest for engine in store.engines()] if store.folder.is_dir() else []
    return tuple(sorted({m.engine_sha256 for m in stored if m.key.source_sha256 in models}))


def digest(receipt: Receipt) -> str:
    """SHA-256 of what is signed, to be noted elsewhere."""
    return hashlib.sha256(receipt.signed_bytes()).hexdigest()
