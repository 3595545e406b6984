"""What the GPU encodes in hardware, asked through PyNvVideoCodec in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

_SCRIPT = """
import json
found = {}
try:
    import PyNvVideoCodec as nvc
    for codec in ("h264", "hevc", "av1"):
        try:
            caps = nvc.GetEncoderCaps(gpuid=%d, codec=codec)
            found[codec] = int(caps.get("num_encoder_engines", 1)) if caps else 0
        except Exception:
            found[codec] = 0
    print(json.dumps({"engines": found}))
except Exception as error:
    print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
"""
# A native library that is not made for this driver may end its process: not this one.


@dataclass(frozen=True, slots=True)
class Encoder:
    """codecs: those that the GPU encodes; none on an A100 or H100. error: why it could not be asked."""

    codecs: tuple[str, ...]
    error: str | None = None


def ask_encoder(device: int = 0, timeout_seconds: float = 30.0) -> Encoder:
    """Ask the encoder of a GPU, by CUDA's number."""
    command = [sys.executable, "-c", _SCRIPT % device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired:
        return Encoder((), f"no answer within {timeout_seconds:g} s")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return Encoder((), f"PyNvVideoCodec ended with {done.returncode}")
    try:
        answer = json.loads(lines[-1])
    except json.JSONDecodeError:
        return Encoder((), "PyNvVideoCodec gave no answer")
    if "error" in answer:
        return Encoder((), answer["error"])
    return Encoder(tuple(codec for codec, engines in answer["engines"].items() if engines))
