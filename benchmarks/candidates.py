"""The detectors, and the ways to use them, that `pareto.py` compares."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trt_anon.config import Fusion, Scale
from trt_anon.models.add import Wish, add_model
from trt_anon.models.registry import Registry


def native() -> Scale:
    return Scale(max_long_side_px=1920)


def at(side: int) -> Scale:
    """The longer side is exactly this."""
    return Scale(min_long_side_px=side, max_long_side_px=side)


def at_least(side: int) -> Scale:
    return Scale(min_long_side_px=side, max_long_side_px=1920)


def parts(side: int, overlap: float = 0.2) -> Scale:
    """Overlapping parts of this side, each in the detector's own size."""
    return Scale(tile_px=side, tile_overlap=overlap)


@dataclass(frozen=True)
class Candidate:
    """A set of detectors, and how they look at a picture."""

    detectors: tuple[str, ...]
    scales: tuple[Scale, ...]
    flip: bool = False
    fusion: Fusion = "nms"

    @property
    def name(self) -> str:
        ways = [*map(describe, self.scales), *["mirrored"] * self.flip, *["weighted"] * (self.fusion == "weighted")]
        return f"{' + '.join(self.detectors)} @ {', '.join(ways)}"


def describe(scale: Scale) -> str:
    low, high = scale.min_long_side_px, scale.max_long_side_px
    if scale.tile_px is not None:
        return f"parts of {scale.tile_px}" + (f" at {low}" if low else "")
    if low is None and high is None:
        return "own size"
    if low == high:
        return str(low)
    return f">={low}" if low else "native"


@dataclass(frozen=True)
class OtherModel:
    """A permissively licensed detector that has no recipe in the library: its file, and how it is added."""

    file: str
    wish: Mapping[str, Any]


_YOLOFACE_ANCHORS_PX = ((4, 6), (7, 10), (11, 15), (16, 24), (33, 25), (26, 41), (47, 60), (83, 97), (141, 149))
OTHERS = {
    "ultralight-320": OtherModel("ultralight_version-RFB-320.onnx", {"licence": "MIT"}),
    "ultralight-640": OtherModel("ultralight_version-RFB-640.onnx", {"licence": "MIT"}),
    "retinaface": OtherModel("retinaface_mnet025.onnx", {"licence": "MIT"}),
    "blazeface": OtherModel("blazeface_shield.onnx", {"licence": "Apache-2.0"}),
    "yoloface": OtherModel(
        "dk_yoloface-500k-v2.onnx",
        {
            "licence": "public domain",
            "family": "yolov3",
            "options": {"anchors_px": _YOLOFACE_ANCHORS_PX, "masks": ((6, 7, 8), (3, 4, 5), (0, 1, 2))},
            "input": {"fit": "stretch"},
        },
    ),
    "yunet-s": OtherModel("yunet_s_dynamic.onnx", {"licence": "Apache-2.0"}),
}

CANDIDATES = {
    "face": [
        *(Candidate(("yunet",), (scale,)) for scale in (native(), at_least(512), at_least(640))),
        Candidate(("centerface",), (native(),)),
        Candidate(("centerface",), (native(), at_least(640))),
        Candidate(("ultralight-320",), (Scale(),)),
        Candidate(("ultralight-640",), (Scale(),)),
        Candidate(("retinaface",), (Scale(),)),
        Candidate(("blazeface",), (Scale(), parts(320))),
        Candidate(("yoloface",), (Scale(),)),
        Candidate(("yunet-s",), (at_least(512),)),
        Candidate(("yunet", "centerface"), (native(),)),
    ],
    "license_plate": [
        Candidate(("retinaface-plate",), (at(640),)),
        Candidate(("retinaface-plate",), (at(320), at(640), at(1280))),
        Candidate(("retinaface-plate",), (at(320), at(512), at(640), at(960), at(1280)), fusion="weighted"),
        Candidate(("lpd-yunet",), (Scale(),)),
        Candidate(("lpd-yunet",), (Scale(), parts(320))),
        Candidate(("retinaface-plate", "lpd-yunet"), (at(320), at(640), at(1280)), fusion="weighted"),
    ],
}


BY_HAND = {"lpd-yunet": "lpd_yunet_2023mar.onnx"}
"""Recipes of the library whose file no command fetches, and its name in `models/`."""


def add_others(models: Path, folder: Path) -> dict[str, Path]:
    """Recipes, with their models, of those of OTHERS and BY_HAND whose files are in `models`, put into a folder."""
    added = {}
    for name, file in BY_HAND.items():
        if (models / file).exists():
            added[name] = Path(shutil.copy(Path(__file__).parents[1] / "engines" / f"{name}.toml", folder))
            (folder / Registry().get(name).source.path).symlink_to((models / file).resolve())
    for name, other in OTHERS.items():
        if (models / other.file).exists():
            wish = Wish(name=name, classes=("face",), output=folder, **other.wish)
            added[name] = add_model(models / other.file, wish, Registry()).recipe_path
    return added
