"""Calibrations that are there: those that come with the library, in `calibration/`, and the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import Field

from trt_anon.build.calibration import Calibration
from trt_anon.config import StageConfig, load_toml
from trt_anon.errors import ConfigError
from trt_anon.models.recipe import Recipe, Sha256


class CalibrationRecipe(StageConfig):
    """How a detector was calibrated, in words and figures: `calibration/NAME.toml`, beside the ranges in NAME.json.

    name: of the detector's recipe. model_sha256: of its file. data: on what it was calibrated. data_sha256, images: of
    the pictures that ranges are from. settings: those of the calibration. kept_for_recall: layers that had to stay in
    high precision. measured: recall before and after, and on what.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    model_sha256: Sha256
    data: str
    data_sha256: Sha256
    images: Annotated[int, Field(ge=1)]
    settings: dict[str, Any]
    kept_for_recall: tuple[str, ...] = ()
    measured: dict[str, float | int | str]


def user_calibrations() -> Path:
    """The folder of the user's own calibrations: TRT_ANON_CALIBRATION, else one of the user's data."""
    value = os.environ.get("TRT_ANON_CALIBRATION")
    return Path(value).expanduser() if value else platformdirs.user_data_path("trt-anon") / "calibration"


def own_calibrations() -> Path | None:
    """The folder of those that come with the library; None where there is none."""
    package = Path(__file__).parents[1]
    for folder in (package / "calibration", package.parent / "calibration"):  # in a wheel, in a checkout
        if folder.is_dir() and any(folder.glob("*.toml")):
            return folder
    return None


def calibration_of(recipe: Recipe) -> tuple[Calibration, Path] | None:
    """The calibration of a detector's very file, and where it lies; the user's own first. None where there is none.

    Raises ConfigError for one that cannot be read.
    """
    for folder in (user_calibrations(), own_calibrations()):
        if folder is None:
            continue
        path = folder / f"{recipe.name}.json"
        if path.is_file():
            found = Calibration.load(path)
            if found.model_sha256 == recipe.sha256:
                return found, path
    return None


def load_recipe(path: Path) -> CalibrationRecipe:
    """Read `NAME.toml`. Raises ConfigError where it cannot be read, or goes by another name."""
    found = load_toml(CalibrationRecipe, path)
    if found.name != path.stem:
        raise ConfigError(f"{path}: is of {found.name!r}; file and detector go by the same name")
    return found
