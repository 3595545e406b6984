"""What the library asks of PyNvVideoCodec, held against its real binding, loaded without a driver on stubs of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOUND = importlib.util.find_spec("PyNvVideoCodec")
pytestmark = [
    pytest.mark.skipif(FOUND is None, reason="PyNvVideoCodec is not installed"),
    pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("nm") is None, reason="gcc or nm is not here"),
]

ASK = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("_PyNvVideoCodec", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
packet = module.PacketData()
packet.bsl_data, packet.bsl, packet.pts, packet.dts = 1 << 40, 7, 5, 4
print(json.dumps({
    "documents": {
        name: getattr(module, name).__doc__ for name in ("CreateDecoder", "GetDecoderCaps", "GetEncoderCaps")
    },
    "codecs": [name for name in dir(module.cudaVideoCodec) if name.isupper()],
    "frame": dir(module.DecodedFrame), "decoder": dir(module.PyNvDecoder), "encoder": dir(module.PyNvEncoder),
    "encode": module.PyNvEncoder.Encode.__doc__,
    "packet": [packet.bsl_data, packet.bsl, packet.pts, packet.dts],
}))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the binding says of itself."""
    assert FOUND is not None
    folder = Path(FOUND.origin or "").parent
    (binding,) = folder.glob("PyNvVideoCodec_130.*.so")
    stubs = tmp_path_factory.mktemp("stubs")
    wanted = subprocess.run(["nm", "-D", "--undefined-only", binding], capture_output=True, text=True, check=True)
    names = re.findall(r"\b(cu[A-Z]\w+)$", wanted.stdout, re.M)
    for library, lines in {
        "libcuda": [f"int {name}(void) {{ return 100; }}" for name in names],
        "libnvcuvid": [],
    }.items():
        source = stubs / f"{library}.c"
        source.write_text("\n".join([*lines, f"int stub_{library};"]))
        target = stubs / f"{library}.so.1"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source], check=True)
    answer = subprocess.run(
        [sys.executable, "-c", ASK, str(binding)],
        env={**os.environ, "LD_LIBRARY_PATH": str(stubs)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(answer.stdout)
    return found


def test_decoding(said):
    decoder, caps = said["documents"]["CreateDecoder"], said["documents"]["GetDecoderCaps"]
    assert all(f"{name}: " in decoder for name in ("gpuid", "codec", "cudacontext", "cudastream", "usedevicememory"))
    assert all(f"{name}: " in caps for name in ("gpuid", "codec", "bitdepth"))
    assert {"H264", "HEVC", "AV1", "VP9", "VP8", "MPEG2"} <= set(said["codecs"])
    assert {"cuda", "getPTS"} <= set(said["frame"])
    assert {"Decode", "WaitOnCUStream"} <= set(said["decoder"])
    assert said["packet"] == [1 << 40, 7, 5, 4]


def test_encoding(said):
    assert all(f"{name}: " in said["documents"]["GetEncoderCaps"] for name in ("gpuid", "codec"))
    assert {"Encode", "EndEncode"} <= set(said["encoder"])
    assert all(f"'{key}'" in said["encode"] for key in ("data", "timestamp", "picture_type"))
    assert FOUND is not None
    text = Path(FOUND.origin or "").read_text(encoding="utf-8")
    assert "def CreateEncoder(width, height, fmt, usecpuinputbuffer, **kwargs):" in text
