"""The examples run: each on a stand-in for what it needs a GPU or another package for."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"trt_anon_example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Spy:
    """An Anonymizer that finds nothing and blackens all, on whatever it is given."""

    def __init__(self) -> None:
        self.streams: list[Any] = []

    def detect(self, frames: Any, *, stream: Any = None) -> list[str]:
        self.streams.append(stream)
        return ["found"] * len(frames)

    def redact(self, frames: Any, detections: list[str], out: Any = None, *, stream: Any = None) -> Any:
        assert out is frames
        assert detections == ["found"] * len(frames)
        frames[...] = 0
        return out


class Tensor(np.ndarray):
    """As much of PyTorch's tensor as the data loader uses."""

    def to(self, device: str, *, memory_format: str, non_blocking: bool) -> Tensor:
        assert memory_format == "channels last"
        return np.ascontiguousarray(self.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2).view(Tensor)

    def permute(self, *axes: int) -> Tensor:
        return self.transpose(*axes)


def test_the_data_loader_redacts_tensors_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = ModuleType("torch")
    torch.channels_last = "channels last"
    monkeypatch.setitem(sys.modules, "torch", torch)
    example, spy = load("torch_data_loader"), Spy()
    batches = [np.full((2, 3, 4, 5), 9, np.uint8).view(Tensor) for _ in range(3)]
    out = list(example.Anonymized(batches, spy, device="cpu"))
    assert [batch.shape for batch in out] == [(2, 3, 4, 5)] * 3
    assert not any(batch.any() for batch in out)


def test_the_operator_works_inside_a_dali_pipeline() -> None:
    dali = pytest.importorskip("nvidia.dali")
    example, spy = load("dali_operator"), Spy()
    pipeline = dali.Pipeline(1, 1, None, exec_async=False, exec_pipelined=False)
    with pipeline:
        frames = dali.fn.constant(idata=[7] * (2 * 4 * 5 * 3), shape=[2, 4, 5, 3], dtype=dali.types.UINT8)
        pipeline.set_outputs(example.anonymized(frames, spy, device="cpu"), frames)
    pipeline.build()
    redacted, given = pipeline.run()
    assert not np.asarray(redacted[0]).any()
    assert (np.asarray(given[0]) == 7).all()


def test_the_service_answers(faces: ModuleType) -> None:
    pytest.importorskip("multipart")
    testclient = pytest.importorskip("fastapi.testclient")
    from PIL import Image

    example = load("fastapi_service")
    buffer = io.BytesIO()
    Image.fromarray(faces.picture()).save(buffer, "png")
    with testclient.TestClient(example.app) as client:
        answer = client.post("/anonymize", files={"picture": buffer.getvalue()})
        assert answer.status_code == 200
        after = np.array(Image.open(io.BytesIO(answer.content)))
        assert faces.detail(faces.crop(after, faces.FACE)) < 0.5 * faces.detail(faces.crop(faces.picture(), faces.FACE))
        assert client.post("/anonymize", files={"picture": b"no picture"}).status_code == 415
