"""What a calibration leaves behind: its ranges, its recipe, its report with a plot, and if wanted the network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from trt_anon.build.load import parse_model, read_model
from trt_anon.build.patch import make_dynamic
from trt_anon.build.precision import convert
from trt_anon.calibrate.plot import draw
from trt_anon.calibrate.run import Outcome
from trt_anon.evaluate.recipe import to_toml
from trt_anon.job.publish import atomic_output
from trt_anon.models.calibrations import CalibrationRecipe
from trt_anon.models.recipe import FileSource
from trt_anon.models.registry import Registry
from trt_anon.models.write import recipe_toml


def write_outcome(outcome: Outcome, folder: Path, described: str, *, overwrite: bool = False) -> list[Path]:
    """Write NAME.toml, NAME.json, NAME.report.json and NAME.png; gives their paths.

    described: on what data, in words. Raises OutputError.
    """
    name = outcome.recipe.name
    texts = {
        f"{name}.json": outcome.calibration.to_json(),
        f"{name}.report.json": json.dumps(outcome.report, indent=1, allow_nan=False) + "\n",
        f"{name}.toml": to_toml(_recipe(outcome, described).model_dump(mode="json", exclude_none=True)),
    }
    written = []
    for file, text in texts.items():
        with atomic_output(folder / file, overwrite=overwrite) as partial:
            partial.write_text(text, encoding="utf-8")
        written.append(folder / file)
    plot = folder / f"{name}.png"
    with atomic_output(plot, overwrite=overwrite) as partial:
        draw(outcome.report, partial)
    return [*written, plot]


def write_network(outcome: Outcome, folder: Path, registry: Registry, *, overwrite: bool = False) -> list[Path]:
    """Write NAME-int8.onnx, the network with Q/DQ as OpenVINO and ONNX Runtime run it, and a recipe of it.

    It takes what the original takes. Raises OutputError.
    """
    recipe, name = outcome.recipe, f"{outcome.recipe.name}-int8"
    model = parse_model(read_model(registry.locate(recipe)), recipe.name)
    if recipe.batch == "free":
        model = make_dynamic(model, size=recipe.input is None or recipe.input.size_px is None, where=recipe.name)
    data = convert(model, "int8", outcome.calibration, where=recipe.name).SerializeToString(deterministic=True)
    values: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    values |= {
        "name": name,
        "description": f"{recipe.description}; calibrated to INT8",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "source": FileSource(kind="file", path=f"{name}.onnx").model_dump(mode="json"),
        "default_for": [],
        "presets": {},
    }
    text = recipe_toml(type(recipe).model_validate(values))
    for file, content in ((f"{name}.onnx", data), (f"{name}.toml", text.encode())):
        with atomic_output(folder / file, overwrite=overwrite) as partial:
            partial.write_bytes(content)
    return [folder / f"{name}.onnx", folder / f"{name}.toml"]


def _recipe(outcome: Outcome, described: str) -> CalibrationRecipe:
    calibration, report = outcome.calibration, outcome.report
    overall = outcome.verdict.overall
    settings = {key: value for key, value in calibration.settings.items() if value not in ([], None)}
    worst = max(outcome.verdict.drops[1:], key=lambda drop: drop.points, default=overall)
    return CalibrationRecipe(
        name=outcome.recipe.name,
        model_sha256=calibration.model_sha256,
        data=described,
        data_sha256=calibration.data_sha256,
        images=calibration.images,
        settings=settings,
        kept_for_recall=tuple(report["int8"]["kept_for_recall"]),
        measured={
            "labels": report["recall_from"]["labels"],
            "images": report["recall_from"]["images"],
            "objects": overall.objects,
            "recall_float32": round(overall.before / overall.objects, 4),
            "recall_int8": round(overall.after / overall.objects, 4),
            "points_lost": round(overall.points, 2),
            "worst_size_px": worst.name,
            "worst_size_points_lost": round(worst.points, 2),
            "layers_in_int8": report["int8"]["layers"],
            "layers": report["int8"]["of_layers"],
            "share_of_multiply_adds_in_int8": round(report["int8"]["share_of_multiply_adds"], 3),
        },
    )
