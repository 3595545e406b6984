"""Anonymize faces and licence plates in images and video, on premises.

    from trt_anon import Anonymizer

    with Anonymizer(classes=("face",)) as anonymizer:
        anonymizer.file("street.mp4", "street.anonymized.mp4")

Public names are imported on first use: a bare ``import trt_anon`` needs NumPy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "AnonymizeConfig": "config",
    "Anonymizer": "api",
    "Detections": "types",
    "FileReport": "api",
    "Frame": "types",
    "JobReport": "api",
    "Region": "types",
    "TrtAnonError": "errors",
}

__all__ = [
    "AnonymizeConfig",
    "Anonymizer",
    "Detections",
    "FileReport",
    "Frame",
    "JobReport",
    "Region",
    "TrtAnonError",
    "__version__",
]

if TYPE_CHECKING:
    from trt_anon.api import Anonymizer, FileReport, JobReport
    from trt_anon.config import AnonymizeConfig
    from trt_anon.errors import TrtAnonError
    from trt_anon.types import Detections, Frame, Region


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"trt_anon.{_PUBLIC[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'trt_anon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
