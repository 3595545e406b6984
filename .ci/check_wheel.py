"""Checks what a built wheel contains: the package and its recipes, and nothing that does not belong to users."""

from __future__ import annotations

import re
import sys
import zipfile

REQUIRED = (
    "trt_anon/__init__.py",
    "trt_anon/py.typed",
    "trt_anon/engines/plates/plates.onnx",
    "trt_anon/engines/yunet.toml",
    "trt_anon/calibration/yunet.json",
    "trt_anon/cli/main.py",
    "trt_anon/cuda/include/host_cuda.h",
    "trt_anon/cuda/include/host_entry.cpp",
    "trt_anon/postprocess/nms.cu",
    "trt_anon/preprocess/letterbox.cu",
)
ALLOWED = re.compile(
    r"^trt_anon/(?!engines/).*\.(py|toml|cu|h)$|^trt_anon/engines/(samples/)?[^/]+\.toml$"
    r"|^trt_anon/engines/plates/plates\.onnx$|^trt_anon/cuda/include/host_entry\.cpp$"
    r"|^trt_anon/cuda/fatbin/[^/]+\.fatbin$"
    r"|^trt_anon/calibration/[^/]+\.json$|^trt_anon/py\.typed$|^trt_anon-[^/]+\.dist-info/.*$"
)
MAX_BYTES = 3_000_000


def main(path: str) -> int:
    """Print what is wrong with the wheel; 0 if nothing is."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        size = sum(info.compress_size for info in wheel.infolist())
    wrong = [f"missing: {name}" for name in REQUIRED if name not in names]
    wrong += [f"does not belong: {name}" for name in names if not ALLOWED.match(name)]
    if size > MAX_BYTES:
        wrong.append(f"too large: {size} bytes, at most {MAX_BYTES}")
    print("\n".join(wrong) if wrong else f"{path.rsplit('/', 1)[-1]}: {len(names)} files, {size // 1024} KiB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
