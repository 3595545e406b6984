from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from trt_anon.errors import ModelError
from trt_anon.runtime.base import TensorSpec
from trt_anon.runtime.null import NullRunner

PIXELS = TensorSpec("pixels", np.dtype(np.uint8), (None, None, None, 3))


def test_zeros_by_batch() -> None:
    runner = NullRunner([PIXELS], [TensorSpec("boxes", np.dtype(np.float32), (None, 7, 4))])
    found = runner.submit({"pixels": np.ones((2, 8, 8, 3), np.uint8)}).result()
    assert found["boxes"].shape == (2, 7, 4)
    assert found["boxes"].dtype == np.float32
    assert not found["boxes"].any()
    assert (runner.inputs, runner.concurrency) == ((PIXELS,), 1)


def test_shapes_that_are_not_known_are_refused() -> None:
    with pytest.raises(ModelError, match="shape of output 'boxes' is not known"):
        NullRunner([PIXELS], [TensorSpec("boxes", np.dtype(np.float32), (None, None, 4))])


def test_feeds_are_checked_and_closing_ends_it() -> None:
    runner = NullRunner([PIXELS], [])
    with pytest.raises(ModelError, match="was fed"):
        runner.run({"pixels": np.ones((8, 8, 3), np.uint8)})
    runner.close()
    with pytest.raises(ModelError, match="was closed"):
        runner.run({"pixels": np.ones((1, 8, 8, 3), np.uint8)})


def test_it_stands_in_for_an_onnx_model(networks: ModuleType, tmp_path: Path) -> None:
    from trt_anon.build.patch import fold_input, make_dynamic

    folded = fold_input(make_dynamic(networks.grid_head()), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
    runner = NullRunner.from_onnx(networks.save(folded, tmp_path / "m.onnx"))
    assert runner.inputs == (PIXELS,)
    for batch, height, width in ((1, 32, 32), (3, 64, 16), (1, 32, 32)):
        found = runner.run({"pixels": np.zeros((batch, height, width, 3), np.uint8)})
        assert found["out"].shape == (batch, height * width // 4, 4)


def test_a_size_the_model_cannot_take(networks: ModuleType, tmp_path: Path) -> None:
    from onnx import helper

    model = networks.network(
        [helper.make_node("Add", ["input", "fixed"], ["out"])],
        [networks.constant("fixed", np.zeros((1, 3, 8, 8)), np.float32)],
        {"out": (None, 3, 8, 8)},
        shape=("N", 3, "H", "W"),
    )
    runner = NullRunner.from_onnx(networks.save(model, tmp_path / "m.onnx"))
    assert runner.run({"input": np.zeros((2, 3, 8, 8), np.float32)})["out"].shape == (2, 3, 8, 8)
    with pytest.raises(ModelError, match="does not take inputs"):
        runner.run({"input": np.zeros((2, 3, 9, 9), np.float32)})


@pytest.mark.parametrize("data", [None, b"no model"])
def test_what_is_no_model(networks: ModuleType, tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        NullRunner.from_onnx(tmp_path / "m.onnx")
