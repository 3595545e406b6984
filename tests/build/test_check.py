from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from trt_anon._optional import available
from trt_anon.build.check import check_batch_independence, check_same_outputs, probe_pictures
from trt_anon.build.load import load_model
from trt_anon.build.patch import fold_input, make_dynamic
from trt_anon.errors import ModelError
from trt_anon.runtime.base import Runner, Tensor, TensorSpec

NOTHING = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@pytest.fixture(params=["openvino", "onnxruntime"])
def runtime(request: pytest.FixtureRequest) -> type:
    if not available(request.param):
        pytest.skip(f"{request.param} is not installed")
    from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner
    from trt_anon.runtime.openvino import OpenVinoRunner

    return {"openvino": OpenVinoRunner, "onnxruntime": OnnxRuntimeRunner}[request.param]


def test_pictures_differ() -> None:
    pictures = probe_pictures(4, 40, 56)
    assert pictures.shape == (4, 40, 56, 3)
    assert pictures.dtype == np.uint8
    differences = [np.abs(a.astype(int) - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(differences) > 20


def test_a_patched_network_passes(networks: ModuleType, runtime: type, tmp_path: Path) -> None:
    original = networks.grid_head()
    mean, scale = (104.0, 117.0, 123.0), (0.5, 0.25, 1.0)
    before = runtime(networks.save(original, tmp_path / "a.onnx"))
    after = runtime(networks.save(fold_input(make_dynamic(original), mean, scale), tmp_path / "b.onnx"))
    check_same_outputs(before, after, mean, scale, (64, 64))
    check_batch_independence(after, 64, 96)
    with pytest.raises(ModelError, match="patching changed what it computes: output 'out'"):
        check_same_outputs(before, after, (100.0, 117.0, 123.0), scale, (64, 64))


def test_a_network_that_mixes_pictures_is_refused(networks: ModuleType, runtime: type, tmp_path: Path) -> None:
    folded = fold_input(make_dynamic(networks.mixing()), *NOTHING)
    with pytest.raises(ModelError, match="a batch mixes its pictures: output 'out' differs"):
        check_batch_independence(runtime(networks.save(folded, tmp_path / "m.onnx")), 32, 32)


def test_an_unpatched_reshape_is_refused(networks: ModuleType, runtime: type, tmp_path: Path) -> None:
    model = networks.grid_head()
    for axis, name in ((0, "N"), (2, "H"), (3, "W")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    folded = fold_input(model, *NOTHING)
    with pytest.raises(ModelError, match="a batch mixes its pictures: output 'out' has the shape"):
        check_batch_independence(runtime(networks.save(folded, tmp_path / "m.onnx")), 32, 32)


class Fake:
    """A runner that computes with NumPy."""

    def __init__(self, compute: object, shape: tuple[int | None, ...] = (None, None, None, 3)) -> None:
        self._compute = compute
        self.inputs = (TensorSpec("pixels", np.dtype(np.uint8), shape),)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"out": self._compute(next(iter(feeds.values())).astype(np.float32))}  # type: ignore[operator]


def fake(compute: object) -> Runner:
    return Fake(compute)  # type: ignore[return-value]


def test_a_small_leak_is_found() -> None:
    check_batch_independence(fake(lambda x: x * 2), 32, 32)
    with pytest.raises(ModelError, match="mixes"):
        check_batch_independence(fake(lambda x: x + 0.05 * x[::-1]), 32, 32)


def test_swapped_pictures_are_found() -> None:
    with pytest.raises(ModelError, match="mixes"):
        check_batch_independence(fake(lambda x: x[::-1]), 32, 32)


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        check_batch_independence(fake(lambda x: np.where(x > 250, np.nan, x) if len(x) > 1 else x), 32, 32)


def test_outputs_that_depend_on_the_content_in_shape_are_refused() -> None:
    with pytest.raises(ModelError, match="shape that depends on"):
        check_batch_independence(fake(lambda x: x[x > 128]), 32, 32)


@pytest.mark.dataset
def test_detectors_at_hand(data_dir: Path, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    """Every detector of the data folder is patched, or refused for a known reason."""
    pytest.importorskip("onnxruntime")
    from trt_anon.runtime.onnxruntime import OnnxRuntimeRunner

    outcome = {}
    for path in sorted((data_dir / "models").glob("*.onnx")):
        reasons = []
        for size in (True, False):
            declared = load_model(path).graph.input[0].type.tensor_type.shape.dim
            hw = (160, 192) if size else (declared[2].dim_value or 160, declared[3].dim_value or 192)
            try:
                folded = fold_input(make_dynamic(load_model(path), size=size), *NOTHING)
                (tmp_path / "m.onnx").write_bytes(folded.SerializeToString())
                after = OnnxRuntimeRunner(tmp_path / "m.onnx")
                check_same_outputs(OnnxRuntimeRunner(path), after, *NOTHING, hw)
                check_batch_independence(after, *hw)
            except ModelError as error:
                reasons.append(str(error))
            else:
                outcome[path.stem] = "any size" if size else "own size"
                break
        else:
            outcome[path.stem] = f"refused: {reasons[-1]}"
    record_property("detectors", str(outcome))
    refused = {name for name, found in outcome.items() if found.startswith("refused")}
    # It quantizes with the smallest and largest value of the whole batch (DynamicQuantizeLinear).
    assert refused <= {"yolo11n_int8"}, {name: outcome[name] for name in refused}
    assert outcome["lpd_yunet_2023mar"] == outcome["yunet_s_dynamic"] == outcome["yunet_n_dynamic"] == "any size"
