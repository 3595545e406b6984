"""The detector of a calibration, loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trt_anon.build.load import parse_model, read_model
from trt_anon.build.patch import pin_input
from trt_anon.build.picture_input import picture_input
from trt_anon.build.quantized import is_quantized
from trt_anon.build.tidy import tidy
from trt_anon.calibrate.pictures import Prepared
from trt_anon.detect.families import get_family
from trt_anon.errors import UsageError
from trt_anon.models.recipe import Recipe
from trt_anon.models.registry import Registry

if TYPE_CHECKING:
    import onnx

    from trt_anon.detect.base import Family

_FREE_SIZE_PX = (640, 384)  # at which multiply-adds are counted where the size is free


@dataclass(frozen=True, slots=True)
class Subject:
    """A detector, loaded: its recipe, and its network as the pipeline runs it, tidied."""

    recipe: Recipe
    family: Family
    model: onnx.ModelProto
    classes: tuple[str, ...]

    @classmethod
    def load(cls, detector: str | Path, registry: Registry) -> Subject:
        """Raises UsageError for a detector that finds nothing to be redacted or is quantized already; ModelMissing."""
        recipe = registry.get(detector)
        classes = tuple(name for name in ("face", "license_plate") if name in recipe.classes)
        if not classes:
            raise UsageError(f"{recipe.name}: finds neither faces nor licence plates")
        overrides = recipe.input.given() if recipe.input else None
        family = get_family(recipe.family, recipe.family_options, overrides, classes=len(recipe.classes))
        prepared = registry.prepared(recipe, family.input_spec)
        model = parse_model(read_model(prepared), recipe.name)
        if is_quantized(model):
            raise UsageError(f"{recipe.name}: is quantized already; calibrate the float32 network it was made from")
        return cls(recipe, family, tidy(model, where=recipe.name), classes)

    def prepared(self) -> Prepared:
        """Its preprocessing."""
        return Prepared(self.family, self.recipe.scales, self.model.graph.input[0].name, self.recipe.flip)

    def pinned(self) -> onnx.ModelProto:
        """The network for one picture of a fixed size: its own, or 640x384."""
        source = picture_input(self.model, self.recipe.name)
        width, height = self.family.input_spec.size_px or source.size_px or _FREE_SIZE_PX
        return pin_input(self.model, 1, height, width)
